// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "io/runtime.h"
#include "io/sync.h"

namespace bb::io {

// Runs the task that `make()` gives on the loop of `there`, a runtime with a thread of its own, and
// goes on here with its value. `make` lives until then.
template <typename Make, typename T = typename std::invoke_result_t<Make&>::value_type>
Task<T> run_there(Loop& here, Runtime& there, Make make) {
  struct Back : Work {
    Event done;
    std::optional<T> value;
    explicit Back(Loop& loop) : done(loop) {
      run = [](Work* work) { static_cast<Back*>(work)->done.set(); };
    }
  } back(here);
  there.start(std::move(make), [&here, &back](T value) {
    back.value.emplace(std::move(value));
    here.post_remote(back);
  });
  while (!back.done.is_set()) co_await back.done.wait();
  co_return std::move(*back.value);
}

// Runs `go` once on the loop of `there`, in the order of these calls; nobody waits.
template <typename Go>
void post_there(Runtime& there, Go go) {
  struct Job : Work {
    Go go;
    explicit Job(Go g) : go(std::move(g)) {
      run = [](Work* work) {
        std::unique_ptr<Job> self(static_cast<Job*>(work));
        self->go();
      };
    }
  };
  there.reactor().post_remote(*new Job(std::move(go)));
}

}  // namespace bb::io
