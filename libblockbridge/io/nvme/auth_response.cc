// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_response.h"

namespace bb::io::nvme {

Secret AuthProof::respond(std::string_view who, std::string_view first,
                          std::string_view second) const {
  // With a key exchange the challenge is augmented by it: HMAC(H(shared), C).
  Secret augmented(challenge);
  if (!shared.empty()) augmented = hmac_of(hash, hash_of(hash, shared).bytes(), {challenge});
  std::byte numbers[7];
  store_le<uint32_t>(numbers, sequence);
  store_le<uint16_t>(numbers + 4, transaction);
  numbers[6] = static_cast<std::byte>(secure_channel);
  constexpr std::byte kZero{0};
  return hmac_of(
      hash, key,
      {augmented.bytes(), numbers, as_bytes(who), as_bytes(first), {&kZero, 1}, as_bytes(second)});
}

Secret AuthProof::host_response() const { return respond("HostHost", host_nqn, subsystem_nqn); }

Secret AuthProof::controller_response() const {
  return respond("Controller", subsystem_nqn, host_nqn);
}

}  // namespace bb::io::nvme
