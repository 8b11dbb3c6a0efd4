// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/status.h"

namespace bb::raid {

// A place that a member cannot read, or that is not what was written: others may have it, and the
// member is there all the same.
inline bool is_medium_error(const Status& status) {
  return status.code() == Code::k_io_error || status.code() == Code::k_corrupt;
}

}  // namespace bb::raid
