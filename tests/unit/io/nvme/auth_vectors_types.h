// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bb::io::nvme::test {

// What auth_vectors.py computes; bytes in hex.
struct SecretRow {
  const char* text;
  unsigned length;
  unsigned transform;
  const char* key_of_host;
};
struct ProofRow {
  unsigned hash;
  unsigned group;
  const char* key;
  const char* challenge;
  const char* private_key;
  const char* theirs;
  const char* shared;
  const char* host_response;
  const char* controller_response;
};
struct PskRow {
  const char* text;
  const char* retained;
  unsigned suite_hash;
  const char* identity;
  const char* psk;
};

#include "auth_vectors.h"

}  // namespace bb::io::nvme::test
