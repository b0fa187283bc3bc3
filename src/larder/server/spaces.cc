#include "larder/server/spaces.h"

#include <array>
#include <cstring>
#include <utility>

#include "larder/base/check.h"

namespace larder::server {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

/// Writes text and numbers one after another.
class Writer {
 public:
  explicit Writer(std::span<std::byte, kKeyBytesMax> out) noexcept : out_(out) {}

  void text(std::string_view text) noexcept {
    LARDER_CHECK(text.size() <= out_.size() - length_);
    std::memcpy(out_.data() + length_, text.data(), text.size());
    length_ += text.size();
  }
  void hex(std::uint64_t value, unsigned digits) noexcept {
    std::array<char, 16> text{};
    for (unsigned i = digits; i-- > 0; value >>= 4U) text[i] = kHexDigits[value & 15U];
    this->text({text.data(), digits});
  }
  std::size_t length() const noexcept { return length_; }

 private:
  std::span<std::byte, kKeyBytesMax> out_;
  std::size_t length_ = 0;
};

unsigned hex_digits(std::uint64_t value) noexcept {
  unsigned digits = 1;
  while ((value >>= 4U) != 0) ++digits;
  return digits;
}

}  // namespace

/// In scratch_: a text that no other pair has.
std::string& Spaces::model_text(std::string_view model, std::uint32_t world_size) {
  scratch_.assign(reinterpret_cast<const char*>(&world_size), sizeof world_size);
  scratch_.append(model);
  return scratch_;
}

Spaces::Model* Spaces::find_model(std::string_view model, std::uint32_t world_size) {
  const auto found = by_model_.find(model_text(model, world_size));
  return found == by_model_.end() ? nullptr : &models_[found->second];
}

void Spaces::add_registration(std::string_view model, std::uint32_t world_size,
                              cache::LayoutId layout) {
  Model* found = find_model(model, world_size);
  if (found == nullptr) {
    by_model_.emplace(scratch_, static_cast<std::uint32_t>(models_.size()));
    found = &models_.emplace_back();
    found->name = model;
    found->world_size = world_size;
  }
  found->layout = layout;
  ++found->registrations;
}

void Spaces::drop_registration(std::string_view model, std::uint32_t world_size) {
  Model* const found = find_model(model, world_size);
  LARDER_CHECK(found != nullptr && found->registrations > 0);
  --found->registrations;
}

std::string_view Spaces::model_of(cache::SpaceId space) const noexcept {
  return models_[spaces_[cache::index_of(space)].model].name;
}

std::string_view Spaces::salt_of(cache::SpaceId space) const noexcept {
  return spaces_[cache::index_of(space)].salt;
}

std::optional<cache::SaltId> Spaces::find_salt(std::string_view salt) const {
  const auto found = salts_.find(std::string{salt});
  if (found == salts_.end()) return std::nullopt;
  return found->second;
}

std::optional<cache::SaltId> Spaces::add_salt(std::string_view salt) {
  if (const auto found = find_salt(salt)) return found;
  if (salts_.size() == kSpacesMax) return std::nullopt;
  const cache::SaltId made{static_cast<std::uint32_t>(salts_.size())};
  salt_texts_.push_back(&salts_.emplace(salt, made).first->first);
  return made;
}

std::string& Spaces::space_text(const Model& model, std::string_view salt) {
  const auto number = static_cast<std::uint32_t>(&model - models_.data());
  scratch_.assign(reinterpret_cast<const char*>(&number), sizeof number);
  scratch_.append(salt);
  return scratch_;
}

std::optional<cache::SpaceId> Spaces::find_known(std::string_view model, std::uint32_t world_size,
                                                 std::string_view salt) {
  const Model* const of_model = find_model(model, world_size);
  if (of_model == nullptr) return std::nullopt;
  const auto found = by_text_.find(space_text(*of_model, salt));
  if (found == by_text_.end()) return std::nullopt;
  return found->second;
}

std::optional<cache::SpaceId> Spaces::find(cache::Engine& engine, std::string_view model,
                                           std::uint32_t world_size, std::string_view salt) {
  const Model* const of_model = find_model(model, world_size);
  if (of_model == nullptr || of_model->registrations == 0) return std::nullopt;
  const auto found = by_text_.find(space_text(*of_model, salt));
  if (found != by_text_.end()) return found->second;
  if (model.size() + salt.size() > kTextBytesMax || by_text_.size() == kSpacesMax) {
    return std::nullopt;
  }
  const auto of_salt = add_salt(salt);
  if (!of_salt) return std::nullopt;
  const cache::SpaceId space = engine.space(of_model->layout, *of_salt);
  by_text_.emplace(scratch_, space);
  if (spaces_.size() <= cache::index_of(space)) spaces_.resize(cache::index_of(space) + 1);
  const auto number = static_cast<std::uint32_t>(of_model - models_.data());
  spaces_[cache::index_of(space)] = {.model = number, .salt = std::string{salt}};
  return space;
}

std::size_t Spaces::write_key(const cache::CellName& cell,
                              std::span<std::byte, kKeyBytesMax> out) const noexcept {
  const Space& space = spaces_[cache::index_of(cell.space)];
  const Model& model = models_[space.model];
  const std::uint32_t kv_rank =
      model.world_size << 24U | cell.rank << 16U | model.world_size << 8U | cell.rank;
  Writer writer{out};
  writer.text(model.name);
  writer.text("@");
  writer.hex(kv_rank, 8);
  writer.text("@");
  writer.hex(cell.group, hex_digits(cell.group));
  writer.text("@");
  for (const std::byte byte : cell.chunk.bytes) writer.hex(std::to_integer<unsigned>(byte), 2);
  if (!space.salt.empty()) {
    writer.text("@");
    writer.text(space.salt);
  }
  return writer.length();
}

}  // namespace larder::server
