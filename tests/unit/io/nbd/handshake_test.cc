// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/handshake.h"

#include <gtest/gtest.h>

namespace bb::io::nbd {
namespace {

using Out = std::vector<std::byte>;

const std::vector<ExportInfo> kExports = {
    {.name = "one", .description = "first", .size_bytes = 1 << 20},
    {.name = "two", .size_bytes = 2 << 20, .block_min_bytes = 4096}};

struct Script {
  Out bytes;
  Script& flags(uint32_t value) {
    Writer(bytes).be(value);
    return *this;
  }
  Script& option(Option option, std::string_view data = "") {
    Writer(bytes)
        .be(kOptionMagic)
        .be(static_cast<uint32_t>(option))
        .be(static_cast<uint32_t>(data.size()))
        .text(data);
    return *this;
  }
};

std::string info_data(std::string_view name, std::vector<uint16_t> wanted = {}) {
  Out data;
  Writer writer(data);
  writer.be(static_cast<uint32_t>(name.size())).text(name).be(static_cast<uint16_t>(wanted.size()));
  for (uint16_t each : wanted) writer.be(each);
  return std::string(as_text(data));
}

std::string meta_data(std::string_view name, std::string_view query) {
  Out data;
  Writer(data)
      .be(static_cast<uint32_t>(name.size()))
      .text(name)
      .be(uint32_t{1})
      .be(static_cast<uint32_t>(query.size()))
      .text(query);
  return std::string(as_text(data));
}

struct Reply {
  Option option;
  uint32_t type;
  std::string data;
};

std::vector<Reply> replies(ConstBytes out) {
  std::vector<Reply> list;
  while (out.size() >= 20 && load_be<uint64_t>(out.data()) == kOptionReplyMagic) {
    uint32_t length = load_be<uint32_t>(out.data() + 16);
    list.push_back({static_cast<Option>(load_be<uint32_t>(out.data() + 8)),
                    load_be<uint32_t>(out.data() + 12),
                    std::string(as_text(out.subspan(20, length)))});
    out = out.subspan(20 + length);
  }
  EXPECT_TRUE(out.empty()) << out.size() << " bytes left";
  return list;
}

// Feeds byte by byte: every unit may arrive in any number of pieces.
Out trickle(Handshake& handshake, const Script& script,
            const std::vector<ExportInfo>& exports = kExports) {
  Out out;
  Out pending;
  for (std::byte b : script.bytes) {
    pending.push_back(b);
    size_t used = handshake.feed(pending, exports, out);
    pending.erase(pending.begin(), pending.begin() + static_cast<ptrdiff_t>(used));
  }
  return out;
}

TEST(NbdHandshake, Greeting) {
  Out greeting = Handshake::greeting();
  ASSERT_EQ(greeting.size(), kGreetingBytes);
  EXPECT_EQ(as_text(ConstBytes(greeting).first(16)), "NBDMAGICIHAVEOPT");
  EXPECT_EQ(load_be<uint16_t>(greeting.data() + 16), 3);
}

TEST(NbdHandshake, GoGivesExportAndBlockSize) {
  Handshake handshake;
  auto list = replies(trickle(handshake, Script()
                                             .flags(3)
                                             .option(Option::kStructuredReply)
                                             .option(Option::kGo, info_data("two", {1, 2, 3}))));
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[0].type, 1u);
  Out want;
  Writer(want).be(uint16_t{0}).be(uint64_t{2 << 20}).be(uint16_t{0xdcd});
  EXPECT_EQ(list[1].data, as_text(want));
  want.clear();
  Writer(want).be(uint16_t{3}).be(uint32_t{4096}).be(uint32_t{4096}).be(uint32_t{32 << 20});
  EXPECT_EQ(list[2].data, as_text(want));
  EXPECT_EQ(list[3].data, std::string("\0\1two", 5));
  EXPECT_EQ(list[4].type, 1u);
  EXPECT_EQ(handshake.state(), Handshake::State::kTransmission);
  EXPECT_EQ(handshake.chosen(), "two");
  EXPECT_EQ(handshake.agreed().framing, Framing::kStructured);
  EXPECT_FALSE(handshake.agreed().allocation);
}

TEST(NbdHandshake, TheEmptyNameIsTheOnlyExport) {
  Handshake several;
  auto list = replies(trickle(several, Script().flags(3).option(Option::kGo, info_data(""))));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].type, 0x80000006u);
  EXPECT_EQ(several.state(), Handshake::State::kHaggling);
  Handshake single;
  trickle(single, Script().flags(3).option(Option::kGo, info_data("")), {kExports[0]});
  EXPECT_EQ(single.chosen(), "one");
}

