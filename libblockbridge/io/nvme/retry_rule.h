// SPDX-License-Identifier: Apache-2.0
// pure: what becomes of a command that did not succeed
#pragma once

#include <cstdint>

#include "io/nvme/status.h"

namespace bb::io::nvme {

// How one command ended, as far as the host knows.
struct Outcome {
  bool lost = false;  // no answer, and none will come: its connection is gone
  bool sent = true;   // lost: some of it may have reached the target
  bool digest_error = false;
  NvmeStatus status = NvmeStatus::kSuccess;
};

enum class Verdict : uint8_t {
  kDone,
  kAgain,      // answered; damaged on the way, or it did nothing: again, on any path
  kElsewhere,  // this path cannot, at present: on another one
  kHold,       // it may have happened, or happen yet: nothing until that is known to be over
  kFail,
};

// The rule: a command that was answered, or never sent, or changes nothing, may go again at once. A
// write, write zeroes or discard without an answer may not, for the target of the lost path may
// execute it at any later time, behind writes that came after it.
Verdict judge(const Outcome& outcome, bool changes_data);

}  // namespace bb::io::nvme
