// SPDX-License-Identifier: Apache-2.0
// pure: what host and controller prove to each other, NVMe base 2.0 §8.13.5.4 and §8.13.5.5
#pragma once

#include <string_view>

#include "io/crypto/hash.h"

namespace bb::io::nvme {

// All that goes into a response. R1 proves the host to the controller, R2 the other way round.
struct AuthProof {
  Hash hash = Hash::kSha256;
  ConstBytes key;        // AuthSecret::key_of the one that proves itself
  ConstBytes challenge;  // C1 or C2
  ConstBytes shared;     // of the key exchange; empty: none took place
  uint32_t sequence = 0;
  uint16_t transaction = 0;
  uint8_t secure_channel = 0;
  std::string_view host_nqn;
  std::string_view subsystem_nqn;

  Secret host_response() const;
  Secret controller_response() const;

 private:
  Secret respond(std::string_view who, std::string_view first, std::string_view second) const;
};

}  // namespace bb::io::nvme
