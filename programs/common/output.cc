// SPDX-License-Identifier: Apache-2.0
#include "common/output.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/units.h"

namespace bb::program {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Cell& cell) {
  return std::visit(
      [](const auto& value) {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) {
          return Json(nullptr);
        } else {
          return Json(value);
        }
      },
      cell.value());
}

std::string shown(const Cell& cell) { return cell.text().empty() ? "-" : cell.text(); }

// Code points, not bytes: labels may hold any UTF-8.
size_t width_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

void append_padded(std::string& line, std::string_view text, size_t width) {
  line += text;
  size_t used = width_of(text);
  if (used < width) line.append(width - used, ' ');
}

void append_line(std::string& out, std::string line) {
  while (!line.empty() && line.back() == ' ') line.pop_back();
  out += line;
  out += '\n';
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<OutputFormat> parse_output_format(std::string_view text) {
  if (text == "table") return OutputFormat::kTable;
  if (text == "json") return OutputFormat::kJson;
  return error(Code::k_invalid_argument, "output \"{}\" is neither table nor json", text);
}

Cell Cell::number(uint64_t value) { return Cell(std::to_string(value), value); }
Cell Cell::boolean(bool value) { return Cell(value ? "yes" : "no", value); }
Cell Cell::size(uint64_t size_bytes) {
  Cell cell(format_size_bytes(size_bytes), size_bytes);
  cell.is_size_ = true;
  return cell;
}

std::string json_key(std::string_view title, bool is_size) {
  std::string key;
  for (char c : title) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    key += c == ' ' || c == '-' ? '_' : c;
  }
  if (is_size && !key.ends_with("_bytes")) key += "_bytes";
  return key;
}

void Table::add(std::vector<Cell> row) {
  BB_CHECK(row.size() == columns_.size(), "a row of {} cells in a table of {} columns", row.size(),
           columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::render(OutputFormat format) const {
  if (format == OutputFormat::kJson) {
    Json list = Json::array();
    for (const auto& row : rows_) {
      Json object = Json::object();
      for (size_t i = 0; i < row.size(); ++i)
        object[json_key(columns_[i].title, row[i].is_size())] = to_json(row[i]);
      list.push_back(std::move(object));
    }
    return dump(list);
  }
  if (rows_.empty()) return "(none)\n";
  std::vector<std::string> titles;
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    std::string title = columns_[i].title;
    if (columns_[i].sort_rank != 0) title += fmt::format("[{}]", columns_[i].sort_rank);
    size_t width = width_of(title);
    for (const auto& row : rows_) width = std::max(width, width_of(shown(row[i])));
    titles.push_back(std::move(title));
    widths.push_back(width);
  }
  std::string out;
  std::string header;
  std::string rule;
  for (size_t i = 0; i < titles.size(); ++i) {
    if (i > 0) header += "  ", rule += "  ";
    append_padded(header, titles[i], widths[i]);
    rule.append(widths[i], '-');
  }
  append_line(out, header);
  append_line(out, rule);
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      append_padded(line, shown(row[i]), widths[i]);
    }
    append_line(out, line);
  }
  return out;
}

void Record::add(std::string field, Cell value) {
  fields_.push_back({std::move(field), std::move(value)});
}

std::string Record::render(OutputFormat format) const {
  if (format == OutputFormat::kJson) {
    Json object = Json::object();
    for (const Field& field : fields_)
      object[json_key(field.name, field.value.is_size())] = to_json(field.value);
    return dump(object);
  }
  size_t width = 0;
  for (const Field& field : fields_) width = std::max(width, width_of(field.name));
  std::string out = "== " + title_ + "\n";
  for (const Field& field : fields_) {
    std::string line;
    append_padded(line, field.name, width + 2);
    append_line(out, line + shown(field.value));
  }
  return out;
}

}  // namespace bb::program
