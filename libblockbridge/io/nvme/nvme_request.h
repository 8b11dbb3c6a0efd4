// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "io/device.h"
#include "io/nvme/initiator_queue.h"
#include "io/nvme/unsettled.h"

namespace bb::io::nvme {

class NvmeDevice;

// What the commands of a namespace look like.
struct NamespaceShape {
  uint32_t nsid = 1;
  uint64_t block_bytes = 512;
  bool can_zero = false;                 // Write Zeroes; else zeroes are written
  const std::vector<std::byte>* zeroes;  // for that
};

// One request of a user on its way to the target: as one command, or (write zeroes, discard) as
// several one after the other.
struct NvmeRequest : HostCommand {
  enum class State : uint8_t {
    kFree,
    kIssued,   // a path has it
    kWaiting,  // for a path with room
    kHeld,     // until its fate is settled: see retry_rule.h
  };
  NvmeDevice* device = nullptr;
  IoRequest* request = nullptr;
  uint32_t index = 0;
  State state = State::kFree;
  size_t path = 0;
  uint16_t queue = 0;        // of the path, from 0
  Fence fence;               // kHeld
  uint64_t incarnation = 0;  // of the device when the request began
  uint64_t issued_ns = 0;
  uint64_t deadline_ns = 0;
  bool aborting = false;
  uint32_t retries = 0;
  uint64_t moved_bytes = 0;
  uint64_t step_bytes = 0;  // of the present command
  std::byte range[kDsmRangeBytes];
  iovec single{};

  void begin(IoRequest& of, uint64_t now_ns, uint64_t timeout_ns);
  void build(const NamespaceShape& shape);  // the next command
  bool changes() const { return changes_data(request->op); }
};

// Requests that wait, in order, each with its place in its own scratch.
class RequestList {
 public:
  bool empty() const { return first_ == nullptr; }
  void push(IoRequest& request, uint64_t deadline_ns);
  IoRequest* pop();
  IoRequest* pop_due(uint64_t now_ns);  // any that has waited too long, or null
  void set_deadlines(uint64_t deadline_ns);

 private:
  struct Place {
    IoRequest* next = nullptr;
    uint64_t deadline_ns = 0;
  };
  static Place& place(IoRequest& request) { return *reinterpret_cast<Place*>(request.scratch); }
  IoRequest* first_ = nullptr;
  IoRequest* last_ = nullptr;
};

}  // namespace bb::io::nvme
