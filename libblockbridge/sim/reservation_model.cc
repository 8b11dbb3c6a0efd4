// SPDX-License-Identifier: Apache-2.0
#include "sim/reservation_model.h"

namespace bb::sim {
namespace {

constexpr int kInvalidField = 0x02;
constexpr int kInternalError = 0x06;
constexpr int kSequence = 0x0c;
constexpr int kConflict = 0x83;

ReservationModel::Reply says(int status) {
  ReservationModel::Reply reply;
  reply.status = status;
  return reply;
}

}  // namespace

// The figure's columns: write exclusive, exclusive access, write exclusive of registrants or all,
// exclusive access of registrants or all; each for somebody else and for a registrant.
bool ReservationModel::may(int host, const char* row) const {
  static const int column_of_type[] = {-1, 0, 2, 4, 6, 4, 6};
  if (type_ == 0 || holders_.count(host) > 0) return true;
  return row[column_of_type[type_] + (keys_.count(host) > 0 ? 1 : 0)] == 'A';
}

void ReservationModel::drop(int host) {
  keys_.erase(host);
  holders_.erase(host);
  if (holders_.empty()) type_ = 0;
}

void ReservationModel::lose_power() {
  if (persistent_) return;
  keys_.clear();
  holders_.clear();
  type_ = 0;
  generation_ = 0;
}

ReservationModel::Reply ReservationModel::on_register(int host, uint32_t cdw10,
                                                      uint64_t current_key, uint64_t new_key) {
  int action = static_cast<int>(cdw10 & 7);
  bool ignore = ((cdw10 >> 3) & 1) == 1;
  int persist = static_cast<int>(cdw10 >> 30);
  if (action > 2 || persist == 1) return says(kInvalidField);
  if (host == 0) return says(kSequence);
  if (action != 1 && new_key == 0) return says(kInvalidField);
  if (persist == 3 && !may_persist_) return says(kInvalidField);
  bool known = keys_.count(host) > 0;
  Reply reply;
  if (action == 0) {
    if (known && keys_[host] != new_key) return says(kConflict);
  } else if (action == 2) {
    if (!ignore && (!known || keys_[host] != current_key)) return says(kConflict);
  } else {
    if (!known) return says(kConflict);
    if (!ignore && keys_[host] != current_key) return says(kConflict);
    int type_before = type_;
    drop(host);
    if (type_before != 0 && type_ == 0 && (type_before == 3 || type_before == 4)) {
      for (const auto& [other, key] : keys_) reply.notices.insert({other, 2});
    }
  }
  if (action != 1) {
    if (!known && keys_.size() == registrants_max_) return says(kInternalError);
    keys_[host] = new_key;
    if (everybody_holds()) holders_.insert(host);
  }
  if (persist == 2) persistent_ = false;
  if (persist == 3) persistent_ = true;
  generation_ += 1;
  return reply;
}

// The reservation goes to `host`, and `victims` are unregistered, in one step.
ReservationModel::Reply ReservationModel::take_over(int host, int new_type,
                                                    const std::set<int>& victims) {
  Reply reply;
  int type_before = type_;
  for (int victim : victims) {
    keys_.erase(victim);
    reply.notices.insert({victim, 1});
    reply.preempted.insert(victim);
  }
  type_ = new_type;
  holders_ = {host};
  if (everybody_holds()) {
    for (const auto& [other, key] : keys_) holders_.insert(other);
  }
  if (type_before != new_type) {
    for (const auto& [other, key] : keys_) {
      if (other != host) reply.notices.insert({other, 2});
    }
  }
  return reply;
}

ReservationModel::Reply ReservationModel::on_acquire(int host, uint32_t cdw10, uint64_t current_key,
                                                     uint64_t preempt_key) {
  int action = static_cast<int>(cdw10 & 7);
  int new_type = static_cast<int>((cdw10 >> 8) & 0xff);
  if (action > 2 || ((cdw10 >> 3) & 1) == 1) return says(kInvalidField);
  if (new_type < 1 || new_type > 6) return says(kInvalidField);
  if (keys_.count(host) == 0 || keys_[host] != current_key) return says(kConflict);
  if (action == 0) {
    if (type_ != 0) {
      return says(holders_.count(host) > 0 && type_ == new_type ? 0 : kConflict);
    }
    type_ = new_type;
    holders_ = {host};
    if (everybody_holds()) {
      for (const auto& [other, key] : keys_) holders_.insert(other);
    }
    return says(0);
  }
  std::set<int> others_with_key;
  for (const auto& [other, key] : keys_) {
    if (other != host && key == preempt_key) others_with_key.insert(other);
  }
  Reply reply;
  if (everybody_holds() && preempt_key == 0) {
    std::set<int> all_others;
    for (const auto& [other, key] : keys_) {
      if (other != host) all_others.insert(other);
    }
    reply = take_over(host, new_type, all_others);
  } else if (type_ != 0 && !everybody_holds() && keys_[*holders_.begin()] == preempt_key) {
    reply = take_over(host, new_type, others_with_key);
  } else if (preempt_key == 0) {
    return says(kInvalidField);
  } else {
    bool itself = keys_[host] == preempt_key;
    if (others_with_key.empty() && !itself) return says(kConflict);
    for (int victim : others_with_key) {
      drop(victim);
      reply.notices.insert({victim, 1});
      reply.preempted.insert(victim);
    }
    if (itself) drop(host);
  }
  if (action != 2) reply.preempted.clear();
  generation_ += 1;
  return reply;
}

ReservationModel::Reply ReservationModel::on_release(int host, uint32_t cdw10,
                                                     uint64_t current_key) {
  int action = static_cast<int>(cdw10 & 7);
  int named_type = static_cast<int>((cdw10 >> 8) & 0xff);
  if (action > 1 || ((cdw10 >> 3) & 1) == 1) return says(kInvalidField);
  if (action == 0 && named_type > 6) return says(kInvalidField);
  if (keys_.count(host) == 0 || keys_[host] != current_key) return says(kConflict);
  Reply reply;
  if (action == 1) {
    for (const auto& [other, key] : keys_) {
      if (other != host) reply.notices.insert({other, 3});
    }
    keys_.clear();
    holders_.clear();
    type_ = 0;
    generation_ += 1;
    return reply;
  }
  if (holders_.count(host) == 0) return reply;
  if (named_type != type_) return says(kInvalidField);
  if (type_ >= 3) {
    for (const auto& [other, key] : keys_) {
      if (other != host) reply.notices.insert({other, 2});
    }
  }
  type_ = 0;
  holders_.clear();
  return reply;
}

}  // namespace bb::sim
