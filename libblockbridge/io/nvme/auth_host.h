// SPDX-License-Identifier: Apache-2.0
// pure: the host's side of one queue's authentication, NVMe base 2.0 §8.13
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/nvme/auth_controller.h"

namespace bb::io::nvme {

// The host leads: it sends next(), computes exchange() when there is one, receives what the
// controller answers into on_message, until done().
class AuthHost {
 public:
  struct Options {
    AuthPolicy policy;                     // what is offered
    AuthSecret host;                       // what we prove
    std::optional<AuthSecret> controller;  // what the controller must prove that it knows
    std::string host_nqn;
    std::string subsystem_nqn;
    uint16_t transaction = 1;
    FillRandom random = nullptr;
  };

  explicit AuthHost(Options options);

  // The message to send now; empty: one is to be received, or done().
  std::vector<std::byte> next() { return std::exchange(out_, {}); }
  void on_message(ConstBytes message);
  DhExchange* exchange() { return computing_ ? &exchange_ : nullptr; }
  void on_computed();

  bool done() const { return done_ && out_.empty(); }
  // Once done: PERMISSION_DENIED with the reason, or ok.
  const Status& status() const { return status_; }

 private:
  void fail(AuthFault fault, std::string why);
  void on_challenge(AuthChallenge message);
  void on_success(const AuthSuccess1& message);
  void reply();

  Options options_;
  std::vector<std::byte> out_;
  bool computing_ = false;
  bool done_ = false;
  Status status_;
  DhExchange exchange_;
  std::optional<AuthChallenge> challenge_;
  std::vector<std::byte> ours_;  // C2
  uint32_t sequence_ = 0;        // S2
};

}  // namespace bb::io::nvme
