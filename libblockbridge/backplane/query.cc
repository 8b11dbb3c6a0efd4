// SPDX-License-Identifier: Apache-2.0
#include "backplane/query.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "backplane/claim_rules.h"
#include "backplane/nearest.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

enum class ValueKind : uint8_t { kText, kSize, kSlot };

struct KeyRow {
  DriveKey key;
  std::string_view name;
  ValueKind kind;
};
constexpr std::array kKeys = {
    KeyRow{DriveKey::kId, "id", ValueKind::kText},
    KeyRow{DriveKey::kSerial, "serial", ValueKind::kText},
    KeyRow{DriveKey::kModel, "model", ValueKind::kText},
    KeyRow{DriveKey::kCapacity, "capacity", ValueKind::kSize},
    KeyRow{DriveKey::kBlockSize, "block_size", ValueKind::kSize},
    KeyRow{DriveKey::kSlot, "slot", ValueKind::kSlot},
    KeyRow{DriveKey::kEnclosure, "enclosure", ValueKind::kText},
    KeyRow{DriveKey::kDiskNode, "disk_node", ValueKind::kText},
    KeyRow{DriveKey::kDomain, "domain", ValueKind::kText},
};
constexpr std::array<std::string_view, 4> kClauses = {"from", "select", "reject", "unique"};

Result<KeyRow> find_key(std::string_view name) {
  std::array<std::string_view, kKeys.size()> names;
  for (size_t i = 0; i < kKeys.size(); ++i) {
    if (kKeys[i].name == name) return kKeys[i];
    names[i] = kKeys[i].name;
  }
  return error(Code::k_invalid_argument, "{}", unknown_word("key", name, names));
}

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 18 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Result<QueryTerm::Alternative> parse_size_item(std::string_view item) {
  QueryTerm::Alternative out{.is_range = true};
  size_t dash = item.find('-');
  BB_ASSIGN(out.low, parse_size_bytes(item.substr(0, dash)));
  out.high = out.low;
  if (dash != std::string_view::npos) {
    BB_ASSIGN(out.high, parse_size_bytes(item.substr(dash + 1)));
  }
  return out;
}

Result<QueryTerm::Alternative> parse_item(ValueKind kind, std::string_view item) {
  if (item.empty()) return error(Code::k_invalid_argument, "an empty value");
  QueryTerm::Alternative out;
  if (kind == ValueKind::kSize) {
    BB_ASSIGN(out, parse_size_item(item));
  } else {
    size_t dash = item.find('-');
    std::string_view low = item.substr(0, dash);
    std::string_view high = dash == std::string_view::npos ? low : item.substr(dash + 1);
    if (kind == ValueKind::kSlot && is_number(low) && is_number(high)) {
      out.is_range = true;
      BB_ASSIGN(out.low, parse_u64(low));
      BB_ASSIGN(out.high, parse_u64(high));
    } else {
      out.glob = item;
    }
  }
  if (out.is_range && out.low > out.high)
    return error(Code::k_invalid_argument, "range \"{}\" ends before it starts", item);
  return out;
}

Result<QueryTerm> parse_term(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == std::string_view::npos)
    return error(Code::k_invalid_argument, "\"{}\" is not KEY=VALUE", text.substr(0, 64));
  BB_ASSIGN(KeyRow row, find_key(text.substr(0, equals)));
  QueryTerm term{.key = row.key, .text = std::string(text)};
  std::string_view values = text.substr(equals + 1);
  while (true) {
    size_t comma = values.find(',');
    Result<QueryTerm::Alternative> item = parse_item(row.kind, values.substr(0, comma));
    if (!item.ok()) return item.status().with_context(fmt::format("\"{}\"", text.substr(0, 64)));
    term.alternatives.push_back(std::move(item).value());
    if (term.alternatives.size() > kQueryTermsMax)
      return error(Code::k_invalid_argument, "more than {} values for {}", kQueryTermsMax,
                   row.name);
    if (comma == std::string_view::npos) return term;
    values.remove_prefix(comma + 1);
  }
}

