// SPDX-License-Identifier: Apache-2.0
#include "io/crypto/hash.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "base/check.h"

namespace bb::io {
namespace {

const EVP_MD* method(Hash hash) {
  switch (hash) {
    case Hash::kSha256:
      return EVP_sha256();
    case Hash::kSha384:
      return EVP_sha384();
    case Hash::kSha512:
      return EVP_sha512();
  }
  BB_CHECK(false, "hash {}", static_cast<int>(hash));
  return nullptr;
}

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

Secret joined(std::initializer_list<ConstBytes> parts) {
  size_t length = 0;
  for (ConstBytes part : parts) length += part.size();
  Secret all(length);
  std::byte* to = all.data();
  for (ConstBytes part : parts) to = std::copy(part.begin(), part.end(), to);
  return all;
}

}  // namespace

size_t hash_bytes(Hash hash) {
  switch (hash) {
    case Hash::kSha256:
      return 32;
    case Hash::kSha384:
      return 48;
    case Hash::kSha512:
      return 64;
  }
  return 0;
}

std::string_view hash_name(Hash hash) {
  switch (hash) {
    case Hash::kSha256:
      return "SHA-256";
    case Hash::kSha384:
      return "SHA-384";
    case Hash::kSha512:
      return "SHA-512";
  }
  return "?";
}

Secret hash_of(Hash hash, ConstBytes data) {
  Secret out(hash_bytes(hash));
  unsigned int length = 0;
  int done = EVP_Digest(data.data(), data.size(), raw(out.data()), &length, method(hash), nullptr);
  BB_CHECK(done == 1 && length == out.size(), "{} failed", hash_name(hash));
  return out;
}

Secret hmac_of(Hash hash, ConstBytes key, std::initializer_list<ConstBytes> parts) {
  Secret data = joined(parts);
  Secret out(hash_bytes(hash));
  unsigned int length = 0;
  constexpr unsigned char kNothing = 0;  // a null key would mean "the one before"
  const unsigned char* at = key.empty() ? &kNothing : raw(key.data());
  const unsigned char* done = HMAC(method(hash), at, static_cast<int>(key.size()), raw(data.data()),
                                   data.size(), raw(out.data()), &length);
  BB_CHECK(done != nullptr && length == out.size(), "HMAC with {} failed", hash_name(hash));
  return out;
}

Secret hkdf_extract(Hash hash, ConstBytes salt, ConstBytes input) {
  Secret zeroes(hash_bytes(hash));
  return hmac_of(hash, salt.empty() ? zeroes.bytes() : salt, {input});
}

Secret hkdf_expand(Hash hash, ConstBytes key, ConstBytes info, size_t length_bytes) {
  size_t step = hash_bytes(hash);
  BB_CHECK(length_bytes <= 255 * step, "HKDF gives at most {} bytes", 255 * step);
  Secret out(length_bytes);
  Secret block;
  std::byte counter{0};
  for (size_t at = 0; at < length_bytes; at += step) {
    counter = static_cast<std::byte>(static_cast<unsigned>(counter) + 1);
    block = hmac_of(hash, key, {block.bytes(), info, {&counter, 1}});
    size_t part = std::min(step, length_bytes - at);
    std::memcpy(out.data() + at, block.data(), part);
  }
  return out;
}

Secret hkdf_expand_label(Hash hash, ConstBytes key, std::string_view label, ConstBytes context,
                         size_t length_bytes) {
  constexpr std::string_view kPrefix = "tls13 ";
  BB_CHECK(kPrefix.size() + label.size() <= 255 && context.size() <= 255, "an HKDF label");
  std::byte length[2];
  store_be<uint16_t>(length, static_cast<uint16_t>(length_bytes));
  auto label_size = static_cast<std::byte>(kPrefix.size() + label.size());
  auto context_size = static_cast<std::byte>(context.size());
  Secret info = joined(
      {length, {&label_size, 1}, as_bytes(kPrefix), as_bytes(label), {&context_size, 1}, context});
  return hkdf_expand(hash, key, info.bytes(), length_bytes);
}

}  // namespace bb::io
