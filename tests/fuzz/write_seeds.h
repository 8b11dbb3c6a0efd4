// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>

#include "fuzz.h"

namespace bb::fuzz {

// `fuzz-NAME --write-seeds DIR`: the exit code.
inline int write_seeds(const std::filesystem::path& into) {
  std::filesystem::create_directories(into);
  for (const auto& [name, bytes] : seeds()) {
    std::ofstream file(into / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (!file.good()) return 1;
  }
  return 0;
}

}  // namespace bb::fuzz