// Splits "disk10" into what sorts as a human expects: digits compare as numbers.
int natural_compare(std::string_view a, std::string_view b) {
  auto digits = [](std::string_view text) {
    size_t end = text.find_first_not_of("0123456789");
    return std::min(end, text.size());
  };
  while (!a.empty() && !b.empty()) {
    size_t da = digits(a), db = digits(b);
    if (da > 0 && db > 0) {
      std::string_view na = a.substr(0, da), nb = b.substr(0, db);
      na.remove_prefix(std::min(na.find_first_not_of('0'), na.size()));
      nb.remove_prefix(std::min(nb.find_first_not_of('0'), nb.size()));
      if (na.size() != nb.size()) return na.size() < nb.size() ? -1 : 1;
      if (int order = na.compare(nb); order != 0) return order;
      a.remove_prefix(da);
      b.remove_prefix(db);
    } else {
      if (a[0] != b[0]) return a[0] < b[0] ? -1 : 1;
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.empty() ? (b.empty() ? 0 : -1) : 1;
}

}  // namespace

std::string_view drive_key_name(DriveKey key) {
  for (const KeyRow& row : kKeys)
    if (row.key == key) return row.name;
  BB_CHECK(false, "drive key {} has no name", static_cast<int>(key));
}

std::string drive_value(const DriveRecord& drive, DriveKey key) {
  switch (key) {
    case DriveKey::kId:
      return drive_id(drive.uuid);
    case DriveKey::kSerial:
      return drive.serial;
    case DriveKey::kModel:
      return drive.model;
    case DriveKey::kCapacity:
      return format_size_bytes(drive.capacity_bytes);
    case DriveKey::kBlockSize:
      return std::to_string(drive.block_size_bytes);
    case DriveKey::kSlot:
      return drive.slot;
    case DriveKey::kEnclosure:
      return drive.enclosure;
    case DriveKey::kDiskNode:
      return drive.disk_node;
    case DriveKey::kDomain:
      return drive.domain;
  }
  BB_CHECK(false, "drive key {}", static_cast<int>(key));
}

bool glob_matches(std::string_view glob, std::string_view text) {
  size_t g = 0, t = 0, star = std::string_view::npos, retry = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      retry = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g;
      ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++retry;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', g) == std::string_view::npos;
}

bool term_matches(const QueryTerm& term, const DriveRecord& drive) {
  std::string text = drive_value(drive, term.key);
  for (const QueryTerm::Alternative& one : term.alternatives) {
    if (!one.is_range) {
      if (glob_matches(one.glob, text)) return true;
      continue;
    }
    uint64_t number = 0;
    if (term.key == DriveKey::kCapacity) {
      number = drive.capacity_bytes;
    } else if (term.key == DriveKey::kBlockSize) {
      number = drive.block_size_bytes;
    } else {
      if (!is_number(text)) continue;
      number = parse_u64(text).value();
    }
    if (number >= one.low && number <= one.high) return true;
  }
  return false;
}

Status Query::add(std::string_view clause, std::string_view text) {
  if (from.size() + select.size() + reject.size() + unique.size() >= kQueryTermsMax)
    return error(Code::k_invalid_argument, "query: more than {} clauses", kQueryTermsMax);
  if (text.size() > kQueryTextMaxBytes)
    return error(Code::k_invalid_argument, "query: a clause of {} bytes (max {})", text.size(),
                 kQueryTextMaxBytes);
  if (std::find(kClauses.begin(), kClauses.end(), clause) == kClauses.end())
    return error(Code::k_invalid_argument, "query: {}", unknown_word("clause", clause, kClauses));
  if (clause == "unique") {
    Result<KeyRow> row = find_key(text);
    if (!row.ok()) return row.status().with_context("query: unique");
    unique.push_back(row->key);
    return ok_status();
  }
  Result<QueryTerm> term = parse_term(text);
  if (!term.ok()) return term.status().with_context(fmt::format("query: {}", clause));
  (clause == "from"     ? from
   : clause == "select" ? select
                        : reject)
      .push_back(std::move(term).value());
  return ok_status();
}

Result<Query> Query::parse(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  Query query;
  auto next_word = [&]() {
    text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    std::string_view word = text.substr(0, text.find_first_of(kSpace));
    text.remove_prefix(word.size());
    return word;
  };
  while (true) {
    std::string_view clause = next_word();
    if (clause.empty()) return query;
    std::string_view value = next_word();
    if (value.empty())
      return error(Code::k_invalid_argument, "query: nothing follows \"{}\"", clause.substr(0, 64));
    BB_TRY(query.add(clause, value));
  }
}

std::string Query::to_string() const {
  std::string text;
  auto put = [&](std::string_view clause, std::string_view value) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{} {}", clause, value);
  };
  for (const QueryTerm& term : from) put("from", term.text);
  for (const QueryTerm& term : select) put("select", term.text);
  for (const QueryTerm& term : reject) put("reject", term.text);
  for (DriveKey key : unique) put("unique", drive_key_name(key));
  return text;
}

std::string query_refusal(const Query& query, const DriveRecord& drive) {
  auto matches = [&](const QueryTerm& term) { return term_matches(term, drive); };
  auto is = [&](const QueryTerm& term) {
    return fmt::format("{} is \"{}\"", drive_key_name(term.key), drive_value(drive, term.key));
  };
  if (!query.from.empty() && std::none_of(query.from.begin(), query.from.end(), matches))
    return fmt::format("not from {}", query.from.front().text);
  for (const QueryTerm& term : query.select)
    if (!matches(term)) return fmt::format("select {}: {}", term.text, is(term));
  for (const QueryTerm& term : query.reject)
    if (matches(term)) return fmt::format("reject {}: {}", term.text, is(term));
  return "";
}

bool drive_before(const DriveRecord& a, const DriveRecord& b) {
  if (int order = natural_compare(a.enclosure, b.enclosure); order != 0) return order < 0;
  if (int order = natural_compare(a.slot, b.slot); order != 0) return order < 0;
  return std::tie(a.disk_node, a.uuid) < std::tie(b.disk_node, b.uuid);
}

}  // namespace bb::backplane
