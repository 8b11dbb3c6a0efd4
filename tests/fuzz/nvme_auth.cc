// SPDX-License-Identifier: Apache-2.0
// Authentication: secrets as they are written, messages, and both sides of the exchange. Input: a
// byte that says which, then a secret's text, or turns: a byte (send what follows, ask, and for
// which length) and the message. Key exchanges are not computed but made up, or nothing would be
// reached in time.
#include <algorithm>

#include "base/check.h"
#include "fuzz.h"
#include "input.h"
#include "io/nvme/auth_controller.h"
#include "io/nvme/auth_host.h"

namespace bb {
namespace {

using namespace io;
using namespace io::nvme;

void count_up(Bytes into) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = static_cast<std::byte>(i);
}

AuthSecret secret() {
  Secret key(32);
  count_up(key.bytes());
  return {.transform = std::nullopt, .key = std::move(key)};
}

AuthPolicy policy_of(uint8_t bits) {
  return {.hashes = {Hash::kSha384, Hash::kSha256},
          .groups = {(bits & 4) != 0 ? DhGroup::kFfdhe2048 : DhGroup::kNull}};
}

AuthHost host_with(uint8_t bits) {
  AuthHost::Options options{.policy = policy_of(bits),
                            .host = secret(),
                            .controller = std::nullopt,
                            .host_nqn = "nqn.2026-11.a:h",
                            .subsystem_nqn = "nqn.2026-11.a:s",
                            .transaction = 1,
                            .random = count_up};
  if ((bits & 8) != 0) options.controller = secret();
  return AuthHost(std::move(options));
}

AuthController controller_with(uint8_t bits) {
  AuthController::Options options{.policy = policy_of(bits),
                                  .host = secret(),
                                  .controller = std::nullopt,
                                  .host_nqn = "nqn.2026-11.a:h",
                                  .subsystem_nqn = "nqn.2026-11.a:s",
                                  .random = count_up};
  if ((bits & 8) != 0) options.controller = secret();
  return AuthController(std::move(options));
}

void compute(auto& side) {
  DhExchange* exchange = side.exchange();
  if (exchange == nullptr) return;
  BB_CHECK(exchange->group == DhGroup::kFfdhe2048, "a group that nobody offered");
  exchange->ours.assign(dh_bytes(exchange->group), std::byte{3});
  if (!exchange->theirs.empty()) {
    if (exchange->theirs.size() != dh_bytes(exchange->group)) {
      exchange->status = error(Code::k_invalid_argument, "too short");
    }
    exchange->shared = Secret(dh_bytes(exchange->group));
  }
  side.on_computed();
}

void try_secret(ConstBytes text) {
  auto parsed = AuthSecret::parse(as_text(text));
  if (!parsed.ok()) {
    bool known = parsed.code() == Code::k_invalid_argument || parsed.code() == Code::k_corrupt;
    BB_CHECK(known, "{}", parsed.status().to_string());
    return;
  }
  auto again = AuthSecret::parse(parsed->to_string());
  BB_CHECK(again.ok() && again->transform == parsed->transform &&
               same_secret(again->key.bytes(), parsed->key.bytes()),
           "it changed by being written");
}

void try_message(ConstBytes bytes) {
  auto message = decode_auth(bytes);
  if (!message.ok()) return;
  auto written = encode_auth(*message);
  BB_CHECK(written.size() <= 8 + 64 + bytes.size() + 255, "{} bytes of {}", written.size(),
           bytes.size());
  auto again = decode_auth(written);
  BB_CHECK(again.ok() && encode_auth(*again) == written, "it changed by being written");
}

// Without the proof there is no success: the fuzzer knows no secret, only what it replays.
void try_controller(uint8_t bits, fuzz::Input& input) {
  AuthController controller = controller_with(bits);
  auto host = host_with(bits);
  bool honest = false;  // the host's own words went in
  for (int turn = 0; turn < 16 && !input.empty(); ++turn) {
    uint8_t what = input.byte();
    if ((what & 3) == 0) {
      auto answer = controller.on_receive();
      BB_CHECK(answer.empty() || decode_auth(answer).ok(), "it sends what cannot be read");
      if ((what & 4) != 0 && !answer.empty() && !host.done() && host.exchange() == nullptr) {
        if (host.next().empty()) host.on_message(answer);
        compute(host);
      }
    } else if ((what & 3) == 1) {
      auto own = host.next();
      honest = honest || !own.empty();
      controller.on_send(own);
    } else {
      controller.on_send(input.raw(input.take(2) % 600));
    }
    compute(controller);
    BB_CHECK(!(controller.authenticated() && controller.failed()), "both at once");
    BB_CHECK(honest || !controller.authenticated(), "authenticated by nothing");
  }
}

void try_host(uint8_t bits, fuzz::Input& input) {
  AuthHost host = host_with(bits);
  for (int turn = 0; turn < 8 && !host.done(); ++turn) {
    auto message = host.next();
    BB_CHECK(message.empty() || decode_auth(message).ok(), "it sends what cannot be read");
    if (host.done()) break;
    if (input.empty()) return;
    host.on_message(input.raw(input.take(2) % 600));
    compute(host);
  }
  BB_CHECK((bits & 8) == 0 || !host.done() || !host.status().ok(), "nothing proved itself");
}

}  // namespace

