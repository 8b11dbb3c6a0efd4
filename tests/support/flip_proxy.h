// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <list>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/prng.h"
#include "io/context.h"
#include "io/sync.h"

namespace bb::test {

// A TCP proxy that inverts one bit, once armed, somewhere in what passes: in either direction, in
// headers and data alike. Connection initialisation (the first 128 bytes each way) has no digest
// and is let through.
class FlipProxy {
 public:
  FlipProxy(io::Context context, std::string target, uint64_t seed)
      : context_(context),
        target_(std::move(target)),
        prng_(seed),
        accepting_(context.loop),
        serving_(context.loop) {
    listener_ = std::move(context.network.listen({"127.0.0.1:0"})).value();
    accepting_.spawn(accept(this));
  }

  std::string address() const { return listener_->local_address(); }
  // The next flip comes `skip_bytes` of traffic, or of headers only, from now.
  void arm(uint64_t skip_bytes, bool at_header) {
    skip_bytes_ = skip_bytes;
    at_header_ = at_header;
    armed_ = true;
  }
  bool armed() const { return armed_; }
  uint64_t flips(int direction) const { return flips_[static_cast<size_t>(direction)]; }

  io::Task<void> stop() {
    listener_->shutdown();
    co_await accepting_.join();
    for (Pair& pair : pairs_) shut(pair);
    co_await serving_.join();
    co_await listener_->close();
  }

 private:
  static constexpr uint64_t kHeaderBytes = 28;  // the shortest, with its digest
  struct Pair {
    std::unique_ptr<io::Stream> ends[2];  // host, target
    int running = 0;
  };

  static void shut(Pair& pair) {
    for (auto& end : pair.ends) {
      if (end != nullptr) end->shutdown();
    }
  }

  static io::Task<void> accept(FlipProxy* self) {
    for (;;) {
      auto host = co_await self->listener_->accept();
      if (!host.ok()) co_return;
      auto target = co_await self->context_.network.connect(
          {self->target_}, self->context_.loop.now_ns() + 1'000'000'000);
      if (!target.ok()) {
        co_await (*host)->close();
        continue;
      }
      self->pairs_.emplace_back();
      auto pair = std::prev(self->pairs_.end());
      pair->ends[0] = std::move(host).value();
      pair->ends[1] = std::move(target).value();
      pair->running = 2;
      self->serving_.spawn(pump(self, pair, 0));
      self->serving_.spawn(pump(self, pair, 1));
    }
  }

  // Where in its PDU a direction of a connection is: enough to aim at headers.
  struct Tracker {
    uint64_t pdus = 0;
    uint64_t at = 0;  // within the PDU
    uint64_t length = 8;
    std::byte common[8] = {};

    bool aimed(bool at_header) const { return pdus > 0 && (!at_header || at < kHeaderBytes); }
    void pass(std::byte byte) {
      if (at < 8) common[at] = byte;
      if (++at == 8) length = std::max<uint64_t>(8, load_le<uint32_t>(common + 4));
      if (at < 8 || at < length) return;
      ++pdus;
      at = 0;
      length = 8;
    }
  };

  void maybe_flip(Bytes bytes, Tracker& tracker, int direction) {
    for (std::byte& byte : bytes) {
      std::byte before = byte;
      if (armed_ && tracker.aimed(at_header_) && skip_bytes_-- == 0) {
        byte ^= static_cast<std::byte>(1u << prng_.below(8));
        armed_ = false;
        ++flips_[static_cast<size_t>(direction)];
      }
      tracker.pass(before);
    }
  }

  static io::Task<void> pump(FlipProxy* self, std::list<Pair>::iterator pair, int from) {
    std::vector<std::byte> buffer(65536);
    Tracker tracker;
    for (;;) {
      auto got = co_await pair->ends[from]->recv_some(buffer);
      if (!got.ok() || *got == 0) break;
      Bytes bytes = Bytes(buffer).first(*got);
      self->maybe_flip(bytes, tracker, from);
      auto sent = co_await pair->ends[1 - from]->send_all(bytes);
      if (!sent.ok()) break;
    }
    shut(*pair);
    if (--pair->running > 0) co_return;
    for (auto& end : pair->ends) co_await end->close();
    self->pairs_.erase(pair);
  }

  io::Context context_;
  std::string target_;
  Prng prng_;
  std::unique_ptr<io::Listener> listener_;
  std::list<Pair> pairs_;
  uint64_t skip_bytes_ = 0;
  bool armed_ = false;
  bool at_header_ = false;
  std::array<uint64_t, 2> flips_{};
  io::TaskGroup accepting_;
  io::TaskGroup serving_;
};

}  // namespace bb::test
