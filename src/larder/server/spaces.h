#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/cache/engine_options.h"

namespace larder::server {

/// The texts behind the engine's numbers: the model, world size and salt of a space, and a cell's
/// name in L2.
///
/// Names: `<model>@<kv_rank as 8 hex digits>@<group, hex>@<chunk hash, 64 hex digits>[@<salt>]`,
///   kv_rank = world size << 24 | rank << 16 | world size << 8 | rank: the names of LMCache's
///   servers, so that they can share L2. No salt contains '@', and a model's part ends where 75
///   characters of fixed form begin, so no two cells have one name (P10).
/// A space and a salt are kept for ever, as in the engine; there are at most kSpacesMax of each.
/// Threads: the service's. Cost: two look-ups by hash; no allocation for a known space.
class Spaces final : public cache::KeyNames {
 public:
  static constexpr std::size_t kSpacesMax = std::size_t{1} << 20;
  /// Limit of model and salt of a key together, in bytes.
  static constexpr std::size_t kTextBytesMax = kKeyBytesMax - 80;

  /// A worker has registered with this layout. Registrations are counted.
  void add_registration(std::string_view model, std::uint32_t world_size, cache::LayoutId layout);
  void drop_registration(std::string_view model, std::uint32_t world_size);

  /// The space of a model that is registered now. Nothing: it is not, or its cells cannot be named
  /// (kTextBytesMax), or there are too many.
  std::optional<cache::SpaceId> find(cache::Engine& engine, std::string_view model,
                                     std::uint32_t world_size, std::string_view salt);

  /// The same of a model that need not be registered now. Nothing: find() has not given it.
  std::optional<cache::SpaceId> find_known(std::string_view model, std::uint32_t world_size,
                                           std::string_view salt);
  /// The salt's number, also before any client has used it. Nothing: there are too many.
  std::optional<cache::SaltId> add_salt(std::string_view salt);
  /// Nothing: it has none.
  std::optional<cache::SaltId> find_salt(std::string_view salt) const;
  std::string_view text_of(cache::SaltId salt) const noexcept {
    return *salt_texts_[cache::index_of(salt)];
  }

  /// Of a space that find() has returned.
  std::string_view model_of(cache::SpaceId space) const noexcept;
  std::string_view salt_of(cache::SpaceId space) const noexcept;

  std::size_t write_key(const cache::CellName& cell,
                        std::span<std::byte, kKeyBytesMax> out) const noexcept override;

 private:
  struct Model {
    std::string name;
    std::uint32_t world_size = 0;
    cache::LayoutId layout{};         ///< The latest.
    std::uint32_t registrations = 0;  ///< 0: no worker has it now.
  };
  struct Space {
    std::uint32_t model = 0;
    std::string salt;
  };

  /// In scratch_: a text that no other pair has.
  std::string& space_text(const Model& model, std::string_view salt);
  std::string& model_text(std::string_view model, std::uint32_t world_size);
  Model* find_model(std::string_view model, std::uint32_t world_size);

  std::vector<Model> models_;
  std::unordered_map<std::string, std::uint32_t> by_model_;
  std::vector<Space> spaces_;  ///< By SpaceId.
  std::unordered_map<std::string, cache::SpaceId> by_text_;
  std::unordered_map<std::string, cache::SaltId> salts_;
  std::vector<const std::string*> salt_texts_;  ///< By SaltId, in `salts_`.
  std::string scratch_;
};

}  // namespace larder::server
