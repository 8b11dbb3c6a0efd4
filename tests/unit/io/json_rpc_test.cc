// SPDX-License-Identifier: Apache-2.0
#include "io/rpc/json_rpc.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace bb::io::rpc {
namespace {

template <typename T>
T expect(std::string_view line) {
  auto message = decode_message(line);
  EXPECT_TRUE(std::holds_alternative<T>(message)) << line;
  return std::holds_alternative<T>(message) ? std::get<T>(std::move(message)) : T{};
}

TEST(JsonRpc, RoundTrips) {
  auto request = expect<Request>(encode_request({.id = 7, .method = "a.b", .params = {{"x", 1}}}));
  EXPECT_EQ(request.id, 7u);
  EXPECT_EQ(request.method, "a.b");
  EXPECT_EQ(request.params, Json({{"x", 1}}));
  EXPECT_FALSE(expect<Request>(encode_request({.method = "event"})).id.has_value());

  auto result = expect<Response>(encode_result(8, Json::array({1, 2})));
  EXPECT_EQ(result.id, 8u);
  EXPECT_EQ(*result.result, Json::array({1, 2}));
}

TEST(JsonRpc, EveryCodeSurvives) {
  for (int number = 1; number <= static_cast<int>(Code::k_internal); ++number) {
    Status sent(static_cast<Code>(number), fmt::format("array \"db\": reason {}", number));
    std::string line = encode_error(3, sent);
    EXPECT_NE(line.find("\"hint\":"), std::string::npos);
    auto response = expect<Response>(line);
    EXPECT_EQ(response.id, 3u);
    EXPECT_EQ(response.result.code(), sent.code());
    EXPECT_EQ(response.result.status().text(), sent.text());
  }
}

TEST(JsonRpc, BadMessages) {
  struct Case {
    std::string_view line;
    int number;
    std::optional<uint64_t> id;
  };
  const Case cases[] = {
      {"", kParseError, {}},
      {"nonsense", kParseError, {}},
      {"[]", kInvalidRequest, {}},
      {"{}", kInvalidRequest, {}},
      {R"({"jsonrpc":"1.0","id":4,"method":"x"})", kInvalidRequest, 4},
      {R"({"jsonrpc":"2.0","id":4})", kInvalidRequest, 4},
      {R"({"jsonrpc":"2.0","id":4,"method":5})", kInvalidRequest, 4},
      {R"({"jsonrpc":"2.0","id":4,"method":""})", kInvalidRequest, 4},
      {R"({"jsonrpc":"2.0","id":"4","method":"x"})", kInvalidRequest, {}},
      {R"({"jsonrpc":"2.0","id":4,"method":"x","params":[1]})", kInvalidRequest, 4},
      {R"({"jsonrpc":"2.0","result":1})", kInvalidRequest, {}},
      {R"({"jsonrpc":"2.0","id":4,"error":1})", kInvalidRequest, 4},
  };
  for (const Case& c : cases) {
    auto bad = expect<BadMessage>(c.line);
    EXPECT_EQ(bad.number, c.number) << c.line;
    EXPECT_EQ(bad.id, c.id) << c.line;
    EXPECT_FALSE(bad.status.ok());
  }
  std::string long_method = encode_request({.id = 1, .method = std::string(65, 'm')});
  EXPECT_EQ(expect<BadMessage>(long_method).id, 1u);
}

TEST(JsonRpc, ForeignErrorsKeepTheirMessage) {
  auto response = expect<Response>(
      R"({"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"who?","data":{"code":"ok"}}})");
  EXPECT_EQ(response.result.code(), Code::k_internal);
  EXPECT_EQ(response.result.status().text(), "who?");
}

TEST(LineSplitter, AnyCutGivesTheSameLines) {
  const std::string_view text = "one\n\ntwo\r\nthree";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    LineSplitter splitter;
    std::vector<std::string> lines;
    for (std::string_view part : {text.substr(0, cut), text.substr(cut)}) {
      splitter.feed(as_bytes(part));
      for (;;) {
        auto line = splitter.next();
        ASSERT_TRUE(line.ok());
        if (!line->has_value()) break;
        lines.push_back(**line);
      }
    }
    EXPECT_EQ(lines, (std::vector<std::string>{"one", "", "two"})) << cut;
    EXPECT_EQ(splitter.buffered_bytes(), 5u);
  }
}

TEST(LineSplitter, BoundsALine) {
  LineSplitter splitter(4);
  splitter.feed(as_bytes("1234\n"));
  EXPECT_EQ(**splitter.next(), "1234");
  splitter.feed(as_bytes("12345"));
  EXPECT_EQ(splitter.next().code(), Code::k_invalid_argument);
  splitter.feed(as_bytes("\n"));
  EXPECT_EQ(splitter.next().code(), Code::k_invalid_argument);
}

}  // namespace
}  // namespace bb::io::rpc
