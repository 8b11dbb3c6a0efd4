// SPDX-License-Identifier: Apache-2.0
// pure: values in, values out
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/uuid.h"

namespace bb::backplane {

// What can be asked about a drive. `domain` is the disk node unless configured otherwise.
enum class DriveKey : uint8_t {
  kId,
  kSerial,
  kModel,
  kCapacity,
  kBlockSize,
  kSlot,
  kEnclosure,
  kDiskNode,
  kDomain,
};

struct DriveRecord {
  Uuid uuid;
  std::string serial;
  std::string model;
  uint64_t capacity_bytes = 0;
  uint32_t block_size_bytes = 0;
  std::string slot;
  std::string enclosure;
  std::string disk_node;
  std::string domain;
  std::string refusal;  // why it cannot be chosen, "" when it is free and online: "owned by …"
};

std::string drive_value(const DriveRecord& drive, DriveKey key);

// One `K=V`: V is a list of alternatives, each a text with `*` globs, a number, or a range.
struct QueryTerm {
  struct Alternative {
    bool is_range = false;
    std::string glob;
    uint64_t low = 0;
    uint64_t high = 0;
  };
  DriveKey key{};
  std::string text;  // as written, for messages
  std::vector<Alternative> alternatives;
};

// The drive query language, product-wide: from (OR), select (AND), reject (any), unique.
struct Query {
  std::vector<QueryTerm> from;
  std::vector<QueryTerm> select;
  std::vector<QueryTerm> reject;
  std::vector<DriveKey> unique;

  // Clause "from", "select", "reject" with "K=V", or "unique" with "K". INVALID_ARGUMENT naming
  // the nearest known word, or what is wrong with the value.
  Status add(std::string_view clause, std::string_view text);
  // "select model=A* reject slot=0-3 unique domain"
  static Result<Query> parse(std::string_view text);
  std::string to_string() const;
};

inline constexpr size_t kQueryTermsMax = 64;
inline constexpr size_t kQueryTextMaxBytes = 4096;

bool term_matches(const QueryTerm& term, const DriveRecord& drive);
bool glob_matches(std::string_view glob, std::string_view text);
std::string_view drive_key_name(DriveKey key);

// "" when the clauses keep the drive, else the reason: `select model=A*: model is "B"`.
std::string query_refusal(const Query& query, const DriveRecord& drive);

// Enclosure, then slot (numbers in slots count as numbers), then disk node and uuid.
bool drive_before(const DriveRecord& a, const DriveRecord& b);

struct Refused {
  size_t drive = 0;    // index into what was given
  std::string reason;  // "" never
};

struct Choice {
  std::vector<size_t> chosen;    // in the order of drive_before
  std::vector<Refused> refused;  // everyone else, in that order
};

struct ChooseOptions {
  uint32_t count = 0;
  bool spread = false;  // adds `unique domain`
};

// Picks `count` drives of equal capacity. NO_SPACE when the inventory cannot satisfy it ("needs 3,
// found 2", with counts per reason); `choice` then still holds each drive's reason.
Status choose_drives(const Query& query, const std::vector<DriveRecord>& drives,
                     ChooseOptions options, Choice* choice);

}  // namespace bb::backplane
