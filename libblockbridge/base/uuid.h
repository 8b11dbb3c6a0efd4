// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <array>
#include <compare>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/prng.h"
#include "base/status.h"

namespace bb {

// RFC 4122 UUID, bytes in the order they are printed.
struct Uuid {
  std::array<std::byte, 16> bytes{};

  static Uuid random(Prng& prng);  // version 4
  static Result<Uuid> parse(std::string_view text);
  static Uuid from(ConstBytes sixteen);

  bool is_nil() const { return all_zero(bytes); }
  std::string to_string() const;
  auto operator<=>(const Uuid&) const = default;
};

}  // namespace bb
