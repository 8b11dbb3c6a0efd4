// SPDX-License-Identifier: Apache-2.0
// Our initiator and our target with secrets between them, and peers without.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/units.h"
#include "io/device_uri.h"
#include "io/nvme/association.h"
#include "io/nvme/host_security.h"
#include "io/nvme/target.h"
#include "io/nvme/tls_psk.h"
#include "support/world.h"

#include "auth_vectors_types.h"
#include "hex.h"

namespace bb::io::nvme {
namespace {

using bb::test::World;

constexpr const char* kNqn = "nqn.2026-11.io.blockbridge:drive:safe";
constexpr const char* kHost = "nqn.2026-11.io.blockbridge:host:known";

std::string plain_hex(ConstBytes bytes) {
  std::string text = hex(bytes);
  std::erase(text, ' ');
  return text;
}

TEST(PskSecret, DerivesWhatTheSpecificationSays) {
  for (const test::PskRow& row : test::kPskRows) {
    auto secret = PskSecret::parse(std::string(row.text) + "\n");
    ASSERT_TRUE(secret.ok()) << secret.status().to_string();
    EXPECT_EQ(plain_hex(secret->retained(test::kHostNqn).bytes()), row.retained);
    PskIdentity identity{.hash = static_cast<Hash>(row.suite_hash),
                         .host_nqn = test::kHostNqn,
                         .subsystem_nqn = test::kSubsystemNqn};
    EXPECT_EQ(identity.to_string(), row.identity);
    auto key = secret->tls_key(identity);
    ASSERT_TRUE(key.ok());
    EXPECT_EQ(plain_hex(key->bytes()), row.psk) << row.text;
    auto back = PskIdentity::parse(row.identity);
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->to_string(), row.identity);
  }
}

TEST(PskSecret, SaysWhatIsWrong) {
  std::string good = test::kPskRows[0].text;
  std::string flipped = good;
  flipped[25] = flipped[25] == 'A' ? 'B' : 'A';
  EXPECT_EQ(PskSecret::parse(flipped).status().to_string(),
            "a TLS key whose checksum is wrong: mistyped? [corrupt]");
  EXPECT_EQ(PskSecret::parse("NVMeTLSkey-1:03:" + good.substr(16)).status().to_string(),
            "a TLS key with an unknown hash: known are 00, 01 and 02 [invalid_argument]");
  EXPECT_EQ(PskSecret::parse("NVMeTLSkey-1:00:AAAA:").status().to_string(),
            "a TLS key of 3 bytes, expected are 32 or 48 and a checksum of 4 [invalid_argument]");
  EXPECT_EQ(PskSecret::parse("NVMeTLSkey-1:00:A*AA:").status().to_string(),
            "a TLS key that is not base64 [invalid_argument]");
  EXPECT_EQ(PskSecret::parse("DHHC-1:00:AAAA:").code(), Code::k_invalid_argument);
  for (const char* bad : {"", "NVMe0R01", "NVMe0R03 nqn.a nqn.b", "NVMe0R01 nqn.a",
                          "NVMe1R01 nqn.a nqn.b", "NVMe0R01  nqn.b", "NVMe0R01 nqn.a x"}) {
    EXPECT_FALSE(PskIdentity::parse(bad).has_value()) << bad;
  }
  PskIdentity longest{.host_nqn = "nqn." + std::string(200, 'h'),
                      .subsystem_nqn = "nqn." + std::string(200, 's')};
  EXPECT_EQ(PskSecret::parse(good)->tls_key(longest).code(), Code::k_invalid_argument);
}

class SecurityTest : public ::testing::Test {
 protected:
  SecurityTest() {
    char name[] = "/tmp/bb-security-XXXXXX";
    folder = ::mkdtemp(name);
    device = std::move(world.run(open_device(world.context, "mem:8M"))).value();
  }
  ~SecurityTest() override {
    if (target != nullptr) world.run(target->stop());
    Status closed = world.run(device->close());
    EXPECT_TRUE(closed.ok());
    std::filesystem::remove_all(folder);
  }

