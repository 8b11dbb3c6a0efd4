// SPDX-License-Identifier: Apache-2.0
// pure: values, and a computation for whichever thread has the time for it
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/crypto/secret.h"

namespace bb::io {

// RFC 7919. The numbers are those of DH-HMAC-CHAP.
enum class DhGroup : uint8_t {
  kNull = 0,
  kFfdhe2048 = 1,
  kFfdhe3072 = 2,
  kFfdhe4096 = 3,
  kFfdhe6144 = 4,
  kFfdhe8192 = 5,
};

size_t dh_bytes(DhGroup group);           // of a public value; 0: kNull
std::string_view dh_name(DhGroup group);  // "ffdhe2048", "null"
std::optional<DhGroup> dh_from_name(std::string_view name);

// One key exchange, from a fresh private key to the shared secret. compute() takes up to some tens
// of milliseconds and touches nothing but this object: on a reactor it goes through the Offload.
struct DhExchange {
  DhGroup group = DhGroup::kNull;
  std::vector<std::byte> theirs;  // their public value; empty: not known yet
  Secret private_key;             // empty: compute() makes one
  std::vector<std::byte> ours;    // our public value, as long as the group's prime
  Secret shared;                  // likewise, once `theirs` is known
  Status status;                  // INVALID_ARGUMENT: `theirs` is not a good public value

  void compute();
};

}  // namespace bb::io