TEST(NbdHandshake, ExportNameWithAndWithoutZeroes) {
  Handshake with;
  EXPECT_EQ(trickle(with, Script().flags(1).option(Option::kExportName, "one")).size(), 134u);
  EXPECT_EQ(with.state(), Handshake::State::kTransmission);
  Handshake without;
  EXPECT_EQ(trickle(without, Script().flags(3).option(Option::kExportName, "one")).size(), 10u);
  EXPECT_EQ(without.agreed().framing, Framing::kSimple);
  Handshake wrong;
  EXPECT_TRUE(trickle(wrong, Script().flags(3).option(Option::kExportName, "none")).empty());
  EXPECT_EQ(wrong.state(), Handshake::State::kClosed);
}

TEST(NbdHandshake, ListNamesAll) {
  Handshake handshake;
  auto list = replies(trickle(handshake, Script().flags(3).option(Option::kList)));
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].type, 2u);
  EXPECT_EQ(list[0].data, std::string("\0\0\0\3onefirst", 12));
  EXPECT_EQ(list[2].type, 1u);
}

TEST(NbdHandshake, RefusalsLeaveTheHagglingOpen) {
  struct Case {
    const char* name;
    Option option;
    std::string data;
    uint32_t type;
  };
  const Case cases[] = {
      {"TLS", Option::kStartTls, "", 0x80000001},
      {"TLS with data", Option::kStartTls, "x", 0x80000003},
      {"extended headers with data", Option::kExtendedHeaders, "x", 0x80000003},
      {"blocks of 4096 nobody asked for", Option::kGo, info_data("two"), 0x80000008},
      {"no such option", static_cast<Option>(77), "abc", 0x80000001},
      {"list with data", Option::kList, "x", 0x80000003},
      {"structured with data", Option::kStructuredReply, "x", 0x80000003},
      {"info of nothing", Option::kInfo, info_data("none"), 0x80000006},
      {"info cut short", Option::kInfo, info_data("one", {3}).substr(0, 8), 0x80000003},
      {"info too long", Option::kInfo, info_data("one") + "x", 0x80000003},
      {"info empty", Option::kInfo, "", 0x80000003},
      {"info name beyond", Option::kInfo, std::string("\xff\xff\xff\xffxx", 6), 0x80000003},
      {"meta before structured", Option::kSetMetaContext, meta_data("one", "base:allocation"),
       0x80000003},
      {"too big", Option::kInfo, std::string(9000, 'x'), 0x80000009},
  };
  for (const Case& each : cases) {
    Handshake handshake;
    auto list = replies(
        trickle(handshake, Script().flags(3).option(each.option, each.data).option(Option::kList)));
    ASSERT_GE(list.size(), 4u) << each.name;
    const Reply& refusal = list[list.size() - 4];
    EXPECT_EQ(refusal.option, each.option) << each.name;
    EXPECT_EQ(refusal.type, each.type) << each.name;
    EXPECT_EQ(handshake.state(), Handshake::State::kHaggling) << each.name;
  }
}

