// SPDX-License-Identifier: Apache-2.0
// Members that answer much later than their peers: not read from where others can be, told, and, if
// that is wanted, failed before hosts run out of patience.
#include "raid/array_core.h"

namespace bb::raid {

io::Task<void> ArrayCore::slow_loop() {
  while (!stop_background_) {
    co_await stop_.wait_until(loop_.now_ns() + options_.slow_check_ns);
    if (stop_background_) break;
    judge_paces();
    if (options_.slow_fail_ns != 0) co_await fail_slow_members();
  }
}

void ArrayCore::judge_paces() {
  std::vector<Member*> who;
  std::vector<MemberWork> work;
  for (const auto& member : members_) {
    if (!member->writable() || !member->listed || member->device->meter() == nullptr) continue;
    io::IoStats stats = member->device->meter()->stats();
    MemberWork total;
    for (io::IoKind kind : {io::IoKind::kRead, io::IoKind::kWrite}) {
      const Histogram& taken = stats.kind(kind).stage(io::IoStage::kTotal);
      total.requests += taken.count();
      total.total_ns += taken.sum();
    }
    who.push_back(member.get());
    work.push_back(
        {total.requests - member->work.requests, total.total_ns - member->work.total_ns});
    member->work = total;
  }
  std::vector<Pace> paces = compare_paces(work);
  for (size_t i = 0; i < who.size(); ++i) {
    bool before = who[i]->pace.slow();
    who[i]->pace.period(paces[i], loop_.now_ns());
    if (who[i]->pace.slow() == before) continue;
    log_warn("array \"{}\": {} {} ({} us on average)", record_.name, name_of(*who[i]),
             before ? "is as fast as the others again"
                    : "is much slower than the others -> reads go elsewhere",
             work[i].mean_ns() / kNsPerUs);
  }
}

// One at a time, and none that the array needs.
io::Task<void> ArrayCore::fail_slow_members() {
  for (size_t i = 0; i < members_.size(); ++i) {
    Member* member = members_[i].get();
    bool due = member->pace.slow() && member->readable() &&
               loop_.now_ns() - member->pace.since_ns() >= options_.slow_fail_ns;
    if (!due || !holds_all(member)) continue;
    Status failed = co_await fail_member(member->uuid, "much slower than the others");
    if (!failed.ok()) {
      log_info("array \"{}\": {} stays: {}", record_.name, name_of(*member), failed.to_string());
    }
    co_return;
  }
}

}  // namespace bb::raid
