// SPDX-License-Identifier: Apache-2.0
// pure: the controller's side of one queue's authentication, NVMe base 2.0 §8.13
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/nvme/auth_message.h"
#include "io/nvme/auth_secret.h"

namespace bb::io::nvme {

// What a controller accepts, its favourite first. Without a key exchange (DhGroup::kNull) whoever
// reads along can try secrets at leisure: it is not among the groups unless asked for.
struct AuthPolicy {
  std::vector<Hash> hashes = {Hash::kSha256, Hash::kSha384, Hash::kSha512};
  std::vector<DhGroup> groups = {DhGroup::kFfdhe3072, DhGroup::kFfdhe4096, DhGroup::kFfdhe2048,
                                 DhGroup::kFfdhe6144, DhGroup::kFfdhe8192};
};

using FillRandom = void (*)(Bytes into);  // not to be guessed

// Waits for AUTH_Negotiate, and is led by the host from there: what it sends goes into on_send,
// what it asks for comes from on_receive. Each challenge, key and sequence number is used once.
class AuthController {
 public:
  struct Options {
    AuthPolicy policy;
    AuthSecret host;                       // what the host proves that it knows
    std::optional<AuthSecret> controller;  // what we prove, if asked to
    std::string host_nqn;
    std::string subsystem_nqn;
    FillRandom random = nullptr;
  };

  explicit AuthController(Options options) : options_(std::move(options)) {}

  // Once exchange() is set, somebody computes it and calls on_computed before anything else.
  void on_send(ConstBytes message);
  DhExchange* exchange() { return computing_ ? &exchange_ : nullptr; }
  void on_computed();
  // The message that is due: a challenge, a success, or why not. Empty: none is (the host asks out
  // of turn, which ends in a failure the next time it asks).
  std::vector<std::byte> on_receive();

  bool authenticated() const { return state_ == State::kAuthenticated; }
  // The host knows (or said itself) that it failed: the connection is of no use any more.
  bool failed() const { return state_ == State::kFailed; }
  const std::string& reason() const { return reason_; }

 private:
  enum class State : uint8_t {
    kNegotiate,     // for AUTH_Negotiate
    kKeyWanted,     // our key is being made
    kChallengeDue,  // to be fetched
    kReply,         // for the reply
    kSharedWanted,  // the shared secret is being computed
    kSuccessDue,    // to be fetched
    kSuccess2,      // for the host's word that it accepts us
    kAuthenticated,
    kFailureDue,  // to be fetched
    kFailed,
  };

  void fail(AuthFault fault, std::string why);
  void on_negotiate(const AuthNegotiate& message);
  void on_reply(AuthReply message);
  void verify();
  std::vector<std::byte> challenge();
  std::vector<std::byte> success();

  Options options_;
  State state_ = State::kNegotiate;
  bool computing_ = false;
  DhExchange exchange_;
  Hash hash_ = Hash::kSha256;
  uint16_t transaction_ = 0;
  uint8_t secure_channel_ = 0;
  uint32_t sequence_ = 0;  // S1 of the present transaction; each is larger by one
  std::vector<std::byte> challenge_;
  AuthReply reply_;
  AuthFault fault_ = AuthFault::kFailed;
  std::string reason_;
};

}  // namespace bb::io::nvme
