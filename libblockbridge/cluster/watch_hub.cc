// SPDX-License-Identifier: Apache-2.0
#include "cluster/watch_hub.h"

namespace bb::cluster {

class WatchHub::HubWatch final : public Watch {
 public:
  HubWatch(WatchHub& hub, io::Loop& loop, std::string prefix, uint64_t from, const bool* cut_off)
      : hub_(hub), prefix_(std::move(prefix)), from_(from), cut_off_(cut_off), changed_(loop) {
    hub_.watches_.insert(this);
  }
  ~HubWatch() override { hub_.watches_.erase(this); }

  io::Task<Result<std::vector<WatchEvent>>> next() override {
    for (;;) {
      if (cancelled_) co_return error(Code::k_cancelled, "watch \"{}\": cancelled", prefix_);
      if (cut_off_ == nullptr || !*cut_off_) {
        auto events = hub_.core_.events(prefix_, from_);
        if (!events.ok()) co_return events.status();
        // What other prefixes did is seen too, or it would count as a gap once it is compacted.
        from_ = std::max(from_, hub_.core_.revision() + 1);
        if (!events->empty()) co_return events;
      }
      changed_.reset();
      co_await changed_.wait();
    }
  }
  void cancel() override {
    cancelled_ = true;
    changed_.set();
  }
  void wake() { changed_.set(); }

 private:
  WatchHub& hub_;
  std::string prefix_;
  uint64_t from_;
  const bool* cut_off_;
  io::Event changed_;
  bool cancelled_ = false;
};

std::unique_ptr<Watch> WatchHub::add(io::Loop& loop, std::string prefix, uint64_t from_revision,
                                     const bool* cut_off) {
  if (from_revision == 0) from_revision = core_.revision() + 1;
  return std::make_unique<HubWatch>(*this, loop, std::move(prefix), from_revision, cut_off);
}

void WatchHub::wake() {
  for (HubWatch* watch : watches_) watch->wake();
}

void WatchHub::close_all() {
  for (HubWatch* watch : watches_) watch->cancel();
}

}  // namespace bb::cluster
