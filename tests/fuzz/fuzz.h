// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

// What every fuzzer defines. TestOneInput must abort (BB_CHECK) on a finding and return 0
// otherwise.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace bb::fuzz {

// Each fuzzer's limit on what it makes up itself; longer inputs are legal.
extern const size_t kInputMax;

using Seeds = std::vector<std::pair<std::string, std::vector<std::byte>>>;  // file name, input

// Good inputs to begin with: made by code, so that they follow the format as it grows.
Seeds seeds();

}  // namespace bb::fuzz
