// SPDX-License-Identifier: Apache-2.0
#include "io/crypto/secret.h"

#include <openssl/crypto.h>

namespace bb::io {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

void wipe(Bytes bytes) {
  if (!bytes.empty()) OPENSSL_cleanse(bytes.data(), bytes.size());
}

void wipe(std::string& text) {
  if (!text.empty()) OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

void Secret::wipe() {
  io::wipe(bytes_);
  bytes_.clear();
}

void Secret::shorten(size_t length_bytes) {
  if (length_bytes >= bytes_.size()) return;
  io::wipe(bytes().subspan(length_bytes));
  bytes_.resize(length_bytes);
}

bool same_secret(ConstBytes a, ConstBytes b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool base64_decode(std::string_view text, Secret& into) {
  if (text.empty() || text.size() % 4 != 0) return false;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  Secret decoded(text.size() / 4 * 3);
  uint32_t group = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    size_t value = i < text.size() - padding ? kAlphabet.find(text[i]) : 0;
    if (value == std::string_view::npos) return false;
    group = (group << 6) | static_cast<uint32_t>(value);
    if (i % 4 != 3) continue;
    std::byte* to = decoded.data() + i / 4 * 3;
    for (int byte = 0; byte < 3; ++byte) {
      to[byte] = static_cast<std::byte>((group >> (16 - 8 * byte)) & 0xff);
    }
    group = 0;
  }
  // The bits that padding cuts off are zero, or two texts would mean the same bytes.
  if (padding > 0 && !all_zero(decoded.bytes().last(padding))) return false;
  decoded.shorten(decoded.size() - padding);
  into = std::move(decoded);
  return true;
}

std::string base64_encode(ConstBytes bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    size_t count = std::min<size_t>(3, bytes.size() - at);
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) {
      group = (group << 8) | (i < count ? static_cast<uint32_t>(bytes[at + i]) : 0u);
    }
    for (size_t i = 0; i < 4; ++i) {
      text += i <= count ? kAlphabet[(group >> (18 - 6 * i)) & 63] : '=';
    }
  }
  return text;
}

}  // namespace bb::io
