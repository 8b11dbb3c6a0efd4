// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/prng.h"
#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"
#include "io/sync.h"

namespace bb::io {

enum class FaultKind : uint8_t {
  kError,      // the request fails with `code`, undone
  kLatency,    // it starts `latency_ns` later
  kTornWrite,  // a random prefix of its blocks lands; then `code`, or success if `acknowledge`
  kLostWrite,  // acknowledged, not done
  kBitFlip,    // one random bit of what is read, or of what reaches the inner device, is inverted
  kStuck,      // does not complete before release_stuck() or close()
};
inline constexpr size_t kFaultKinds = 6;
std::string_view fault_kind_name(FaultKind kind);

// Which requests a rule hits: any of these operations, touching the range, by probability.
struct FaultRule {
  static constexpr uint32_t bit(IoOp op) { return 1u << static_cast<uint32_t>(op); }
  static constexpr uint32_t kReads = 1u << static_cast<uint32_t>(IoOp::kRead);
  static constexpr uint32_t kWrites = 1u << static_cast<uint32_t>(IoOp::kWrite);
  static constexpr uint32_t kChanges = kWrites | 1u << static_cast<uint32_t>(IoOp::kDiscard) |
                                       1u << static_cast<uint32_t>(IoOp::kWriteZeroes);
  static constexpr uint32_t kFlushes = 1u << static_cast<uint32_t>(IoOp::kFlush);
  static constexpr uint32_t kAll = kReads | kChanges | kFlushes;

  FaultKind kind = FaultKind::kError;
  uint32_t ops = kAll;       // those that make no sense for the kind are left out
  uint64_t begin_bytes = 0;  // flushes have no range: they match whatever it is
  uint64_t end_bytes = UINT64_MAX;
  uint32_t numerator = 1;  // probability numerator / denominator
  uint32_t denominator = 1;
  uint64_t skip = 0;                 // this many matching requests pass first
  uint64_t times_left = UINT64_MAX;  // hits before the rule is spent
  bool sticky = false;               // once it has hit, it hits every matching request
  bool acknowledge = false;          // torn write: report success
  Code code = Code::k_io_error;
  uint64_t latency_ns = 0;
};

// A device with faults, around any other. The same seed and the same requests give the same faults.
// URI: fault:INNER[?option&…], where a `?` inside INNER is written %3F:
//   fault:file:/tmp/a%3Fdirect=0&size=1G?read_error=1/1000&seed=7
// The options after the `?` are the fault device's own:
//   read_error=P write_error=P flush_error=P  P is 0, 1 or N/M; a / may be written %2F
//   sticky=1            an error, once hit, is hit again by every request of that kind
//   count=N             every kind of fault at most N times
//   torn_write=P        with torn_ok=1 the torn write is acknowledged
//   lost_write=P bit_flip=P (what is read) bit_flip_write=P stuck=P
//   latency=5ms         with latency_chance=P only sometimes
//   range=OFFSET-END    sizes; only requests that touch it
//   seed=N
class FaultDevice final : public Device, private DeviceWatcher {
 public:
  FaultDevice(Loop& loop, std::unique_ptr<Device> inner, uint64_t seed, std::string uri = "");
  ~FaultDevice() override;

  uint64_t add(FaultRule rule);  // -> an id for remove()
  bool remove(uint64_t id);      // false when there is no such rule
  void clear();
  void release_stuck();  // those stuck so far go on to the inner device
  size_t stuck() const;

  uint64_t hits(FaultKind kind) const { return hits_[static_cast<size_t>(kind)]; }
  Device& inner() { return *inner_; }

  Task<Status> close() override;

 protected:
  void do_submit(IoRequest& request) override;
  Task<Result<std::vector<Extent>>> do_extents(uint64_t offset_bytes, uint64_t length_bytes,
                                               uint32_t limit) override;

 private:
  struct Flight;
  struct Row {
    uint64_t id;
    FaultRule rule;
  };
  void on_device_state(Device& device, DeviceState state) override;
  void follow_incarnation();
  bool hit(FaultRule& rule, const IoRequest& request);
  void apply(const FaultRule& rule, Flight& flight);
  Flight& take(IoRequest& request);
  void launch(Flight& flight);
  void send(Flight& flight);
  void flip_bit_of_copy(Flight& flight);
  void flip_bit_of_read(IoRequest& request);
  void finish(Flight& flight, Status status);
  bool keep_prefix(Flight& flight);

  Loop& loop_;
  std::unique_ptr<Device> inner_;
  Prng prng_;
  Gate gate_;
  std::vector<Row> rules_;
  uint64_t last_id_ = 0;
  uint64_t hits_[kFaultKinds] = {};
  std::vector<std::unique_ptr<Flight>> flights_;  // all there ever were at once
  std::vector<Flight*> free_;
};

Task<Result<std::unique_ptr<Device>>> open_fault_device(Context context, Uri uri, std::string text);

}  // namespace bb::io
