// SPDX-License-Identifier: Apache-2.0
#include "backplane/config.h"

#include <gtest/gtest.h>

namespace bb::backplane {
namespace {

constexpr std::string_view kGoodNode = R"(name: n1
domain: rack-1
listen: [127.0.0.1:4420, "[::1]:4420"]
control: 127.0.0.1:4421
hosts: [nqn.2026-11.example:admin]
drives:
  - {path: /tmp/a.img, slot: a, create: 1GiB}
  - {path: "mem:64M"}
)";

TEST(DiskNodeConfig, Good) {
  Result<DiskNodeConfig> config = parse_disknode_config(kGoodNode, "n.yaml");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->name, "n1");
  EXPECT_EQ(config->domain, "rack-1");
  EXPECT_EQ(config->enclosure, "n1");
  EXPECT_EQ(config->listen.size(), 2u);
  ASSERT_EQ(config->drives.size(), 2u);
  EXPECT_EQ(config->drives[0].uri, "file:/tmp/a.img");
  EXPECT_EQ(config->drives[0].create_bytes, 1u << 30);
  EXPECT_EQ(config->drives[1].uri, "mem:64M");
  EXPECT_EQ(config->drives[1].slot, "1");
}

struct BadCase {
  const char* text;
  const char* error;
};

class BadDiskNodeConfig : public testing::TestWithParam<BadCase> {};

TEST_P(BadDiskNodeConfig, NamesFileLineAndCause) {
  Result<DiskNodeConfig> config = parse_disknode_config(GetParam().text, "n.yaml");
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.code(), Code::k_invalid_argument);
  EXPECT_NE(config.status().text().find(GetParam().error), std::string::npos)
      << config.status().text();
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadDiskNodeConfig,
    testing::Values(
        BadCase{"", "n.yaml:1: not a mapping"}, BadCase{"just text", "n.yaml:1: not a mapping"},
        BadCase{"name: [1\nfoo", "n.yaml:2: "}, BadCase{"name: a\n\tb: c\n", "n.yaml:2: "},
        BadCase{"listen: x\ncontrol: :1\n", "n.yaml:1: \"name\" is missing"},
        BadCase{"nmae: a\n", "n.yaml:1: unknown key \"nmae\"; did you mean \"name\"?"},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\ndrivse: []\n",
                "n.yaml:4: unknown key \"drivse\"; did you mean \"drives\"?"},
        BadCase{"name: {a: b}\ncontrol: :1\nlisten: :2\n", "n.yaml:1: \"name\" is not one value"},
        BadCase{"name: a\nname: b\ncontrol: :1\nlisten: :2\n", "n.yaml:2: \"name\" is there twice"},
        BadCase{"name: a\ncontrol: :1\n", "no address to listen at"},
        BadCase{"name: a\ncontrol: :1\nlisten: 1.2.3.4:99999\n", "n.yaml:3: listen: "},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\nhosts: [bob]\n",
                "n.yaml:4: hosts: \"bob\" is not an NQN"},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\ndrives:\n  - path: /a\n    siez: 1\n",
                "n.yaml:6: drives 1: unknown key \"siez\""},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\ndrives:\n  - path: /a\n    create: 1x\n",
                "n.yaml:6: drives 1: \"create\": "},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\ndrives:\n  - path: /a\n    create: 1M\n",
                "n.yaml:6: create: 1048576 bytes is too small (min 16777216)"},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\ndrives: [{path: /a}, {path: /a}]\n",
                "file:/a is there twice"},
        BadCase{"name: a\ncontrol: :1\nlisten: :2\ndrives: [{path: /a, slot: x}, {path: /b, slot: "
                "x}]\n",
                "slot \"x\" is there twice"},
        BadCase{"a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "n.yaml:1: more than 32 nested"}));

TEST(DataplaneConfig, Good) {
  Result<DataplaneConfig> config = parse_dataplane_config(R"(name: dp
host: 0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0
store: file:/tmp/s.db
control: unix:/tmp/dp.sock
nvme_tcp: 127.0.0.1:4500
nbd: [127.0.0.1:10809, "unix:/tmp/nbd.sock"]
slow_fail: 90s
scrub: {every: 30d, window: "22:00-06:00", rate: 100MiB}
backplanes:
  - {name: n1, control: 127.0.0.1:4421}
  - {name: n2, control: 127.0.0.1:4422}
)",
                                                          "d.yaml");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->backplanes.size(), 2u);
  EXPECT_EQ(config->backplanes[1].control, "127.0.0.1:4422");
  EXPECT_EQ(config->nvme_listen.size(), 1u);
  EXPECT_EQ(config->nbd_listen.size(), 2u);
  EXPECT_EQ(config->slow_fail_ns, uint64_t{90} * 1'000'000'000);
  EXPECT_FALSE(config->host.is_nil());
  EXPECT_EQ(config->scrub.every_ns, uint64_t{30} * 86400 * 1'000'000'000);
  EXPECT_EQ(config->scrub.window_begin, 22u * 60);
  EXPECT_EQ(config->scrub.window_end, 6u * 60);
  EXPECT_EQ(config->scrub_bytes_per_second, uint64_t{100} << 20);
}

TEST(DataplaneConfig, Bad) {
  for (const BadCase& one :
       {BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nbackplanes: [{name: a}]\n",
                "d.yaml:4: backplanes 1: \"control\" is missing"},
        BadCase{"name: d\nstore: nothing\ncontrol: unix:/b\n", "d.yaml:2: store: "},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nslow_fail: soon\n",
                "d.yaml:4: slow_fail: "},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nscrub: monthly\n",
                "d.yaml:4: \"scrub\" is not a mapping"},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nscrub:\n  every: 4000d\n",
                "d.yaml:5: every: 4000 is larger than the limit of 3650"},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nscrub:\n  window: 22-06\n",
                "d.yaml:5: window: \"22-06\" is not a window"},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nscrub: {evry: 1d}\n",
                "did you mean \"every\"?"},
        BadCase{"name: d\nstore: file:/a\ncontrol: 'unix:'\n", "d.yaml:3: control: "},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nhost: 12\n", "d.yaml:4: host: "},
        BadCase{"name: d\nstore: file:/a\ncontrol: unix:/b\nbackplane: []\n",
                "d.yaml:4: unknown key \"backplane\"; did you mean \"backplanes\"?"}}) {
    Result<DataplaneConfig> config = parse_dataplane_config(one.text, "d.yaml");
    ASSERT_FALSE(config.ok()) << one.text;
    EXPECT_EQ(config.code(), Code::k_invalid_argument);
    EXPECT_NE(config.status().text().find(one.error), std::string::npos) << config.status().text();
  }
}

}  // namespace
}  // namespace bb::backplane
