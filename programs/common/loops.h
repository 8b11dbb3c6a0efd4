// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "io/runtime.h"
#include "io/there.h"

namespace bb::program {

// The loops of a daemon: the one of its main thread, and others with threads of their own. Things
// that are counted are dealt out to them in turn.
class Loops {
 public:
  static Result<Loops> create(io::Context front, uint32_t count, io::ReactorOptions options) {
    Loops loops(front);
    for (uint32_t i = 1; i < count; ++i) {
      BB_ASSIGN(std::unique_ptr<io::Runtime> one, io::Runtime::create(true, options));
      loops.others_.push_back(std::move(one));
    }
    return loops;
  }

  io::Context front() const { return front_; }
  size_t size() const { return 1 + others_.size(); }
  size_t place(size_t index) const { return index % size(); }
  io::Context at(size_t index) {
    return place(index) == 0 ? front_ : others_[place(index) - 1]->context();
  }
  std::vector<io::Runtime*> others() const {
    std::vector<io::Runtime*> all;
    all.reserve(others_.size());
    for (const auto& one : others_) all.push_back(one.get());
    return all;
  }

  // Runs the task that `make()` gives on the loop of what has this index.
  template <typename Make, typename T = typename std::invoke_result_t<Make&>::value_type>
  io::Task<T> run(size_t index, Make make) {
    if (place(index) == 0) co_return co_await make();
    co_return co_await io::run_there(front_.loop, *others_[place(index) - 1], std::move(make));
  }

 private:
  explicit Loops(io::Context front) : front_(front) {}

  io::Context front_;
  std::vector<std::unique_ptr<io::Runtime>> others_;
};

}  // namespace bb::program
