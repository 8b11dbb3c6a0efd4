// SPDX-License-Identifier: Apache-2.0
// pure: what a client sees of a device, and which requests of his are served
#pragma once

#include <string>

#include "io/nbd/wire.h"

namespace bb::io::nbd {

struct ExportInfo {
  std::string name;
  std::string description;
  uint64_t size_bytes = 0;
  uint32_t block_min_bytes = 512;
  uint32_t block_preferred_bytes = 4096;
  bool read_only = false;
  bool trim = false;
  bool multi_conn = true;

  uint16_t transmission_flags(Framing framing) const;
};

// What a handshake agreed on.
struct Agreed {
  Framing framing = Framing::kSimple;
  bool allocation = false;  // block status answers for base:allocation
};

// What is to become of a request.
struct Verdict {
  enum class Action : uint8_t { kServe, kRefuse, kDisconnect, kDrop };
  Action action = Action::kServe;
  Errno error = Errno::kNone;  // kRefuse
  const char* reason = "";     // kRefuse, kDrop: for the reply and the log
  uint32_t payload_bytes = 0;  // follows the request and must be taken off the stream
};
Verdict judge(const ExportInfo& device, Agreed agreed, const Request& request);

}  // namespace bb::io::nbd
