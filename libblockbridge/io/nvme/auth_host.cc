// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_host.h"

#include <algorithm>

#include "base/check.h"
#include "io/nvme/auth_response.h"

namespace bb::io::nvme {
namespace {

constexpr uint8_t kNoSecureChannel = 0;

template <typename T>
bool contains(const std::vector<T>& all, T one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

AuthHost::AuthHost(Options options) : options_(std::move(options)) {
  out_ = encode_auth(AuthNegotiate{.transaction = options_.transaction,
                                   .secure_channel = kNoSecureChannel,
                                   .hashes = options_.policy.hashes,
                                   .groups = options_.policy.groups});
}

// The controller is told, then it is over.
void AuthHost::fail(AuthFault fault, std::string why) {
  status_ = error(Code::k_permission_denied, "{}", why);
  done_ = true;
  exchange_ = {};
  out_ = encode_auth(
      AuthFailure{.from_host = true, .transaction = options_.transaction, .fault = fault});
}

void AuthHost::on_message(ConstBytes bytes) {
  BB_CHECK(!computing_ && !done_ && out_.empty(), "a message nobody waits for");
  Result<AuthMessage> message = decode_auth(bytes);
  if (!message.ok()) {
    bool type = message.code() == Code::k_not_supported;
    return fail(type ? AuthFault::kIncorrectMessage : AuthFault::kIncorrectPayload,
                message.status().text());
  }
  if (const auto* failure = std::get_if<AuthFailure>(&*message);
      failure != nullptr && !failure->from_host) {
    status_ = error(Code::k_permission_denied, "the controller refuses us: {}",
                    auth_fault_text(failure->fault));
    done_ = true;
    return;
  }
  bool expected = challenge_ ? std::holds_alternative<AuthSuccess1>(*message)
                             : std::holds_alternative<AuthChallenge>(*message);
  if (!expected) {
    return fail(AuthFault::kIncorrectMessage, fmt::format("{} out of turn", auth_name(*message)));
  }
  if (auth_transaction(*message) != options_.transaction) {
    return fail(AuthFault::kIncorrectPayload,
                fmt::format("{} of transaction {}, ours is {}", auth_name(*message),
                            auth_transaction(*message), options_.transaction));
  }
  if (auto* challenge = std::get_if<AuthChallenge>(&*message)) {
    return on_challenge(std::move(*challenge));
  }
  on_success(std::get<AuthSuccess1>(*message));
}

void AuthHost::on_challenge(AuthChallenge message) {
  if (!contains(options_.policy.hashes, message.hash)) {
    return fail(
        AuthFault::kHashUnusable,
        fmt::format("the controller chose {}, which was not offered", hash_name(message.hash)));
  }
  if (!contains(options_.policy.groups, message.group)) {
    return fail(AuthFault::kDhGroupUnusable,
                fmt::format("the controller chose group {}, which was not offered",
                            dh_name(message.group)));
  }
  if (message.sequence == 0) {
    return fail(AuthFault::kIncorrectPayload, "a challenge with sequence number 0");
  }
  challenge_ = std::move(message);
  if (challenge_->group == DhGroup::kNull) return reply();
  exchange_ = {.group = challenge_->group, .theirs = challenge_->dh_value};
  computing_ = true;
}

void AuthHost::on_computed() {
  computing_ = false;
  if (!exchange_.status.ok()) return fail(AuthFault::kIncorrectPayload, exchange_.status.text());
  reply();
}

void AuthHost::reply() {
  if (options_.controller) {
    ours_.resize(hash_bytes(challenge_->hash));
    options_.random(ours_);
    if (ours_ == challenge_->challenge) return fail(AuthFault::kFailed, "our own challenge");
    std::byte number[4];
    options_.random(number);
    sequence_ = std::max<uint32_t>(1, load_le<uint32_t>(number));
  }
  Secret key = options_.host.key_of(options_.host_nqn);
  AuthProof proof{.hash = challenge_->hash,
                  .key = key.bytes(),
                  .challenge = challenge_->challenge,
                  .shared = exchange_.shared.bytes(),
                  .sequence = challenge_->sequence,
                  .transaction = options_.transaction,
                  .secure_channel = kNoSecureChannel,
                  .host_nqn = options_.host_nqn,
                  .subsystem_nqn = options_.subsystem_nqn};
  Secret response = proof.host_response();
  out_ = encode_auth(AuthReply{.transaction = options_.transaction,
                               .sequence = sequence_,
                               .response = {response.bytes().begin(), response.bytes().end()},
                               .challenge = ours_,
                               .dh_value = exchange_.ours});
}

void AuthHost::on_success(const AuthSuccess1& message) {
  if (!options_.controller) {
    done_ = true;
    return;
  }
  Secret key = options_.controller->key_of(options_.subsystem_nqn);
  AuthProof proof{.hash = challenge_->hash,
                  .key = key.bytes(),
                  .challenge = ours_,
                  .shared = exchange_.shared.bytes(),
                  .sequence = sequence_,
                  .transaction = options_.transaction,
                  .secure_channel = kNoSecureChannel,
                  .host_nqn = options_.host_nqn,
                  .subsystem_nqn = options_.subsystem_nqn};
  if (!same_secret(proof.controller_response().bytes(), message.response)) {
    return fail(AuthFault::kFailed, message.response.empty()
                                        ? "the controller does not prove that it knows its secret"
                                        : "the controller has another secret");
  }
  done_ = true;
  out_ = encode_auth(AuthSuccess2{.transaction = options_.transaction});
}

}  // namespace bb::io::nvme
