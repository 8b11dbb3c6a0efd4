// SPDX-License-Identifier: Apache-2.0
// Pre-shared keys as they are written, and the identities that hosts name in a TLS handshake before
// anybody knows who they are. Input: one of the two as text.
#include "base/check.h"
#include "fuzz.h"
#include "io/nvme/tls_psk.h"

namespace bb {
namespace {

using namespace io;
using namespace io::nvme;

constexpr const char* kHost = "nqn.2026-11.a:h";

// Keys are derived for whatever names are accepted, or the names are refused as too long.
void try_key(const PskSecret& secret, const PskIdentity& identity) {
  auto key = secret.tls_key(identity);
  if (!key.ok()) {
    BB_CHECK(identity.to_string().size() > 255, "{}", key.status().to_string());
    return;
  }
  BB_CHECK(key->size() == hash_bytes(identity.hash), "a key of {} bytes", key->size());
}

PskSecret made_up(size_t length) { return {.hash = Hash::kSha256, .key = Secret(length)}; }

void try_identity(std::string_view text) {
  auto identity = PskIdentity::parse(text);
  if (!identity) return;
  BB_CHECK(identity->to_string() == text, "{} came back as {}", text, identity->to_string());
  try_key(made_up(32), *identity);
}

void try_secret(std::string_view text) {
  auto secret = PskSecret::parse(text);
  if (!secret.ok()) {
    bool known = secret.code() == Code::k_invalid_argument || secret.code() == Code::k_corrupt;
    BB_CHECK(known, "{}", secret.status().to_string());
    return;
  }
  size_t length = secret->key.size();
  BB_CHECK(length == 32 || length == 48, "a key of {} bytes", length);
  BB_CHECK(secret->retained(kHost).size() == length, "the retained key has another length");
  try_key(*secret, {.hash = secret->suite_hash(), .host_nqn = kHost, .subsystem_nqn = kHost});
}

std::vector<std::byte> bytes_of(std::string_view text) {
  ConstBytes bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

const size_t fuzz::kInputMax = 600;

// What `nvme gen-tls-key` printed for keys that nobody uses.
fuzz::Seeds fuzz::seeds() {
  Seeds all;
  all.emplace_back("key-32",
                   bytes_of("NVMeTLSkey-1:01:fXQ2hmj8ZRqxbR8HbGmMM7rpMa85qSKsUW9EPJDBLZMzs06f:"));
  all.emplace_back("key-48", bytes_of("NVMeTLSkey-1:02:t70KVEjTqFqTyZidiVWBp3rvPhNNR3fkDK4UHrk7sZ07"
                                      "NQZ99zoAwtTvc0v72WZoxKqOfQ==:\n"));
  for (const char* start : {"NVMe0R01 ", "NVMe0R02 "}) {
    all.emplace_back(std::string(start, 8),
                     bytes_of(std::string(start) + kHost + " nqn.2026-11.a:s"));
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  try_identity(text);
  try_secret(text);
  return 0;
}
