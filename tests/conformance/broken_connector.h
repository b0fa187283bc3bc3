#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "larder/conformance/conformance.h"
#include "larder/connector/connector.h"

namespace larder::conformance {

/// What is wrong with a BrokenConnector. Each breaks one rule of connector.h.
enum class Defect : std::uint8_t {
  kNone = 0,
  kLosesBatch,           ///< C1: the 5th batch never comes back.
  kReturnsTwice,         ///< C1: the 5th batch comes back twice.
  kChangesRefused,       ///< C1: a refused batch has new outcomes.
  kLeavesPending,        ///< P2: the second item of a batch has no outcome.
  kFailsNeighbours,      ///< C2: one illegal key fails the batch's other keys.
  kFailsWithoutError,    ///< C2: failed, and no reason.
  kThrows,               ///< C3: an exception leaves report().
  kMixesValues,          ///< C4: of a replaced value the second half is the old one.
  kWritesThoughPresent,  ///< C4: kIfAbsent replaces.
  kKeepsDeleted,         ///< C4: Delete says done and does nothing.
  kNoLimits,             ///< C5: everything is accepted.
  kSharedLimits,         ///< C5: refused stores make loads refused.
  kFindsFailedKey,       ///< C6, P11: a key whose Get failed is there again.
  kSilentEventFd,        ///< C7: never readable.
  kIgnoresDeadline,      ///< C8: past its deadline it is carried out.
  kAcceptsAfterStop,     ///< C8.
  kFlipsBit,             ///< P1: the 20th hit has a wrong bit.
  kWritesBesideSlices,   ///< P1: a byte after the last slice.
  kTouchesMissed,        ///< Outcomes: a miss changes the buffer.
  kForgetsLastByte,      ///< P10: keys that differ in the last byte are one.
  kFoldsCase,            ///< P10: "A" is "a".
  kExceedsCapacity,      ///< P5: bytes_used is above capacity_bytes.
  kForgets,              ///< A stored key is gone though there is room.
  kProbeLies,            ///< probe() says that everything is there.
  kScanSkips,            ///< scan() leaves out one entry in ten.
  kLosesAtStop,          ///< C1: what is not reaped at stop() never comes back.
  kIgnoresSize,          ///< A Get into a larger buffer is a hit.
  kHidesRemovals,        ///< events() leaves out what was removed.
  kWrongSize,            ///< Exists tells a size that is one too large.
  kHidesFailures,        ///< P3: it looks healthy whatever its callers got.
  kDropsOnWrongSize,     ///< C6: a Get of another size takes the value out.
  kIgnoresHints,         ///< Hints: a pin is answered as a plain touch.
  kEstimatesBlindly,     ///< A load is estimated though none has ended.
  kCount,
};

std::string_view name_of(Defect defect);

/// The memory connector with one defect, so that the suite can show that it finds it.
std::unique_ptr<Connector> make_broken_connector(Defect defect, std::uint64_t capacity_bytes,
                                                 std::uint64_t batches_max,
                                                 std::uint64_t bytes_max);

/// The same as the suite wants it.
Subject broken_subject(Defect defect);
/// The first case that fails, with what it says; empty when none does.
std::string first_failure(const Subject& subject);

}  // namespace larder::conformance
