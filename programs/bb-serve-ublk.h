// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/ublk/attachment.h"

namespace bb::program {

// The devices of bb-serve as block devices of this machine (--ublk).
class UblkExports {
 public:
  using Numbers = std::vector<std::optional<uint32_t>>;
  // "any", or the N of /dev/ublkbN, one for each device; a single "any" is for all.
  static Result<Numbers> parse(const std::vector<std::string>& texts, size_t device_count);

  io::Task<Status> start(io::Context context, io::Device* device, std::optional<uint32_t> number);
  // Removes the block devices; with `keep`, and where one is in use, leaves it for the next
  // bb-serve, to which its I/O then waits.
  io::Task<void> stop(bool keep);

  const io::ublk::Attachment& last() const { return *attachments_.back(); }

 private:
  std::vector<std::unique_ptr<io::ublk::Attachment>> attachments_;
};

}  // namespace bb::program