// Found by fuzz-nbd: an option that came in many pieces was counted as many.
TEST(NbdHandshake, AnOptionInPiecesIsOneOption) {
  Handshake handshake;
  std::string data = info_data("one", std::vector<uint16_t>(1000, 3));
  auto list = replies(trickle(handshake, Script().flags(3).option(Option::kInfo, data)));
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(handshake.state(), Handshake::State::kHaggling);
}

std::string context(uint32_t id) {
  Out data;
  Writer(data).be(id).text("base:allocation");
  return std::string(as_text(data));
}

std::string meta_list(std::string_view name) {  // no query: all there are
  Out data;
  Writer(data).be(static_cast<uint32_t>(name.size())).text(name).be(uint32_t{0});
  return std::string(as_text(data));
}

TEST(NbdHandshake, MetaContexts) {
  struct Case {
    const char* name;
    Option option;
    std::string data;
    bool offered;
  };
  const Case cases[] = {
      {"list it", Option::kListMetaContext, meta_data("one", "base:allocation"), true},
      {"list its namespace", Option::kListMetaContext, meta_data("one", "base:"), true},
      {"list all", Option::kListMetaContext, meta_list("one"), true},
      {"list another", Option::kListMetaContext, meta_data("one", "qemu:dirty"), false},
      {"set it", Option::kSetMetaContext, meta_data("one", "base:allocation"), true},
      {"set its namespace", Option::kSetMetaContext, meta_data("one", "base:"), false},
      {"set nothing", Option::kSetMetaContext, meta_list("one"), false},
  };
  for (const Case& each : cases) {
    Handshake handshake;
    auto list = replies(trickle(handshake, Script()
                                               .flags(3)
                                               .option(Option::kStructuredReply)
                                               .option(each.option, each.data)
                                               .option(Option::kGo, info_data("one"))));
    ASSERT_EQ(list.size(), each.offered ? 6u : 5u) << each.name;
    bool sets = each.option == Option::kSetMetaContext;
    if (each.offered) {
      EXPECT_EQ(list[1].type, 4u) << each.name;
      EXPECT_EQ(list[1].data, context(sets ? 1 : 0)) << each.name;
    }
    EXPECT_EQ(handshake.agreed().allocation, sets && each.offered) << each.name;
  }
}

TEST(NbdHandshake, AContextIsOfOneExportAndOfTheLastSet) {
  auto agreed = [](std::string_view go, std::vector<std::string> sets) {
    Script script = Script().flags(3).option(Option::kStructuredReply);
    for (const std::string& each : sets) script.option(Option::kSetMetaContext, each);
    script.option(Option::kGo, info_data(go, {3}));
    Handshake handshake;
    trickle(handshake, script);
    EXPECT_EQ(handshake.state(), Handshake::State::kTransmission);
    return handshake.agreed().allocation;
  };
  std::string good = meta_data("one", "base:allocation");
  EXPECT_TRUE(agreed("one", {good}));
  EXPECT_FALSE(agreed("two", {good}));
  EXPECT_FALSE(agreed("one", {good, meta_list("one")}));
  EXPECT_FALSE(agreed("one", {good, meta_data("none", "base:allocation")}));
  EXPECT_FALSE(agreed("one", {good, "abc"}));
  EXPECT_TRUE(agreed("one", {"abc", good}));
}

TEST(NbdHandshake, ExtendedHeadersReplaceStructuredReplies) {
  Handshake handshake;
  auto list = replies(
      trickle(handshake, Script()
                             .flags(3)
                             .option(Option::kStructuredReply)
                             .option(Option::kExtendedHeaders)
                             .option(Option::kStructuredReply)
                             .option(Option::kSetMetaContext, meta_data("one", "base:allocation"))
                             .option(Option::kGo, info_data("one"))));
  ASSERT_EQ(list.size(), 8u);
  EXPECT_EQ(list[1].type, 1u);
  EXPECT_EQ(list[2].type, 0x8000000au);
  EXPECT_EQ(handshake.agreed().framing, Framing::kExtended);
  EXPECT_TRUE(handshake.agreed().allocation);
}