const size_t fuzz::kInputMax = 512;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  std::string text = "0" + secret().to_string();
  all.emplace_back("secret", std::vector<std::byte>(as_bytes(text).begin(), as_bytes(text).end()));
  all.back().second[0] = std::byte{0};
  auto add = [&all](std::string name, uint8_t kind, const std::vector<AuthMessage>& messages) {
    std::vector<std::byte> input{static_cast<std::byte>(kind)};
    for (const AuthMessage& message : messages) {
      auto bytes = encode_auth(message);
      if ((kind & 3) == 2) input.push_back(std::byte{2});
      if ((kind & 3) != 1) {
        input.push_back(static_cast<std::byte>(bytes.size() & 0xff));
        input.push_back(static_cast<std::byte>(bytes.size() >> 8));
      }
      input.insert(input.end(), bytes.begin(), bytes.end());
      if ((kind & 3) == 2) input.push_back(std::byte{0});
    }
    all.emplace_back(std::move(name), std::move(input));
  };
  for (uint8_t bits : std::initializer_list<uint8_t>{0, 4, 8, 12}) {
    AuthPolicy policy = policy_of(bits);
    DhGroup group = policy.groups.front();
    std::vector<std::byte> value(dh_bytes(group), std::byte{3});
    AuthMessage negotiate =
        AuthNegotiate{.transaction = 1, .hashes = {Hash::kSha256}, .groups = {group}};
    AuthMessage challenge = AuthChallenge{.transaction = 1,
                                          .hash = Hash::kSha256,
                                          .group = group,
                                          .sequence = 1,
                                          .challenge = std::vector<std::byte>(32),
                                          .dh_value = value};
    AuthMessage reply = AuthReply{.transaction = 1,
                                  .sequence = 1,
                                  .response = std::vector<std::byte>(32),
                                  .challenge = std::vector<std::byte>(32, std::byte{7}),
                                  .dh_value = value};
    AuthMessage success =
        AuthSuccess1{.transaction = 1, .hash_length = 32, .response = std::vector<std::byte>(32)};
    std::string suffix = std::to_string(bits);
    add("negotiate-" + suffix, 1, {negotiate});
    add("challenge-" + suffix, 1, {challenge});
    add("reply-" + suffix, 1, {reply});
    add("success-" + suffix, 1, {success});
    add("failure-" + suffix, 1, {AuthFailure{.transaction = bits}});
    add("controller-" + suffix, static_cast<uint8_t>(2 | bits),
        {negotiate, reply, AuthSuccess2{.transaction = 1}});
    add("host-" + suffix, static_cast<uint8_t>(3 | bits), {challenge, success});
    // The host's own words all the way.
    constexpr uint8_t kTurns[] = {1, 4, 1, 4, 1, 0};
    std::vector<std::byte> honest{static_cast<std::byte>(2 | bits)};
    for (uint8_t turn : kTurns) honest.push_back(static_cast<std::byte>(turn));
    all.emplace_back("honest-" + suffix, std::move(honest));
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 2) return 0;
  ConstBytes rest(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  fuzz::Input input(rest);
  switch (data[0] & 3) {
    case 0:
      try_secret(rest);
      break;
    case 1:
      try_message(rest);
      break;
    case 2:
      try_controller(data[0], input);
      break;
    default:
      try_host(data[0], input);
  }
  return 0;
}