  std::string file(const std::string& name, const std::string& text) {
    std::string path = folder + "/" + name;
    std::ofstream(path) << text << "\n";
    EXPECT_EQ(::chmod(path.c_str(), 0600), 0);
    return path;
  }
  std::string secret(const std::string& name, int row) {
    return file(name, test::kSecretRows[row].text);
  }
  std::string psk(const std::string& name, int row) { return file(name, test::kPskRows[row].text); }

  Status serve(SecurityConfig security, TlsPolicy tls = TlsPolicy::kOff,
               bool single_association = false) {
    TargetOptions options;
    options.listen = {{"127.0.0.1:0"}};
    options.tls = tls;
    BB_ASSIGN(target, Target::create(world.context, std::move(options)));
    return target->add_subsystem({.nqn = kNqn,
                                  .device = device.get(),
                                  .security = std::move(security),
                                  .single_association = single_association});
  }
  std::string uri(const std::string& options, const std::string& host = kHost) const {
    return fmt::format("nvme-tcp://{}/{}?hostnqn={}&queues=2{}", target->addresses().front(), kNqn,
                       host, options);
  }
  // "ok" once a block was written and read back; else why not, without the port.
  std::string use(const std::string& options, const std::string& host = kHost) {
    auto opened = world.run(open_device(world.context, uri(options, host)));
    if (!opened.ok()) {
      std::string text = opened.status().to_string();
      std::string at = target->addresses().front();
      for (size_t found; (found = text.find(at)) != std::string::npos;) {
        text.replace(found, at.size(), "target");
      }
      return text;
    }
    Status used = world.run(write_and_read(opened->get()));
    EXPECT_EQ((*opened)->info().uri.find("DHHC"), std::string::npos);
    Status closed = world.run((*opened)->close());
    return used.ok() ? closed.to_string() : used.to_string();
  }
  static Task<Status> write_and_read(Device* disk) {
    std::vector<std::byte> out(4096, std::byte{0x5a});
    std::vector<std::byte> in(4096);
    BB_CO_TRY(co_await disk->write(8192, out));
    BB_CO_TRY(co_await disk->read(8192, in));
    co_return in == out ? Status() : Status(Code::k_corrupt, "other bytes");
  }
  static Task<void> establish(Association* one, Status* end, uint64_t deadline_ns) {
    *end = co_await one->establish_admin(deadline_ns);
  }
  static Task<void> establish_both(Context context, Association* first, Association* second,
                                   Status* ends, uint64_t deadline_ns) {
    TaskGroup group(context.loop);
    group.spawn(establish(first, &ends[0], deadline_ns));
    group.spawn(establish(second, &ends[1], deadline_ns));
    co_await group.join();
  }
  SecurityConfig known(int row, bool controller = false) {
    SecurityConfig security;
    security.hosts.emplace(kHost, AuthSecret::parse(test::kSecretRows[row].text).value());
    if (controller) security.controller = AuthSecret::parse(test::kSecretRows[4].text).value();
    return security;
  }