TEST(NbdHandshake, TlsStartsAndForgetsWhatWasAgreedInTheClear) {
  Handshake handshake(TlsPolicy::kAllowed);
  Script before = Script()
                      .flags(3)
                      .option(Option::kExtendedHeaders)
                      .option(Option::kSetMetaContext, meta_data("one", "base:allocation"))
                      .option(Option::kStartTls);
  auto list = replies(trickle(handshake, before));
  EXPECT_EQ(list.back().option, Option::kStartTls);
  EXPECT_EQ(list.back().type, 1u);
  ASSERT_EQ(handshake.state(), Handshake::State::kStartTls);
  handshake.secured();
  list = replies(
      trickle(handshake, Script().option(Option::kStartTls).option(Option::kGo, info_data("one"))));
  EXPECT_EQ(list.front().type, 0x80000003u);  // a second time
  ASSERT_EQ(handshake.state(), Handshake::State::kTransmission);
  EXPECT_EQ(handshake.agreed().framing, Framing::kSimple);
  EXPECT_FALSE(handshake.agreed().allocation);
}

TEST(NbdHandshake, RequiredTlsComesFirst) {
  for (Option option :
       {Option::kList, Option::kInfo, Option::kGo, Option::kStructuredReply,
        Option::kListMetaContext, Option::kExtendedHeaders, static_cast<Option>(77)}) {
    Handshake handshake(TlsPolicy::kRequired);
    auto list = replies(trickle(handshake, Script().flags(3).option(option, info_data("one"))));
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].type, 0x80000005u);
    EXPECT_EQ(handshake.state(), Handshake::State::kHaggling);
  }
  Handshake named(TlsPolicy::kRequired);
  EXPECT_TRUE(trickle(named, Script().flags(3).option(Option::kExportName, "one")).empty());
  EXPECT_EQ(named.state(), Handshake::State::kClosed);
  Handshake leaving(TlsPolicy::kRequired);
  EXPECT_EQ(replies(trickle(leaving, Script().flags(3).option(Option::kAbort))).size(), 1u);
  EXPECT_EQ(leaving.state(), Handshake::State::kClosed);
  Handshake secured(TlsPolicy::kRequired);
  trickle(secured, Script().flags(3).option(Option::kStartTls));
  secured.secured();
  trickle(secured, Script().option(Option::kExportName, "one"));
  EXPECT_EQ(secured.chosen(), "one");
}

TEST(NbdHandshake, WhatEndsIt) {
  struct Case {
    const char* name;
    Script script;
  };
  Script magic = Script().flags(3);
  Writer(magic.bytes).be(uint64_t{1}).be(uint64_t{2});
  Script huge = Script().flags(3);
  Writer(huge.bytes).be(kOptionMagic).be(uint32_t{7}).be(uint32_t{2 << 20});
  Script endless = Script().flags(3);
  for (int i = 0; i < 300; ++i) endless.option(Option::kList);
  const Case cases[] = {
      {"unknown flag", Script().flags(7)},
      {"not fixed", Script().flags(2)},
      {"wrong magic", magic},
      {"huge option", huge},
      {"endless options", endless},
      {"long name", Script().flags(3).option(Option::kExportName, std::string(9000, 'x'))},
      {"abort", Script().flags(3).option(Option::kAbort)},
  };
  for (const Case& each : cases) {
    Handshake handshake;
    Out out;
    size_t used = handshake.feed(each.script.bytes, kExports, out);
    EXPECT_LE(used, each.script.bytes.size());
    EXPECT_EQ(handshake.state(), Handshake::State::kClosed) << each.name;
    EXPECT_FALSE(handshake.reason().empty()) << each.name;
  }
}

}  // namespace
}  // namespace bb::io::nbd
