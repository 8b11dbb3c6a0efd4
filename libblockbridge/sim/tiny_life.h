// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "raid/array.h"
#include "sim/sim_net.h"
#include "sim/tiny_authority.h"
#include "sim/tiny_device.h"

namespace bb::sim {

// What a life of an array starts from.
struct TinyStart {
  std::vector<TinyImage> images;  // by slot
  std::optional<raid::MembershipRecord> record;
};

// The real array from its start to its end, on drives that serve it at once until they are held.
// Nothing waits in here but for timers, and those fire when it is told.
class TinyLife {
 public:
  TinyLife(const TinyConfig& config, TinyStart start);
  ~TinyLife();
  TinyLife(const TinyLife&) = delete;

  Status create();
  Status assemble(uint64_t without_mask);
  // Called between one answer and the next while drives are held and create() … close() wait.
  void at_each_step(std::function<void()> call) { at_step_ = std::move(call); }
  void hold();                      // drives and authority wait for whoever explores
  void run_ready();                 // until nothing is left to do without an answer or a timer
  bool go_on();                     // the next answer, or else the next timer; false: neither
  bool tick();                      // the next timer fires; false: none is armed
  void pass(uint64_t duration_ns);  // so much time, with the timers that are due by then
  Status read(Bytes into);
  Status write(uint64_t offset_bytes, ConstBytes from);
  Status close();  // as an owner does
  void crash();    // its objects come to their end and have no effect

  raid::Array& array() { return *array_; }
  bool has_array() const { return array_ != nullptr; }
  TinyAuthority& authority() { return authority_; }
  TinyDevice& device(size_t slot) { return *devices_[slot]; }
  size_t devices() const { return devices_.size(); }
  std::vector<TinyRemains> remains() const;
  const raid::Shape& shape() const { return shape_; }

 private:
  template <typename T>
  T finish(io::Task<T> task);
  bool answer_one();
  raid::ArrayOptions options() const;

  const TinyConfig& config_;
  raid::Shape shape_;
  SimLoop world_;
  SimNet net_;
  std::unique_ptr<io::Network> port_;
  TinyAuthority authority_;
  std::vector<std::unique_ptr<TinyDevice>> devices_;
  std::unique_ptr<raid::Array> array_;
  std::function<void()> at_step_;
};

}  // namespace bb::sim
