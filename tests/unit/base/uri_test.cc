// SPDX-License-Identifier: Apache-2.0
#include "base/uri.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace bb {
namespace {

TEST(Uri, SplitsSchemeRestAndOptions) {
  auto uri = Uri::parse("nvme-tcp://h:4420/nqn.2026-11.io.blockbridge:drive:1?nsid=1&digest=on");
  ASSERT_TRUE(uri.ok()) << uri.status().to_string();
  EXPECT_EQ(uri->scheme, "nvme-tcp");
  EXPECT_EQ(uri->rest, "//h:4420/nqn.2026-11.io.blockbridge:drive:1");
  EXPECT_EQ(uri->take("nsid"), "1");
  EXPECT_EQ(uri->take("nsid", "gone"), "gone");
  EXPECT_EQ(uri->reject_unknown().text(), "nvme-tcp: unknown URI option \"digest\"");
  EXPECT_EQ(uri->take("digest"), "on");
  EXPECT_TRUE(uri->reject_unknown().ok());
}

TEST(Uri, NestsByEscapes) {
  std::string inner = "file:/a?direct=0&size=1G";
  auto uri = Uri::parse("fault:" + uri_escape(inner) + "?seed=7");
  ASSERT_TRUE(uri.ok()) << uri.status().to_string();
  EXPECT_EQ(uri->rest, inner);
  EXPECT_EQ(*uri->take_u64("seed", 0), 7u);
}

TEST(Uri, UnescapesTheVeryLastEscape) {
  auto uri = Uri::parse("file:/a%41?x=%2F");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->rest, "/aA");
  EXPECT_EQ(uri->take("x"), "/");
}

TEST(Uri, RefusesNonsense) {
  struct Case {
    std::string_view text;
    std::string_view why;
  };
  for (Case c : {Case{"", "is not a device URI"},
                 {"/tmp/x", "is not a device URI"},
                 {":x", "is not a device URI"},
                 {"a?b:c", "is not a device URI"},
                 {"file:/a%4", "two hexadecimal digits"},
                 {"file:/a%zz", "two hexadecimal digits"},
                 {"file:/a?x", "expected key=value"},
                 {"file:/a?=1", "expected key=value"},
                 {"file:/a?x=1&x=2", "\"x\" is given twice"}}) {
    auto uri = Uri::parse(c.text);
    ASSERT_FALSE(uri.ok()) << c.text;
    EXPECT_EQ(uri.code(), Code::k_invalid_argument);
    EXPECT_NE(uri.status().text().find(c.why), std::string::npos) << uri.status().to_string();
  }
}

TEST(Uri, TypedOptionsNameTheOptionInErrors) {
  auto uri = *Uri::parse("x:y?a=1K&b=maybe&c=5x&d=off&e=9");
  EXPECT_EQ(*uri.take_size("a", 0), 1024u);
  EXPECT_EQ(uri.take_bool("b", false).status().text(),
            "URI option b: \"maybe\" is neither on nor off");
  EXPECT_TRUE(uri.take_duration_ns("c", 0).status().text().starts_with("URI option c: "));
  EXPECT_EQ(*uri.take_bool("d", true), false);
  EXPECT_EQ(uri.take_u64("e", 0, 8).status().text(),
            "URI option e: 9 is larger than the limit of 8");
  EXPECT_EQ(*uri.take_u64("none", 3), 3u);
}

TEST(HostPort, Parses) {
  struct Case {
    std::string_view text;
    std::string_view host;
    uint16_t port;
  };
  for (Case c : {Case{"127.0.0.1:4420", "127.0.0.1", 4420},
                 {"[::1]:4420", "::1", 4420},
                 {":4420", "", 4420},
                 {"host", "host", 0},
                 {"[::1]", "::1", 0}}) {
    auto got = HostPort::parse(c.text);
    ASSERT_TRUE(got.ok()) << c.text;
    EXPECT_EQ(got->host, c.host);
    EXPECT_EQ(got->port, c.port);
  }
  EXPECT_EQ(HostPort::parse("[::1]:4420")->to_string(), "[::1]:4420");
  // Without brackets nobody knows where an IPv6 address ends: "::1" is no host ":" with port 1.
  for (std::string_view bad : {"[::1", "[::1]x", "h:65536", "h:x", "::1", "fe80::2:4420",
                               "a:[b]:442", "[a[b]:1", "a]:1"}) {
    EXPECT_EQ(HostPort::parse(bad).code(), Code::k_invalid_argument) << bad;
  }
}

}  // namespace
}  // namespace bb
