#pragma once

#include "larder/base/mutex.h"
#include "larder/doors/key_accounts.h"
#include "module/front/nanobind.h"

namespace larder::python {

/// doors::KeyAccounts for Python, as larder._larder.KeyAccounts; larder.lmcache.l2_accounting is
/// built on it.
///
/// Arguments are read and results are built with the GIL; the accounts change without it. Each
/// method returns a new Python object or throws nanobind::python_error; a wrong argument changes
/// nothing. Threads: any. No thread waits for the GIL while it holds the lock.
class KeyAccountsObject {
 public:
  /// Takes [(was stored, key, bytes), ...]; keys are bytes objects. Returns the changes:
  /// [(is stored, [key, ...], [bytes, ...]), ...], with neighbours of one kind joined.
  nanobind::object apply(nanobind::handle happened);
  void begin_scan();
  void give_up_scan();
  /// Takes [(key, bytes), ...]. Returns the changes. RuntimeError without begin_scan().
  nanobind::object scanned(nanobind::handle page);
  nanobind::object end_scan();

  std::uint64_t keys() const { return totals().keys; }
  std::uint64_t bytes_used() const { return totals().bytes; }
  std::uint64_t foreign_keys() const { return foreign().keys; }
  std::uint64_t foreign_bytes() const { return foreign().bytes; }
  bool contains(nanobind::handle key) const;
  /// [(key, bytes), ...]
  nanobind::object items() const;

 private:
  doors::KeyAccounts::Totals totals() const LARDER_EXCLUDES(mutex_);
  doors::KeyAccounts::Totals foreign() const LARDER_EXCLUDES(mutex_);

  mutable Mutex mutex_;
  doors::KeyAccounts accounts_ LARDER_GUARDED_BY(mutex_);
};

void add_key_accounts(nanobind::module_& module);

}  // namespace larder::python
