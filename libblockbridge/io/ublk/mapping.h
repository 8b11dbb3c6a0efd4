// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "base/status.h"
#include "io/device.h"
#include "io/ublk/abi.h"

// What a device is to the kernel, and what the kernel's requests are to a device: values only.
namespace bb::io::ublk {

// Sizes, cache and abilities of a block device that shows `info`; `io_max_bytes` is the size of the
// buffers. INVALID_ARGUMENT when the kernel has no such block device.
Result<Parameters> parameters_of(const DeviceInfo& info, uint32_t io_max_bytes);

// May a device that is now `now` go on behind the block device that was made as `before`? BAD_STATE
// when the kernel, which cannot be told, would believe something that is no longer so.
Status check_takeover(const Parameters& before, const Parameters& now);

// The largest request: what the device takes in one transfer, but no more than `limit_bytes`, in
// whole pages.
uint32_t io_max_bytes_of(const DeviceInfo& info, uint32_t limit_bytes);

// What marks a kernel device as ours and says whose data it showed, so that a restarted daemon
// takes back its own and no other.
uint64_t server_flags_of(std::string_view identity);
bool is_ours(uint64_t server_flags);

struct Request {
  IoOp op = IoOp::kRead;
  bool fua = false;
  bool may_discard = false;
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
};
constexpr bool moves_data(IoOp op) { return op == IoOp::kRead || op == IoOp::kWrite; }

// Nothing for an operation we do not offer.
std::optional<Request> request_of(const RequestRecord& record);

// What the commit of a request says: bytes for reads and writes, 0 for the others, or -errno. The
// errno is chosen for what the block layer makes of it: a medium error, a lost transport, …
int32_t result_of(const Request& request, Code code);

}  // namespace bb::io::ublk
