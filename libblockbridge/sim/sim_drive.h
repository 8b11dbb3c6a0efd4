// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/intrusive/list.hpp>
#include <memory>
#include <string>
#include <vector>

#include "io/device.h"
#include "sim/sector_store.h"
#include "sim/sim_loop.h"

namespace bb::sim {

class SimCable;

struct SimDriveOptions {
  std::string name = "drive";
  uint64_t size_bytes = 8u << 20;
  uint32_t block_size_bytes = 512;
  bool volatile_cache = true;
  bool discard = true;
  uint64_t latency_min_ns = 20'000;
  uint64_t latency_max_ns = 400'000;
  bool lies_about_flush = false;  // a canary: flush and FUA make nothing durable
};

// Faults at random, each once in that many requests; 0 is never. A fault budget is kept by whoever
// sets them.
struct SimDriveFaults {
  uint32_t read_error_one_in = 0;
  uint32_t write_error_one_in = 0;  // the write may have happened, in full or in part
  uint32_t flush_error_one_in = 0;  // nothing became durable
  uint32_t lost_write_one_in = 0;   // reported as done, never happens
  uint32_t misdirected_one_in = 0;  // reported as done, lands elsewhere on the drive
  // Both only of requests that lie in this range, and stay within it.
  uint64_t silent_from_bytes = 0;
  uint64_t silent_to_bytes = UINT64_MAX;
  uint32_t slow_one_in = 0;
  uint64_t slow_ns = 50'000'000;
};

// A drive with its node: the medium and what happens to it. Outlives crashes of its users, who hold
// a SimCable each.
class SimDrive {
 public:
  SimDrive(SimLoop& world, SectorStore::Pool* pool, SimDriveOptions options, Prng prng);
  ~SimDrive();
  SimDrive(const SimDrive&) = delete;

  // A user's device, on the loop of the user's node. Lives no longer than the drive.
  std::unique_ptr<SimCable> connect(io::Loop& owner);

  SimDriveFaults& faults() { return faults_; }
  const SimDriveOptions& options() const { return options_; }
  SectorStore& medium() { return medium_; }

  // The drive node loses power: requests in flight happen in any part or not at all, of what was
  // not flushed any sector may be lost, and all cables are disconnected.
  void power_off();
  void power_on();  // cables reconnect when told to, or at connect()
  bool powered() const { return powered_; }

  // Nothing completes until the drive is unstuck; to its users it is silent.
  void set_stuck(bool stuck);
  bool stuck() const { return stuck_; }
  void set_broken(bool broken) { broken_ = broken; }  // every request fails: IO_ERROR
  void set_full(bool full) { full_ = full; }          // writes of sectors fail: NO_SPACE

  uint64_t requests() const { return requests_; }
  uint64_t writes() const { return writes_; }

 private:
  friend class SimCable;
  struct Slot : boost::intrusive::list_base_hook<> {
    struct Alarm : io::Timer {
      Slot* slot = nullptr;
    } alarm;
    struct Reply : io::Work {
      Slot* slot = nullptr;
    } reply;
    SimDrive* drive = nullptr;
    SimCable* cable = nullptr;
    io::IoRequest* request = nullptr;
    Status status;
    bool early = false;    // takes effect when submitted, not when it completes
    bool applied = false;  // has taken effect, or never will
  };
  using SlotList = boost::intrusive::list<Slot, boost::intrusive::constant_time_size<false>>;

  void begin(SimCable& cable, io::IoRequest& request);
  void due(Slot& slot);
  void finish(Slot& slot, Status status);
  Status apply(io::IoRequest& request);
  Status apply_write(io::IoRequest& request);
  Status apply_read(io::IoRequest& request);
  uint64_t misplace(const io::IoRequest& request);
  void mark_wrong(uint64_t offset_bytes, ConstBytes right);
  void apply_discard(const io::IoRequest& request);
  void apply_in_part(Slot& slot);
  // Ends what is in flight on one cable (null: on all) because the connection is gone.
  void abandon(SimCable* cable);
  Slot& take_slot();

  SimLoop& world_;
  SimDriveOptions options_;
  SimDriveFaults faults_;
  SectorStore medium_;
  Prng prng_;
  bool powered_ = true;
  bool stuck_ = false;
  bool broken_ = false;
  bool full_ = false;
  uint64_t requests_ = 0;
  uint64_t writes_ = 0;
  std::vector<SimCable*> cables_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
  SlotList flying_;  // waiting for their alarm
  SlotList parked_;  // waiting for the drive to be unstuck
  std::vector<std::byte> buffer_;
};

// One node's connection to a drive, seen as a device: what the NVMe/TCP initiator is outside the
// simulator. Losing the connection fails what is in flight; coming back raises the incarnation.
class SimCable final : public io::Device {
 public:
  SimCable(SimDrive& drive, io::Loop& owner);
  ~SimCable() override;

  // The connection breaks: requests in flight happened in any part, further ones fail at once.
  void disconnect();
  void reconnect();  // no effect while the drive is without power
  // The node on this end crashed: for ever disconnected, so nothing its old objects still do has an
  // effect. They drain, because all their I/O fails.
  void cut();
  bool is_cut() const { return cut_; }

  SimDrive& drive() { return drive_; }
  uint32_t in_flight() const { return in_flight_; }

  io::Task<Status> close() override;

 protected:
  void do_submit(io::IoRequest& request) override;

 private:
  friend class SimDrive;
  SimDrive& drive_;
  io::Loop& owner_;
  bool cut_ = false;
  uint32_t in_flight_ = 0;
};

}  // namespace bb::sim
