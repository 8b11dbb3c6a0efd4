// SPDX-License-Identifier: Apache-2.0
#include "base/uuid.h"

#include <algorithm>

namespace bb {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool dash_before(size_t byte) { return byte == 4 || byte == 6 || byte == 8 || byte == 10; }

}  // namespace

Uuid Uuid::random(Prng& prng) {
  Uuid uuid;
  prng.fill(uuid.bytes);
  uuid.bytes[6] = (uuid.bytes[6] & std::byte{0x0f}) | std::byte{0x40};
  uuid.bytes[8] = (uuid.bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  return uuid;
}

Uuid Uuid::from(ConstBytes sixteen) {
  BB_CHECK(sixteen.size() == 16, "a uuid has 16 bytes, not {}", sixteen.size());
  Uuid uuid;
  std::copy(sixteen.begin(), sixteen.end(), uuid.bytes.begin());
  return uuid;
}

Result<Uuid> Uuid::parse(std::string_view text) {
  auto bad = [&] {
    return error(Code::k_invalid_argument,
                 "\"{}\" is not a uuid: expected 8-4-4-4-12 hexadecimal digits",
                 text.substr(0, 64));
  };
  if (text.size() != 36) return bad();
  Uuid uuid;
  size_t at = 0;
  for (size_t i = 0; i < 16; ++i) {
    if (dash_before(i) && text[at++] != '-') return bad();
    int high = hex_digit(text[at]);
    int low = hex_digit(text[at + 1]);
    if (high < 0 || low < 0) return bad();
    uuid.bytes[i] = static_cast<std::byte>(high * 16 + low);
    at += 2;
  }
  return uuid;
}

std::string Uuid::to_string() const {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < 16; ++i) {
    if (dash_before(i)) text += '-';
    auto value = static_cast<unsigned>(bytes[i]);
    text += kDigits[value >> 4];
    text += kDigits[value & 15];
  }
  return text;
}

}  // namespace bb
