// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/key_exchanger.h"

#include <algorithm>

#include "base/units.h"
#include "io/offload.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kPauseMaxNs = 50 * kNsPerMs;

}  // namespace

Task<void> KeyExchanger::run(DhExchange* exchange) {
  uint64_t begun_ns = context_.loop.now_ns();
  if (context_.offload != nullptr) {
    co_await context_.offload->run(context_.loop, [exchange] { exchange->compute(); });
  } else {
    exchange->compute();
  }
  uint64_t now_ns = context_.loop.now_ns();
  not_before_ns_ = now_ns + std::min(now_ns - begun_ns, kPauseMaxNs);
}

}  // namespace bb::io::nvme
