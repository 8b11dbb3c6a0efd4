// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_controller.h"

#include <algorithm>

#include "base/check.h"
#include "io/nvme/auth_response.h"

namespace bb::io::nvme {
namespace {

// Our favourite of what both know.
template <typename T>
std::optional<T> choose(const std::vector<T>& ours, const std::vector<T>& theirs) {
  for (T one : ours) {
    if (std::find(theirs.begin(), theirs.end(), one) != theirs.end()) return one;
  }
  return std::nullopt;
}

}  // namespace

void AuthController::fail(AuthFault fault, std::string why) {
  state_ = State::kFailureDue;
  fault_ = fault;
  reason_ = std::move(why);
  exchange_ = {};
}

void AuthController::on_send(ConstBytes bytes) {
  BB_CHECK(!computing_, "a message while a key exchange is computed");
  if (failed()) return;
  Result<AuthMessage> message = decode_auth(bytes);
  if (!message.ok()) {
    bool type = message.code() == Code::k_not_supported;
    return fail(type ? AuthFault::kIncorrectMessage : AuthFault::kIncorrectPayload,
                message.status().text());
  }
  if (const auto* failure = std::get_if<AuthFailure>(&*message); failure != nullptr) {
    if (!failure->from_host) return fail(AuthFault::kIncorrectMessage, "AUTH_Failure1 from a host");
    reason_ = fmt::format("the host refuses us: {}", auth_fault_text(failure->fault));
    state_ = State::kFailed;
    return;
  }
  const auto* negotiate = std::get_if<AuthNegotiate>(&*message);
  bool first = state_ == State::kNegotiate || state_ == State::kAuthenticated;
  if (negotiate != nullptr && first) return on_negotiate(*negotiate);
  if (state_ == State::kFailureDue) return;
  bool expected = (std::holds_alternative<AuthReply>(*message) && state_ == State::kReply) ||
                  (std::holds_alternative<AuthSuccess2>(*message) && state_ == State::kSuccess2);
  if (!expected) {
    return fail(AuthFault::kIncorrectMessage, fmt::format("{} out of turn", auth_name(*message)));
  }
  if (auth_transaction(*message) != transaction_) {
    return fail(AuthFault::kIncorrectPayload,
                fmt::format("{} of transaction {}, the present one is {}", auth_name(*message),
                            auth_transaction(*message), transaction_));
  }
  if (auto* reply = std::get_if<AuthReply>(&*message)) return on_reply(std::move(*reply));
  state_ = State::kAuthenticated;
}

void AuthController::on_negotiate(const AuthNegotiate& message) {
  transaction_ = message.transaction;
  secure_channel_ = message.secure_channel;
  if (secure_channel_ != 0) {
    return fail(AuthFault::kConcatenationMismatch, "the host wants TLS to follow");
  }
  if (message.hashes.empty() && message.groups.empty()) {
    return fail(AuthFault::kProtocolUnusable, "the host offers no protocol known here");
  }
  auto hash = choose(options_.policy.hashes, message.hashes);
  if (!hash) return fail(AuthFault::kHashUnusable, "the host offers no hash accepted here");
  auto group = choose(options_.policy.groups, message.groups);
  if (!group) return fail(AuthFault::kDhGroupUnusable, "the host offers no group accepted here");
  hash_ = *hash;
  exchange_ = {.group = *group};
  computing_ = *group != DhGroup::kNull;
  state_ = computing_ ? State::kKeyWanted : State::kChallengeDue;
}

void AuthController::on_computed() {
  computing_ = false;
  if (state_ == State::kKeyWanted) {
    if (!exchange_.status.ok()) return fail(AuthFault::kFailed, exchange_.status.text());
    state_ = State::kChallengeDue;
    return;
  }
  BB_CHECK(state_ == State::kSharedWanted, "a computation nobody waits for");
  if (!exchange_.status.ok()) return fail(AuthFault::kIncorrectPayload, exchange_.status.text());
  verify();
}

void AuthController::on_reply(AuthReply message) {
  if (message.response.size() != hash_bytes(hash_) ||
      message.dh_value.size() != dh_bytes(exchange_.group)) {
    return fail(AuthFault::kIncorrectPayload,
                fmt::format("a reply of {} and {} bytes to a challenge of {} and {}",
                            message.response.size(), message.dh_value.size(), hash_bytes(hash_),
                            dh_bytes(exchange_.group)));
  }
  // Whoever sends our challenge back wants us to compute the answer to it (§8.13.5.4).
  if (message.challenge == challenge_) {
    return fail(AuthFault::kFailed, "the host sent our own challenge back");
  }
  reply_ = std::move(message);
  if (exchange_.group == DhGroup::kNull) return verify();
  exchange_.theirs = reply_.dh_value;
  computing_ = true;
  state_ = State::kSharedWanted;
}

void AuthController::verify() {
  Secret key = options_.host.key_of(options_.host_nqn);
  AuthProof proof{.hash = hash_,
                  .key = key.bytes(),
                  .challenge = challenge_,
                  .shared = exchange_.shared.bytes(),
                  .sequence = sequence_,
                  .transaction = transaction_,
                  .secure_channel = secure_channel_,
                  .host_nqn = options_.host_nqn,
                  .subsystem_nqn = options_.subsystem_nqn};
  if (!same_secret(proof.host_response().bytes(), reply_.response)) {
    return fail(AuthFault::kFailed, "the host has another secret");
  }
  if (!reply_.challenge.empty() && !options_.controller) {
    return fail(AuthFault::kFailed,
                "the host wants us to prove ourselves: no secret to do it with");
  }
  if (!reply_.challenge.empty() && reply_.sequence == 0) {
    return fail(AuthFault::kIncorrectPayload, "a challenge with sequence number 0");
  }
  state_ = State::kSuccessDue;
}

std::vector<std::byte> AuthController::on_receive() {
  BB_CHECK(!computing_, "a message is asked for while a key exchange is computed");
  switch (state_) {
    case State::kChallengeDue:
      return challenge();
    case State::kSuccessDue:
      return success();
    case State::kFailureDue:
      state_ = State::kFailed;
      return encode_auth(AuthFailure{.transaction = transaction_, .fault = fault_});
    case State::kFailed:
      return {};
    case State::kNegotiate:
    case State::kKeyWanted:
    case State::kReply:
    case State::kSharedWanted:
    case State::kSuccess2:
    case State::kAuthenticated:
      break;
  }
  fail(AuthFault::kIncorrectMessage, "the host asks for a message out of turn");
  return {};
}

std::vector<std::byte> AuthController::challenge() {
  if (sequence_ == 0) {
    std::byte start[4];
    options_.random(start);
    sequence_ = load_le<uint32_t>(start);
  }
  if (++sequence_ == 0) ++sequence_;  // 0 is no sequence number
  challenge_.resize(hash_bytes(hash_));
  options_.random(challenge_);
  state_ = State::kReply;
  return encode_auth(AuthChallenge{.transaction = transaction_,
                                   .hash = hash_,
                                   .group = exchange_.group,
                                   .sequence = sequence_,
                                   .challenge = challenge_,
                                   .dh_value = exchange_.ours});
}

std::vector<std::byte> AuthController::success() {
  AuthSuccess1 message{.transaction = transaction_,
                       .hash_length = static_cast<uint8_t>(hash_bytes(hash_))};
  state_ = State::kAuthenticated;
  if (!reply_.challenge.empty()) {
    Secret key = options_.controller->key_of(options_.subsystem_nqn);
    AuthProof proof{.hash = hash_,
                    .key = key.bytes(),
                    .challenge = reply_.challenge,
                    .shared = exchange_.shared.bytes(),
                    .sequence = reply_.sequence,
                    .transaction = transaction_,
                    .secure_channel = secure_channel_,
                    .host_nqn = options_.host_nqn,
                    .subsystem_nqn = options_.subsystem_nqn};
    Secret response = proof.controller_response();
    message.response.assign(response.bytes().begin(), response.bytes().end());
    state_ = State::kSuccess2;
  }
  exchange_ = {};  // a key is used once
  return encode_auth(message);
}

}  // namespace bb::io::nvme
