// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace bb::raid {

// The bytes of the worked example in a page of docs/formats: lines `OFFSET: xx xx …`, what is not
// shown is zero.
inline std::vector<std::byte> hex_example(const std::string& page, size_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  std::ifstream file(std::string(BB_SOURCE_DIR) + "/docs/formats/" + page);
  std::string line;
  while (std::getline(file, line)) {
    size_t colon = line.find(": ");
    if (line.rfind("    ", 0) != 0 || colon == std::string::npos) continue;
    std::string place = line.substr(4, colon - 4);
    if (place.find_first_not_of("0123456789abcdef") != std::string::npos) continue;
    size_t at = std::stoul(place, nullptr, 16);
    std::istringstream values(line.substr(colon + 2));
    std::string value;
    while (values >> value && value.size() == 2 && at < bytes.size()) {
      bytes[at++] = static_cast<std::byte>(std::stoul(value, nullptr, 16));
    }
  }
  return bytes;
}

// The same form, for writing the page.
inline std::string hex_lines(ConstBytes bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 16) {
    ConstBytes row = bytes.subspan(at, std::min<size_t>(16, bytes.size() - at));
    if (all_zero(row)) continue;
    char head[16];
    std::snprintf(head, sizeof(head), "    %04zx:", at);
    text += head;
    for (std::byte b : row) {
      char hex[8];
      std::snprintf(hex, sizeof(hex), " %02x", static_cast<unsigned>(b));
      text += hex;
    }
    text += "\n";
  }
  return text;
}

}  // namespace bb::raid
