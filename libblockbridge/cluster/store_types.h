// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace bb::cluster {

// What the cluster agrees on: a small, linearizable key-value store. Names and semantics are those
// of etcd v3, so that etcd can stand behind it.
//
// A revision counts the transactions that changed something, over all keys; it never falls.
struct KeyValue {
  std::string key;
  std::string value;
  uint64_t create_revision = 0;
  uint64_t mod_revision = 0;  // of the last put: what a compare-and-set compares
  uint64_t version = 0;       // puts since the key was created
  uint64_t lease = 0;         // 0: stays until deleted

  bool operator==(const KeyValue&) const = default;
};

struct Compare {
  enum class Target : uint8_t { kModRevision, kValue };
  std::string key;
  Target target = Target::kModRevision;
  uint64_t mod_revision = 0;  // 0: the key does not exist
  std::string value;          // the key exists and has this value

  static Compare absent(std::string key) { return {.key = std::move(key)}; }
  static Compare unchanged(std::string key, uint64_t mod_revision) {
    return {.key = std::move(key), .mod_revision = mod_revision};
  }
  static Compare equals(std::string key, std::string value) {
    return {.key = std::move(key), .target = Target::kValue, .value = std::move(value)};
  }
};

struct Op {
  enum class Kind : uint8_t { kPut, kDelete };
  Kind kind = Kind::kPut;
  std::string key;
  std::string value;
  uint64_t lease = 0;

  static Op put(std::string key, std::string value, uint64_t lease = 0) {
    return {.key = std::move(key), .value = std::move(value), .lease = lease};
  }
  static Op erase(std::string key) { return {.kind = Kind::kDelete, .key = std::move(key)}; }
};

// If all compares hold, all of `then_ops` happen at one revision; if not, nothing happens and
// `else_reads` are answered from the same instant. A key may be changed once in a transaction.
struct Txn {
  std::vector<Compare> compares;
  std::vector<Op> then_ops;
  std::vector<std::string> else_reads;
};
struct TxnResult {
  bool succeeded = false;
  uint64_t revision = 0;                       // of the store afterwards
  std::vector<std::optional<KeyValue>> reads;  // of else_reads
};

struct GetResult {
  std::optional<KeyValue> entry;
  uint64_t revision = 0;
};
struct ListResult {
  std::vector<KeyValue> entries;  // by key
  bool more = false;              // there are more than the limit
  uint64_t revision = 0;          // watch from the next one to miss nothing
};

struct WatchEvent {
  enum class Kind : uint8_t { kPut, kDelete };
  Kind kind = Kind::kPut;
  KeyValue entry;  // of a deletion only the key and the revision

  bool operator==(const WatchEvent&) const = default;
};

struct StoreLimits {
  size_t key_bytes_max = 1024;
  size_t value_bytes_max = 512 * 1024;
  size_t operations_max = 64;  // compares, changes or reads of a transaction, each
  size_t list_max = 4096;
  size_t keys_max = 100'000;
  uint64_t total_bytes_max = 64 * 1024 * 1024;
  size_t leases_max = 1024;
  size_t history_events_max = 10'000;  // what a watch may lag behind
};

}  // namespace bb::cluster
