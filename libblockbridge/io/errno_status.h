// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/status.h"

namespace bb::io {

// What a caller does next after a system call failed: NOT_FOUND, PERMISSION_DENIED, NO_SPACE, BUSY,
// INVALID_ARGUMENT, NOT_SUPPORTED, or IO_ERROR for the rest.
Code code_of_errno(int number);

// "what: text of the number (errno 28)".
Status errno_status(std::string_view what, int number);

}  // namespace bb::io
