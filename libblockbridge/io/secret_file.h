// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/status.h"
#include "io/crypto/secret.h"

namespace bb::io {

// NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (no regular file).
Status check_readable(const std::string& path);
// Likewise; PERMISSION_DENIED also when anybody but the owner may read or write it.
Status check_private(const std::string& path);

// A file that holds one secret, at most 4 KiB. Errors as check_private, and INVALID_ARGUMENT with
// the limit; no error text has any of its contents. Blocks, for as long as a small file takes.
Result<Secret> read_secret_file(const std::string& path);

}  // namespace bb::io
