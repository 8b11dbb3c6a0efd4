// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/log.h"
#include "io/stream.h"
#include "io/there.h"

namespace bb::io {

struct StatsReport;

// What a server has on other loops than the one where it accepts: a part on each, which is made,
// used and stopped there. Places are counted from 1; 0 is the server's own loop. A `Part` adopts
// connections (`adopt`), tells of itself (`collect`) and stops (`stop`).
template <typename Part>
class LoopParts {
 public:
  explicit LoopParts(Loop& loop) : loop_(loop), refusing_(loop) {}
  ~LoopParts() { BB_CHECK(parts_.empty(), "parts on other loops were left without stop()"); }

  size_t size() const { return parts_.size(); }
  Part& at(size_t place) { return *parts_[place - 1].part; }

  // `make` gives a Task<Result<std::unique_ptr<Part>>>, which runs on the loop of `runtime`. That
  // is borrowed until stop() has returned.
  template <typename Make>
  Task<Status> add(Runtime* runtime, Make make) {
    BB_CO_ASSIGN(auto part, co_await run_there(loop_, *runtime, std::move(make)));
    parts_.push_back({.runtime = runtime, .part = std::move(part)});
    co_return Status();
  }

  // Runs the task that `use(part)` gives on the loop of the part.
  template <typename Use, typename T = typename std::invoke_result_t<Use&, Part&>::value_type>
  Task<T> run(size_t place, Use use) {
    auto there = [&use, part = &at(place)] { return use(*part); };
    co_return co_await run_there(loop_, *parts_[place - 1].runtime, std::move(there));
  }

  // A connection goes to its home, or is closed if it cannot move.
  template <typename Handover>
  void hand_over(Handover one) {
    There& home = parts_[one.home - 1];
    if (!one.stream->move_to(home.runtime->reactor())) {
      refusing_.spawn(refuse(std::move(one.stream)));
      return;
    }
    post_there(*home.runtime, [part = home.part.get(), handover = std::move(one)]() mutable {
      part->adopt(std::move(handover));
    });
  }

  // One loop after the other.
  Task<void> collect(StatsReport* into) {
    for (size_t place = 1; place <= size(); ++place) {
      (void)co_await run(place, [into](Part& part) -> Task<Status> {
        part.collect(into);
        co_return Status();
      });
    }
  }

  // Once nothing is handed over any more.
  Task<void> stop() {
    co_await refusing_.join();
    for (size_t place = 1; place <= size(); ++place) {
      (void)co_await run(place, [own = &parts_[place - 1].part](Part& part) -> Task<Status> {
        co_await part.stop();
        own->reset();
        co_return Status();
      });
    }
    parts_.clear();
  }

 private:
  struct There {
    Runtime* runtime = nullptr;
    std::unique_ptr<Part> part;
  };

  static Task<void> refuse(std::unique_ptr<Stream> stream) {
    log_warn("{}: a connection that cannot change its loop now -> closed", stream->peer());
    co_await stream->close();
  }

  Loop& loop_;
  std::vector<There> parts_;
  TaskGroup refusing_;
};

}  // namespace bb::io
