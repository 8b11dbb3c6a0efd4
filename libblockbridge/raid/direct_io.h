// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/range_lock.h"
#include "raid/fan_out.h"
#include "raid/geometry.h"

namespace bb::raid {

struct Tried;

// A read or write of a level with copies that has nothing to wait for but its members: its range is
// free, its bits are durable, its checksums are in memory. It needs no coroutine and allocates
// nothing. Whatever turns out otherwise on the way goes on in a coroutine, as serve() would.
class DirectIo final : FanOut {
 public:
  explicit DirectIo(ArrayCore& core) : FanOut(core), array_(core) {}

  // False: it is for serve().
  static bool start(ArrayCore& core, io::IoRequest& request);

 private:
  static bool may_start(ArrayCore& core, const io::IoRequest& request, RegionRange regions);
  bool take(io::IoRequest& request, RegionRange regions);
  void write();
  void written();
  io::Task<void> settle_write(MemberMask ok_mask, Status status);
  bool read();  // false: nobody may be read
  void answered();
  io::Task<void> read_otherwise(Status status);
  void finish(Status status);
  void release();

  ArrayCore& array_;
  io::IoRequest* host_ = nullptr;
  io::RangeTicket lock_;
  RegionRange regions_;
  uint64_t slots_ = 0;
  uint64_t came_ns_ = 0;
  Member* member_ = nullptr;  // that is read
  uint64_t place_bytes_ = 0;  // in its data
};

}  // namespace bb::raid
