// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace bb {
namespace {

TEST(Json, RefusesWhatIsNotJsonWithThePlace) {
  struct Case {
    std::string text;
    std::string says;
  };
  const Case cases[] = {
      {"", "not JSON: error at byte"},
      {"{", "error at byte 2 of 1"},
      {R"({"a":01})", "error at byte"},
      {"{} {}", "error at byte 4 of 5"},
      {"\"\xff\"", "error at byte"},
      {std::string(33, '['), "nested deeper than 32 at byte 32"},
      {std::string(1'000'000, '['), "nested deeper than 32"},
  };
  for (const Case& c : cases) {
    auto parsed = parse_json(c.text);
    ASSERT_FALSE(parsed.ok()) << c.text.substr(0, 40);
    EXPECT_EQ(parsed.code(), Code::k_invalid_argument);
    EXPECT_NE(parsed.status().text().find(c.says), std::string::npos) << parsed.status().text();
  }
  EXPECT_TRUE(parse_json(std::string(32, '[') + std::string(32, ']')).ok());
  EXPECT_TRUE(parse_json(R"(["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"["])").ok());
}

TEST(Json, PrintsEveryText) {
  EXPECT_EQ(dump_json(Json{{"b", 1}, {"a", "x\n"}}), R"({"a":"x\n","b":1})");
  EXPECT_EQ(dump_json(Json("\xff")), "\"\xef\xbf\xbd\"");
}

TEST(JsonFields, ChecksTypesLimitsAndNames) {
  auto value = parse_json(R"({"name":"db","n":7,"neg":-1,"yes":true,"list":[1,2],"null":null})");
  ASSERT_TRUE(value.ok());
  auto fields = JsonFields::of(*value, "array.create");
  ASSERT_TRUE(fields.ok());
  EXPECT_EQ(*fields->text("name"), "db");
  EXPECT_EQ(fields->text("name", 1).status().text(),
            R"(array.create: field "name" has 2 bytes, allowed are 1)");
  EXPECT_EQ(fields->text("n").status().text(),
            R"(array.create: field "n" must be a text, got number)");
  EXPECT_EQ(fields->text("gone").status().text(), R"(array.create: field "gone" is missing)");
  EXPECT_EQ(*fields->text_or("null", "other"), "other");
  EXPECT_EQ(*fields->u64("n"), 7u);
  EXPECT_EQ(fields->u64("n", 6).status().text(),
            R"(array.create: field "n" is 7, allowed are at most 6)");
  EXPECT_FALSE(fields->u64("neg").ok());
  EXPECT_FALSE(fields->u64_or("name", 3).ok());
  EXPECT_TRUE(*fields->boolean_or("yes", false));
  EXPECT_FALSE(fields->boolean("n").ok());
  EXPECT_EQ((*fields->list("list"))->size(), 2u);
  EXPECT_FALSE(fields->list("list", 1).ok());
  EXPECT_TRUE(fields->reject_unknown().ok());
  EXPECT_FALSE(JsonFields::of(Json::array(), "x").ok());

  Json misspelled{{"nmae", "db"}};
  auto wrong = JsonFields::of(misspelled, "array.create");
  EXPECT_FALSE(wrong->text("name").ok());
  EXPECT_EQ(wrong->reject_unknown().text(), R"(array.create: unknown field "nmae")");
}

}  // namespace
}  // namespace bb
