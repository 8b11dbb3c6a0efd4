// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/bytes.h"

namespace bb::io {

// Bytes that nobody can guess: for secrets, challenges and keys.
void secure_random(Bytes into);

}  // namespace bb::io
