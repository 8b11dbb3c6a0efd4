// SPDX-License-Identifier: Apache-2.0
#include "io/crypto/random.h"

#include <openssl/rand.h>

#include "base/check.h"

namespace bb::io {

void secure_random(Bytes into) {
  int done =
      RAND_bytes(reinterpret_cast<unsigned char*>(into.data()), static_cast<int>(into.size()));
  BB_CHECK(done == 1, "no random bytes to be had");
}

}  // namespace bb::io