  World world;
  std::string folder;
  std::unique_ptr<Device> device;
  std::unique_ptr<Target> target;
};

TEST_F(SecurityTest, TheRightSecretOpensAndAWrongOneDoesNot) {
  ASSERT_TRUE(serve(known(3)).ok());
  std::string right = "&dhchap_secret_file=" + secret("right", 3);
  std::string wrong = "&dhchap_secret_file=" + secret("wrong", 4);
  EXPECT_EQ(use(right), "ok");
  EXPECT_NE(use(wrong).find("the controller refuses us: authentication failed"), std::string::npos)
      << use(wrong);
  EXPECT_NE(use("").find("give a dhchap_secret_file [permission_denied]"), std::string::npos);
  EXPECT_NE(use(right, "nqn.2026-11.io.blockbridge:host:other").find("invalid host"),
            std::string::npos);
  EXPECT_EQ(use(right), "ok");
}

TEST_F(SecurityTest, BothProveThemselves) {
  ASSERT_TRUE(serve(known(3, true)).ok());
  std::string right = "&dhchap_secret_file=" + secret("right", 3);
  EXPECT_EQ(use(right + "&dhchap_ctrl_secret_file=" + secret("ctrl", 4)), "ok");
  std::string wrong = use(right + "&dhchap_ctrl_secret_file=" + secret("other", 5));
  EXPECT_NE(wrong.find("the controller has another secret [permission_denied]"), std::string::npos)
      << wrong;
}

TEST_F(SecurityTest, AControllerThatDoesNotProveItselfIsNotTrusted) {
  ASSERT_TRUE(serve({}).ok());
  std::string open = use("&dhchap_secret_file=" + secret("right", 3) +
                         "&dhchap_ctrl_secret_file=" + secret("ctrl", 4));
  EXPECT_NE(open.find("does not ask for authentication, so it cannot prove who it is"),
            std::string::npos)
      << open;
}

// A stranger who knows nothing but names must not end what the host has.
TEST_F(SecurityTest, AStrangerDoesNotTakeOverAnAssociation) {
  ASSERT_TRUE(serve(known(3), TlsPolicy::kOff, true).ok());
  const char* host_id = "11111111-1111-4111-8111-111111111111";
  std::string id = std::string("&hostid=") + host_id;
  // Without a device above it, it does not connect anew when it has ended.
  AssociationOptions options{.address = target->addresses().front(),
                             .subsystem_nqn = kNqn,
                             .host = {.host_nqn = kHost, .host_id = Uuid::parse(host_id).value()},
                             .keep_alive_ns = 60 * kNsPerSecond};
  options.security =
      world.run(load_security(world.context, {.dhchap_secret = secret("right", 3)})).value();
  Association first(world.context, options, nullptr);
  uint64_t deadline_ns = world.context.loop.now_ns() + 60 * kNsPerSecond;
  Status status = world.run(first.establish_admin(deadline_ns));
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_NE(use(id + "&dhchap_secret_file=" + secret("wrong", 4)), "ok");
  EXPECT_TRUE(world.run(first.keep_alive(deadline_ns)).ok());
  // With the secret it is the host itself that comes anew.
  EXPECT_EQ(use(id + "&dhchap_secret_file=" + secret("right", 3)), "ok");
  EXPECT_FALSE(world.run(first.keep_alive(deadline_ns)).ok());
  world.run(first.close());
}

// Identifiers are public, and reservations belong to them: a host that may come does not get
// another's reservations by naming its identifier.
TEST_F(SecurityTest, OneHostDoesNotComeWithTheIdentifierOfAnother) {
  constexpr const char* kOther = "nqn.2026-11.io.blockbridge:host:other";
  SecurityConfig security = known(3);
  security.hosts.emplace(kOther, AuthSecret::parse(test::kSecretRows[4].text).value());
  ASSERT_TRUE(serve(security).ok());
  const char* host_id = "11111111-1111-4111-8111-111111111111";
  AssociationOptions options[2];
  for (int i = 0; i < 2; ++i) {
    options[i] = {
        .address = target->addresses().front(),
        .subsystem_nqn = kNqn,
        .host = {.host_nqn = i == 0 ? kHost : kOther, .host_id = Uuid::parse(host_id).value()},
        .keep_alive_ns = 60 * kNsPerSecond};
    std::string file = secret(i == 0 ? "known" : "other", 3 + i);
    options[i].security = world.run(load_security(world.context, {.dhchap_secret = file})).value();
  }
  uint64_t deadline_ns = world.context.loop.now_ns() + 60 * kNsPerSecond;
  {
    Association first(world.context, options[0], nullptr);
    EXPECT_TRUE(world.run(first.establish_admin(deadline_ns)).ok());
    Association second(world.context, options[1], nullptr);
    Status status = world.run(second.establish_admin(deadline_ns));
    EXPECT_NE(status.to_string().find("invalid host"), std::string::npos) << status.to_string();
    world.run(second.close());
    EXPECT_TRUE(world.run(first.keep_alive(deadline_ns)).ok());
    world.run(first.close());
  }
  // At once: both are asked for their secrets, and know them.
  Association first(world.context, options[0], nullptr);
  Association second(world.context, options[1], nullptr);
  Status ends[2];
  world.run(establish_both(world.context, &first, &second, ends, deadline_ns));
  EXPECT_NE(ends[0].ok(), ends[1].ok()) << ends[0].to_string() << " / " << ends[1].to_string();
  world.run(first.close());
  world.run(second.close());
}

TEST_F(SecurityTest, TlsCarriesTheDiskAndNothingComesInTheClear) {
  SecurityConfig security;
  security.psks.emplace(kHost, PskSecret::parse(test::kPskRows[4].text).value());
  ASSERT_TRUE(serve(security, TlsPolicy::kAllowed).ok());
  EXPECT_EQ(use("&tls=1&tls_psk_file=" + psk("key", 4)), "ok");
  EXPECT_NE(use("").find("invalid host"), std::string::npos) << use("");
  std::string other = use("&tls_psk_file=" + psk("other", 0));
  EXPECT_NE(other.find("TLS: "), std::string::npos) << other;
  EXPECT_NE(
      use("&tls_psk_file=" + psk("key", 4), "nqn.2026-11.io.blockbridge:host:other").find("TLS: "),
      std::string::npos);
}

TEST_F(SecurityTest, TlsAndAuthenticationTogether) {
  SecurityConfig security = known(3);
  security.psks.emplace(kHost, PskSecret::parse(test::kPskRows[6].text).value());  // SHA-384
  ASSERT_TRUE(serve(security, TlsPolicy::kRequired).ok());
  std::string tls = "&tls_psk_file=" + psk("key", 6);
  EXPECT_EQ(use(tls + "&dhchap_secret_file=" + secret("right", 3)), "ok");
  EXPECT_NE(use(tls).find("give a dhchap_secret_file"), std::string::npos);
  EXPECT_NE(use("&dhchap_secret_file=" + secret("right", 3)).find("unavailable"),
            std::string::npos);
}

TEST_F(SecurityTest, KeysForATargetWithoutTlsAreAnError) {
  SecurityConfig security;
  security.psks.emplace(kHost, PskSecret::parse(test::kPskRows[4].text).value());
  EXPECT_EQ(serve(security, TlsPolicy::kOff).to_string(),
            std::string("subsystem ") + kNqn +
                ": hosts have keys for TLS, which the target does not speak [invalid_argument]");
}

TEST_F(SecurityTest, OptionsThatDoNotGoTogether) {
  ASSERT_TRUE(serve({}).ok());
  struct Row {
    std::string options;
    std::string error;
  };
  std::string open = secret("open", 3);
  ASSERT_EQ(::chmod(open.c_str(), 0644), 0);
  for (const Row& row : {
           Row{"&tls=1", "URI option tls=1: no tls_psk_file"},
           Row{"&tls=0&tls_psk_file=/x", "URI option tls=0 with a tls_psk_file"},
           Row{"&dhchap_ctrl_secret_file=/x",
               "URI option dhchap_ctrl_secret_file: needs a dhchap_secret_file, too"},
           Row{"&dhchap_secret_file=/nonexistent/x", "/nonexistent/x: No such file or directory"},
           Row{"&dhchap_secret_file=" + open, "others than its owner may read"},
           Row{"&dhchap_secret_file=" + file("bad", "secret!"),
               "not a DH-HMAC-CHAP secret: expected DHHC-1:hh:base64:"},
       }) {
    std::string got = use(row.options);
    EXPECT_NE(got.find(row.error), std::string::npos) << row.options << ": " << got;
    EXPECT_EQ(got.find("secret!"), std::string::npos);
  }
}

}  // namespace
}  // namespace bb::io::nvme
