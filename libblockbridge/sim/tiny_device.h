// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "io/device.h"
#include "sim/tiny_config.h"
#include "sim/tiny_image.h"

namespace bb::sim {

// A write that a crash may take back.
struct TinyWrite {
  uint64_t offset_bytes = 0;
  std::vector<std::byte> bytes;
  uint64_t hash = 0;  // of both
  uint64_t number = 0;
  bool durable = false;  // only behind one that is not, which it overlaps
};

// What a crash finds of a drive: what is durable, and, in the order in which they took effect,
// writes each of which may be there or not.
struct TinyRemains {
  TinyImage durable;
  std::vector<TinyWrite> loose;
};

// A drive that does nothing by itself: whoever explores says which of its requests completes next.
// Until then it serves everything at once, and durably.
class TinyDevice final : public io::Device {
 public:
  struct Pending {
    uint64_t number = 0;  // the how-manieth request of the drive it is
    io::IoRequest* request = nullptr;
    TinyWrite write;      // its memory as it was when it came
    uint64_t covers = 0;  // flush: all that was complete when it came
  };

  TinyDevice(std::string name, TinyImage image);

  void hold() {
    held_ = true;
    durable_ = current_;
  }
  const std::vector<Pending>& pending() const { return pending_; }
  const Pending* find(uint64_t number) const;
  void complete(uint64_t number);
  // What is under way fails now, whether it had taken effect or not; so does all that comes later.
  void fail(TinyTrouble how);
  TinyTrouble trouble() const { return trouble_; }
  // Was it asked for a flush or a read since the last call?
  bool take_asked_order() { return std::exchange(asked_order_, false); }
  TinyRemains remains() const;
  const TinyImage& image() const { return current_; }

  io::Task<Status> close() override;

 protected:
  void do_submit(io::IoRequest& request) override;

 private:
  Status at_once(io::IoRequest& request);
  Status trouble_status() const;
  void take_effect(Pending& pending);
  void flush(uint64_t covers);
  void settle_front();

  TinyImage current_;
  TinyImage durable_;
  std::vector<TinyWrite> loose_;  // complete; its numbers are in the order of completion
  std::vector<Pending> pending_;
  uint64_t requests_ = 0;
  uint64_t completions_ = 0;
  bool held_ = false;
  bool asked_order_ = false;
  TinyTrouble trouble_ = TinyTrouble::kNone;
};

}  // namespace bb::sim
