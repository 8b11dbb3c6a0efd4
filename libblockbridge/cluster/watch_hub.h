// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>

#include "cluster/kv_core.h"
#include "cluster/store.h"
#include "io/sync.h"

namespace bb::cluster {

// The watches on a core that lives in this process.
class WatchHub {
 public:
  explicit WatchHub(const KvCore& core) : core_(core) {}
  ~WatchHub() {
    BB_CHECK(watches_.empty(), "a store was destroyed under {} watches", watches_.size());
  }

  // `cut_off`: while true, no events are given out: a partition of the model. May be null.
  std::unique_ptr<Watch> add(io::Loop& loop, std::string prefix, uint64_t from_revision,
                             const bool* cut_off = nullptr);
  void wake();       // the core has changed, or somebody is reachable again
  void close_all();  // every next() ends with CANCELLED

 private:
  class HubWatch;
  const KvCore& core_;
  std::set<HubWatch*> watches_;
};

}  // namespace bb::cluster
