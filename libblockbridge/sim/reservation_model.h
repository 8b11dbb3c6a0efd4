// SPDX-License-Identifier: Apache-2.0
// pure: what NVMe base 2.0, 8.19 says of reservations, written a second time and differently
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace bb::sim {

// One namespace and its hosts as plain numbers, straight from the prose of the specification and
// sharing nothing with the code under test: actions, types and status codes are the numbers on the
// wire, holders are a set that is kept up to date, and every paragraph is one branch.
class ReservationModel {
 public:
  struct Reply {
    int status = 0;                         // status code: 0, 0x02, 0x06, 0x0c or 0x83
    std::set<std::pair<int, int>> notices;  // host, notification type
    std::set<int> preempted;                // whose commands a preempt-and-abort ends
  };

  ReservationModel(bool may_persist, std::size_t registrants_max)
      : may_persist_(may_persist), registrants_max_(registrants_max) {}

  // Hosts are numbers from 1; 0 is a host without identifier.
  Reply on_register(int host, uint32_t cdw10, uint64_t current_key, uint64_t new_key);
  Reply on_acquire(int host, uint32_t cdw10, uint64_t current_key, uint64_t preempt_key);
  Reply on_release(int host, uint32_t cdw10, uint64_t current_key);

  bool may_read(int host) const { return may(host, "AACCAACA"); }
  bool may_write(int host) const { return may(host, "CCCCCACA"); }
  void lose_power();  // what does not persist is gone

  const std::map<int, uint64_t>& keys() const { return keys_; }
  const std::set<int>& holders() const { return holders_; }
  int type() const { return type_; }
  bool persistent() const { return persistent_; }
  uint32_t generation() const { return generation_; }

 private:
  bool may(int host, const char* row) const;
  bool everybody_holds() const { return type_ == 5 || type_ == 6; }
  void drop(int host);
  Reply take_over(int host, int new_type, const std::set<int>& victims);

  bool may_persist_;
  std::size_t registrants_max_;
  std::map<int, uint64_t> keys_;
  std::set<int> holders_;
  int type_ = 0;
  bool persistent_ = false;
  uint32_t generation_ = 0;
};

}  // namespace bb::sim
