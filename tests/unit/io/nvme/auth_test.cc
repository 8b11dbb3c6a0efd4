// SPDX-License-Identifier: Apache-2.0
// Host and controller with each other, and each with a peer that does not play by the rules.
#include <gtest/gtest.h>

#include <functional>

#include "base/prng.h"
#include "hex.h"
#include "io/nvme/auth_controller.h"
#include "io/nvme/auth_host.h"

namespace bb::io::nvme {
namespace {

constexpr const char* kHost = "nqn.2026-11.io.blockbridge:host:a";
constexpr const char* kSubsystem = "nqn.2026-11.io.blockbridge:drive:b";

AuthSecret secret(int fill, std::optional<Hash> transform = {}, size_t length = 32) {
  Secret key(length);
  std::memset(key.data(), fill, length);
  return {.transform = transform, .key = std::move(key)};
}

Prng& numbers() {
  static Prng prng(7);
  return prng;
}
void random_bytes(Bytes into) { numbers().fill(into); }

AuthHost::Options host_options(AuthPolicy policy = {}) {
  return {.policy = std::move(policy),
          .host = secret(1),
          .controller = std::nullopt,
          .host_nqn = kHost,
          .subsystem_nqn = kSubsystem,
          .transaction = 0x4321,
          .random = random_bytes};
}
AuthController::Options controller_options(AuthPolicy policy = {}) {
  return {.policy = std::move(policy),
          .host = secret(1),
          .controller = std::nullopt,
          .host_nqn = kHost,
          .subsystem_nqn = kSubsystem,
          .random = random_bytes};
}
AuthPolicy only(Hash hash, DhGroup group) { return {.hashes = {hash}, .groups = {group}}; }
AuthPolicy quick() { return only(Hash::kSha256, DhGroup::kNull); }

void compute(auto& side) {
  if (DhExchange* exchange = side.exchange()) {
    exchange->compute();
    side.on_computed();
  }
}

// Lets the two talk until the host is done; `between` may change what travels.
using Between = std::function<void(std::vector<std::byte>&)>;
void talk(AuthHost& host, AuthController& controller, const Between& between = {}) {
  for (int turn = 0; turn < 8; ++turn) {
    auto message = host.next();
    if (!message.empty()) {
      if (between) between(message);
      controller.on_send(message);
      compute(controller);
      continue;
    }
    if (host.done()) return;
    auto answer = controller.on_receive();
    if (between && !answer.empty()) between(answer);
    host.on_message(answer);
    compute(host);
  }
}

std::string outcome(AuthHost& host, AuthController& controller) {
  return fmt::format("{} / {}", host.status().to_string(),
                     controller.authenticated() ? "authenticated" : controller.reason());
}

TEST(Auth, EveryHashWithEveryGroupBothWays) {
  for (Hash hash : {Hash::kSha256, Hash::kSha384, Hash::kSha512}) {
    for (uint8_t group = 0; group <= 5; ++group) {
      if (group > 2 && hash != Hash::kSha256) continue;  // slow, and nothing new
      AuthPolicy policy = only(hash, static_cast<DhGroup>(group));
      for (bool mutual : {false, true}) {
        auto ours = host_options(policy);
        auto theirs = controller_options(policy);
        ours.host = theirs.host = secret(5, hash, 48);
        theirs.controller = secret(9, std::nullopt, 64);
        if (mutual) ours.controller = theirs.controller;
        AuthHost host(std::move(ours));
        AuthController controller(std::move(theirs));
        talk(host, controller);
        EXPECT_EQ(outcome(host, controller), "ok / authenticated")
            << hash_name(hash) << " " << dh_name(static_cast<DhGroup>(group)) << mutual;
        EXPECT_TRUE(host.done());
      }
    }
  }
}

TEST(Auth, TheControllersFavouriteIsTaken) {
  AuthHost host(host_options());
  AuthController controller(controller_options());
  controller.on_send(host.next());
  compute(controller);
  auto challenge = std::get<AuthChallenge>(*decode_auth(controller.on_receive()));
  EXPECT_EQ(challenge.hash, Hash::kSha256);
  EXPECT_EQ(challenge.group, DhGroup::kFfdhe3072);
  EXPECT_NE(challenge.sequence, 0u);
}

TEST(Auth, AWrongSecretIsFoundOutByWhoeverChecksIt) {
  {
    auto ours = host_options(quick());
    ours.host = secret(2);
    AuthHost host(std::move(ours));
    AuthController controller(controller_options(quick()));
    talk(host, controller);
    EXPECT_EQ(outcome(host, controller),
              "the controller refuses us: authentication failed [permission_denied] / "
              "the host has another secret");
    EXPECT_TRUE(controller.failed());
  }
  {
    auto ours = host_options(quick());
    ours.controller = secret(3);
    auto theirs = controller_options(quick());
    theirs.controller = secret(4);
    AuthHost host(std::move(ours));
    AuthController controller(std::move(theirs));
    talk(host, controller);
    EXPECT_EQ(outcome(host, controller),
              "the controller has another secret [permission_denied] / "
              "the host refuses us: authentication failed");
    EXPECT_TRUE(controller.failed());
  }
  {
    auto ours = host_options(quick());
    ours.controller = secret(3);
    AuthHost host(std::move(ours));
    AuthController controller(controller_options(quick()));  // has none
    talk(host, controller);
    EXPECT_EQ(outcome(host, controller),
              "the controller refuses us: authentication failed [permission_denied] / "
              "the host wants us to prove ourselves: no secret to do it with");
  }
}

TEST(Auth, TheNamesArePartOfTheProof) {
  for (bool host_side : {true, false}) {
    auto theirs = controller_options(quick());
    (host_side ? theirs.host_nqn : theirs.subsystem_nqn) += "x";
    AuthHost host(host_options(quick()));
    AuthController controller(std::move(theirs));
    talk(host, controller);
    EXPECT_EQ(controller.reason(), "the host has another secret");
  }
}

TEST(Auth, NothingInCommonSaysWhat) {
  struct Row {
    AuthPolicy host;
    AuthPolicy controller;
    const char* outcome;
  };
  for (const Row& row :
       {Row{only(Hash::kSha256, DhGroup::kNull), only(Hash::kSha512, DhGroup::kNull),
            "the controller refuses us: hash not usable [permission_denied] / "
            "the host offers no hash accepted here"},
        Row{only(Hash::kSha256, DhGroup::kNull), only(Hash::kSha256, DhGroup::kFfdhe2048),
            "the controller refuses us: DH group not usable [permission_denied] / "
            "the host offers no group accepted here"},
        Row{{.hashes = {}, .groups = {}},
            quick(),
            "the controller refuses us: authentication protocol not usable [permission_denied] / "
            "the host offers no protocol known here"}}) {
    AuthHost host(host_options(row.host));
    AuthController controller(controller_options(row.controller));
    talk(host, controller);
    EXPECT_EQ(outcome(host, controller), row.outcome);
  }
}

// Each byte of each message, changed on the way: never are both content with it, unless the byte
// means nothing (reserved, or a favourite that is not taken).
TEST(Auth, AChangedByteIsNoticed) {
  size_t noticed = 0;
  for (size_t at = 0; at < 4 * 120; ++at) {
    auto ours = host_options(quick());
    auto theirs = controller_options(quick());
    ours.controller = theirs.controller = secret(8);
    AuthHost host(std::move(ours));
    AuthController controller(std::move(theirs));
    size_t message = 0;
    bool proves = false;
    talk(host, controller, [&](std::vector<std::byte>& bytes) {
      size_t here = at % 120;
      if (message++ != at / 120 || here >= bytes.size()) return;
      bytes[here] ^= std::byte{0x40};
      proves = at / 120 > 0 && here >= 12;             // sequence numbers, challenges, responses
      if (at / 120 == 3 && here < 16) proves = false;  // reserved
    });
    bool content = host.done() && host.status().ok() && controller.authenticated();
    if (proves) {
      EXPECT_FALSE(content) << "byte " << at % 120 << " of message " << at / 120;
      ++noticed;
    }
  }
  EXPECT_EQ(noticed, (4u + 32) + (4 + 64) + 32);
}

std::vector<std::byte> negotiate(uint8_t secure_channel = 0) {
  return encode_auth(AuthNegotiate{.transaction = 7,
                                   .secure_channel = secure_channel,
                                   .hashes = {Hash::kSha256},
                                   .groups = {DhGroup::kNull}});
}

std::string fault_of(const std::vector<std::byte>& bytes) {
  auto message = decode_auth(bytes);
  if (!message.ok()) return message.status().to_string();
  const auto* failure = std::get_if<AuthFailure>(&*message);
  if (failure == nullptr) return std::string(auth_name(*message));
  return fmt::format("{}: {}", auth_name(*message), auth_fault_text(failure->fault));
}

TEST(AuthController, AnswersEachViolationWithItsFault) {
  struct Row {
    const char* what;
    std::vector<std::vector<std::byte>> sent;
    const char* fault;
  };
  auto short_reply =
      encode_auth(AuthReply{.transaction = 7, .response = unhex(std::string(64, '0'))});
  auto success2 = encode_auth(AuthSuccess2{.transaction = 7});
  std::vector<std::byte> nonsense = unhex("00 77 00 00 07 00 00 00");
  for (const Row& row : std::initializer_list<Row>{
           {"a reply before a negotiation",
            {short_reply},
            "AUTH_Failure1: incorrect protocol message"},
           {"success before a negotiation",
            {success2},
            "AUTH_Failure1: incorrect protocol message"},
           {"two negotiations",
            {negotiate(), negotiate()},
            "AUTH_Failure1: incorrect protocol message"},
           {"a type nobody knows", {nonsense}, "AUTH_Failure1: incorrect protocol message"},
           {"nothing", {{}}, "AUTH_Failure1: incorrect payload"},
           {"a cut message",
            {unhex("00 00 00 00 07 00 00 01")},
            "AUTH_Failure1: incorrect payload"},
           {"TLS to follow",
            {negotiate(1)},
            "AUTH_Failure1: secure channel concatenation mismatch"},
           {"the controller's own failure",
            {encode_auth(AuthFailure{.transaction = 7})},
            "AUTH_Failure1: incorrect protocol message"},
           {"a failure is not forgotten",
            {nonsense, negotiate()},
            "AUTH_Failure1: incorrect protocol message"}}) {
    AuthController controller(controller_options(quick()));
    for (const auto& message : row.sent) controller.on_send(message);
    EXPECT_EQ(fault_of(controller.on_receive()), row.fault) << row.what;
    EXPECT_TRUE(controller.failed()) << row.what;
    EXPECT_FALSE(controller.reason().empty()) << row.what;
    EXPECT_TRUE(controller.on_receive().empty()) << row.what;
    controller.on_send(negotiate());
    EXPECT_TRUE(controller.failed()) << row.what;
  }
}

// What the controller asked for, answered by `make`.
template <typename Make>
std::string fault_of_reply(const Make& make, std::optional<AuthSecret> ctrl = {}) {
  auto options = controller_options(quick());
  options.controller = std::move(ctrl);
  AuthController controller(std::move(options));
  controller.on_send(negotiate());
  auto challenge = std::get<AuthChallenge>(*decode_auth(controller.on_receive()));
  controller.on_send(encode_auth(make(challenge)));
  return fault_of(controller.on_receive());
}

TEST(AuthController, RefusesRepliesThatCannotBe) {
  std::vector<std::byte> response(32);
  EXPECT_EQ(fault_of_reply([&](const AuthChallenge&) {
              return AuthReply{.transaction = 8, .response = response};
            }),
            "AUTH_Failure1: incorrect payload");
  EXPECT_EQ(fault_of_reply([&](const AuthChallenge&) {
              return AuthReply{.transaction = 7, .response = std::vector<std::byte>(48)};
            }),
            "AUTH_Failure1: incorrect payload");
  EXPECT_EQ(fault_of_reply([&](const AuthChallenge&) {
              return AuthReply{
                  .transaction = 7, .response = response, .dh_value = std::vector<std::byte>(256)};
            }),
            "AUTH_Failure1: incorrect payload");
  EXPECT_EQ(
      fault_of_reply([&](const AuthChallenge& asked) {
        return AuthReply{
            .transaction = 7, .sequence = 1, .response = response, .challenge = asked.challenge};
      }),
      "AUTH_Failure1: authentication failed");
}

TEST(AuthController, ABadPublicValueIsAnIncorrectPayload) {
  AuthController controller(controller_options(only(Hash::kSha256, DhGroup::kFfdhe2048)));
  controller.on_send(encode_auth(
      AuthNegotiate{.transaction = 7, .hashes = {Hash::kSha256}, .groups = {DhGroup::kFfdhe2048}}));
  compute(controller);
  EXPECT_EQ(fault_of(controller.on_receive()), "DH-HMAC-CHAP_Challenge");
  controller.on_send(encode_auth(AuthReply{.transaction = 7,
                                           .response = std::vector<std::byte>(32),
                                           .dh_value = std::vector<std::byte>(256)}));
  compute(controller);
  EXPECT_EQ(fault_of(controller.on_receive()), "AUTH_Failure1: incorrect payload");
}

TEST(AuthController, AskedOutOfTurn) {
  AuthController controller(controller_options(quick()));
  EXPECT_TRUE(controller.on_receive().empty());
  EXPECT_EQ(fault_of(controller.on_receive()), "AUTH_Failure1: incorrect protocol message");
  EXPECT_TRUE(controller.failed());
}

TEST(AuthController, AnAnswerDoesNotServeTwiceAndMayBeGivenAgain) {
  AuthController controller(controller_options(quick()));
  std::vector<std::byte> challenges[2];
  uint32_t sequences[2];
  std::vector<std::byte> recorded;
  for (int round = 0; round < 2; ++round) {
    AuthHost host(host_options(quick()));
    talk(host, controller, [&](std::vector<std::byte>& bytes) {
      auto message = *decode_auth(bytes);
      if (auto* challenge = std::get_if<AuthChallenge>(&message)) {
        challenges[round] = challenge->challenge;
        sequences[round] = challenge->sequence;
      }
      if (std::holds_alternative<AuthReply>(message)) recorded = bytes;
    });
    EXPECT_EQ(outcome(host, controller), "ok / authenticated");
  }
  EXPECT_NE(challenges[0], challenges[1]);
  EXPECT_EQ(sequences[1], sequences[0] + 1);
  // The same words once more, to a third challenge.
  AuthHost host(host_options(quick()));
  talk(host, controller, [&](std::vector<std::byte>& bytes) {
    if (std::holds_alternative<AuthReply>(*decode_auth(bytes))) bytes = recorded;
  });
  EXPECT_FALSE(controller.authenticated());
  EXPECT_EQ(controller.reason(), "the host has another secret");
}

TEST(AuthHost, AnswersEachViolationWithItsFault) {
  struct Row {
    const char* what;
    AuthMessage sent;
    const char* fault;
    const char* status;
  };
  AuthChallenge good{.transaction = 0x4321,
                     .hash = Hash::kSha256,
                     .sequence = 5,
                     .challenge = std::vector<std::byte>(32)};
  auto with = [&good](auto change) {
    AuthChallenge challenge = good;
    change(challenge);
    return AuthMessage(challenge);
  };
  for (const Row& row : std::initializer_list<Row>{
           {"another transaction", with([](AuthChallenge& c) { c.transaction = 1; }),
            "AUTH_Failure2: incorrect payload",
            "DH-HMAC-CHAP_Challenge of transaction 1, ours is 17185 [permission_denied]"},
           {"no sequence number", with([](AuthChallenge& c) { c.sequence = 0; }),
            "AUTH_Failure2: incorrect payload",
            "a challenge with sequence number 0 [permission_denied]"},
           {"a hash not offered", with([](AuthChallenge& c) {
              c.hash = Hash::kSha512;
              c.challenge.resize(64);
            }),
            "AUTH_Failure2: hash not usable",
            "the controller chose SHA-512, which was not offered [permission_denied]"},
           {"a group not offered", with([](AuthChallenge& c) {
              c.group = DhGroup::kFfdhe2048;
              c.dh_value.resize(256);
            }),
            "AUTH_Failure2: DH group not usable",
            "the controller chose group ffdhe2048, which was not offered [permission_denied]"},
           {"success at once", AuthSuccess1{.transaction = 0x4321, .hash_length = 32},
            "AUTH_Failure2: incorrect protocol message",
            "DH-HMAC-CHAP_Success1 out of turn [permission_denied]"},
           {"a host's message", AuthSuccess2{.transaction = 0x4321},
            "AUTH_Failure2: incorrect protocol message",
            "DH-HMAC-CHAP_Success2 out of turn [permission_denied]"}}) {
    AuthHost host(host_options(quick()));
    EXPECT_EQ(fault_of(host.next()), "AUTH_Negotiate");
    host.on_message(encode_auth(row.sent));
    EXPECT_FALSE(host.done()) << row.what;  // the failure is still to be sent
    EXPECT_EQ(fault_of(host.next()), row.fault) << row.what;
    EXPECT_TRUE(host.done()) << row.what;
    EXPECT_EQ(host.status().to_string(), row.status) << row.what;
  }
}

TEST(AuthHost, SuccessWithoutTheProofAskedForIsNone) {
  auto ours = host_options(quick());
  ours.controller = secret(4);
  AuthHost host(std::move(ours));
  AuthController controller(controller_options(quick()));
  talk(host, controller, [&](std::vector<std::byte>& bytes) {
    auto message = *decode_auth(bytes);
    if (!std::holds_alternative<AuthFailure>(message)) return;
    bytes = encode_auth(AuthSuccess1{.transaction = 0x4321, .hash_length = 32});
  });
  EXPECT_EQ(host.status().to_string(),
            "the controller does not prove that it knows its secret [permission_denied]");
}

}  // namespace
}  // namespace bb::io::nvme
