// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/nbd/export_info.h"
#include "io/stream.h"

namespace bb::io::nbd {

// A connection on its way to the loop where the export lives that its client has chosen. Haggling
// is over but for the answer to that choice, which is given there: as on one loop it comes when the
// client may begin, and not before.
struct Handover {
  std::unique_ptr<Stream> stream;  // still on the loop it leaves, between operations
  std::string export_name;
  Agreed agreed;
  std::vector<std::byte> answer;
  std::vector<std::byte> received;  // behind the choice
  uint64_t id = 0;                  // of the connection
  uint32_t home = 0;                // where it goes: Export::home
};

}  // namespace bb::io::nbd
