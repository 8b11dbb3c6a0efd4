// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace bb::backplane {

// The known word nearest to `word`, or "" when none is near enough to be what was meant.
std::string_view nearest_word(std::string_view word, std::span<const std::string_view> known);
// `unknown key "nmae"; did you mean "name"?`, or with the list of what there is.
std::string unknown_word(std::string_view what, std::string_view word,
                         std::span<const std::string_view> known);

}  // namespace bb::backplane
