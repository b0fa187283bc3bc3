#include "larder/connector/worker_pool.h"

namespace larder {

SetupStatus WorkerPoolOptions::validate() const {
  LARDER_TRY(scheduler.validate());
  return reconnect.validate();
}

}  // namespace larder
