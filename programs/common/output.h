// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"

namespace bb::program {

enum class OutputFormat : uint8_t { kTable, kJson };
Result<OutputFormat> parse_output_format(std::string_view text);  // "table", "json"

// One value with two faces: what a person reads and what JSON carries.
class Cell {
 public:
  using Value = std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string>;

  Cell() = default;  // empty: `-` in tables, null in JSON
  Cell(std::string text) : text_(text), value_(std::move(text)) {}  // NOLINT: implicit
  Cell(std::string_view text) : Cell(std::string(text)) {}          // NOLINT: implicit
  Cell(const char* text) : Cell(std::string(text)) {}               // NOLINT: implicit
  Cell(std::string text, Value value) : text_(std::move(text)), value_(std::move(value)) {}
  static Cell number(uint64_t value);
  static Cell boolean(bool value);        // yes, no
  static Cell size(uint64_t size_bytes);  // 32GiB; its JSON key ends in _bytes

  const std::string& text() const { return text_; }
  const Value& value() const { return value_; }
  bool is_size() const { return is_size_; }

 private:
  std::string text_;
  Value value_;
  bool is_size_ = false;
};

// "Used by" -> "used_by", with "_bytes" for sizes.
std::string json_key(std::string_view title, bool is_size);

// Header, dashed rule, two-space gutters; empty cells `-`, empty lists `(none)`. A sort key's title
// carries its rank: `Name[1]`. JSON: an array of objects.
class Table {
 public:
  struct Column {
    std::string title;
    uint32_t sort_rank = 0;  // 0: not a sort key
    Column(const char* text, uint32_t rank = 0) : title(text), sort_rank(rank) {}  // NOLINT
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<Cell> row);
  std::string render(OutputFormat format) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// `== Title`, then aligned `field  value` lines. JSON: one object, without the title.
class Record {
 public:
  explicit Record(std::string title) : title_(std::move(title)) {}

  void add(std::string field, Cell value);
  std::string render(OutputFormat format) const;

 private:
  struct Field {
    std::string name;
    Cell value;
  };
  std::string title_;
  std::vector<Field> fields_;
};

}  // namespace bb::program
