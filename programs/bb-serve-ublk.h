// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/loops.h"
#include "io/ublk/attachment.h"

namespace bb::program {

// The devices of bb-serve as block devices of this machine (--ublk), each served by the loop of its
// device.
class UblkExports {
 public:
  using Numbers = std::vector<std::optional<uint32_t>>;
  struct Attached {
    std::string path;
    bool recovered;
  };

  explicit UblkExports(Loops& loops) : loops_(loops) {}
  // "any", or the N of /dev/ublkbN, one for each device; a single "any" is for all.
  static Result<Numbers> parse(const std::vector<std::string>& texts, size_t device_count);

  // Those of all devices are started in their order: the nth is the device of index n.
  io::Task<Result<Attached>> start(io::Device* device, std::optional<uint32_t> number);
  // Removes the block devices; with `keep`, and where one is in use, leaves it for the next
  // bb-serve, to which its I/O then waits.
  io::Task<void> stop(bool keep);

 private:
  Loops& loops_;
  std::vector<std::unique_ptr<io::ublk::Attachment>> attachments_;  // each used on its loop only
};

}  // namespace bb::program
