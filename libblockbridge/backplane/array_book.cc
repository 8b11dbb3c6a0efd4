// SPDX-License-Identifier: Apache-2.0
#include "backplane/array_book.h"

#include <array>
#include <nlohmann/json.hpp>

#include "backplane/config.h"
#include "raid/membership.h"

namespace bb::backplane {
namespace {

constexpr std::string_view kArrays = "dataplane/arrays/";
constexpr std::string_view kIdentities = "dataplane/identity/";
constexpr size_t kArraysMax = 1024;

constexpr std::array<std::string_view, 3> kPhases = {"creating", "ready", "removing"};

std::string key_of(const Uuid& array) { return std::string(kArrays) + array.to_string(); }

Result<ArrayDrive> decode_drive(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "array drive"));
  ArrayDrive drive;
  BB_ASSIGN(std::string id, fields.text("id"));
  BB_ASSIGN(drive.uuid, parse_drive_id(id));
  BB_ASSIGN(drive.backplane, fields.text("backplane", kNameMaxBytes));
  BB_ASSIGN(drive.place, fields.text("place", 2 * kNameMaxBytes + 1));
  BB_ASSIGN(drive.held_out, fields.boolean_or("held_out", false));
  return drive;
}

}  // namespace

std::string ArrayDrive::label() const { return fmt::format("{} {}", place, drive_id(uuid)); }

Json encode_array_record(const ArrayRecord& record) {
  Json drives = Json::array();
  for (const ArrayDrive& drive : record.drives)
    drives.push_back({{"id", drive_id(drive.uuid)},
                      {"backplane", drive.backplane},
                      {"place", drive.place},
                      {"held_out", drive.held_out}});
  return {{"uuid", record.uuid.to_string()},
          {"name", record.name},
          {"phase", kPhases[static_cast<size_t>(record.phase)]},
          {"epoch", record.epoch},
          {"raid", raid::shape_text(record.shape)},
          {"chunk_bytes", record.shape.chunk_bytes},
          {"query", record.query},
          {"spread", record.spread},
          {"drives", std::move(drives)}};
}

Result<ArrayRecord> decode_array_record(std::string_view text) {
  BB_ASSIGN(Json json, parse_json(text));
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "array record"));
  ArrayRecord record;
  BB_ASSIGN(std::string uuid, fields.text("uuid"));
  BB_ASSIGN(record.uuid, Uuid::parse(uuid));
  BB_ASSIGN(record.name, fields.text("name", raid::kNameMaxBytes));
  BB_ASSIGN(std::string phase, fields.text("phase"));
  size_t index = 0;
  while (index < kPhases.size() && kPhases[index] != phase) ++index;
  if (index == kPhases.size())
    return error(Code::k_corrupt, "array record \"{}\": unknown phase \"{}\"", record.name, phase);
  record.phase = static_cast<ArrayPhase>(index);
  BB_ASSIGN(record.epoch, fields.u64("epoch"));
  BB_ASSIGN(std::string raid, fields.text("raid", 32));
  BB_ASSIGN(uint64_t chunk_bytes, fields.u64("chunk_bytes"));
  BB_ASSIGN(record.shape, raid::parse_shape(raid, chunk_bytes));
  BB_ASSIGN(record.query, fields.text_or("query", "", 65536));
  BB_ASSIGN(record.spread, fields.boolean_or("spread", true));
  BB_ASSIGN(const Json* drives, fields.list("drives", raid::kMembersListedMax));
  for (const Json& one : *drives) {
    BB_ASSIGN(ArrayDrive drive, decode_drive(one));
    record.drives.push_back(std::move(drive));
  }
  return record;
}

io::Task<Result<std::vector<ArrayBook::Entry>>> ArrayBook::load() {
  auto list = co_await store_.list(std::string(kArrays), kArraysMax);
  if (!list.ok()) co_return list.status().with_context("array records");
  std::vector<Entry> entries;
  for (const cluster::KeyValue& one : list->entries) {
    auto record = decode_array_record(one.value);
    if (!record.ok()) co_return record.status().with_context(one.key);
    entries.push_back({.record = std::move(record).value(), .revision = one.mod_revision});
  }
  co_return entries;
}

io::Task<Result<ArrayBook::Entry>> ArrayBook::add(ArrayRecord record) {
  std::string key = key_of(record.uuid);
  cluster::Txn txn;
  txn.compares.push_back(cluster::Compare::absent(key));
  txn.then_ops.push_back(cluster::Op::put(key, dump_json(encode_array_record(record))));
  auto result = co_await store_.txn(std::move(txn));
  if (!result.ok())
    co_return result.status().with_context(fmt::format("record of array \"{}\"", record.name));
  if (!result->succeeded)
    co_return error(Code::k_already_exists, "record of array \"{}\" ({}) exists", record.name,
                    record.uuid.to_string());
  co_return Entry{.record = std::move(record), .revision = result->revision};
}

io::Task<Status> ArrayBook::save(Entry* entry, ArrayRecord record) {
  std::string key = key_of(record.uuid);
  cluster::Txn txn;
  txn.compares.push_back(cluster::Compare::unchanged(key, entry->revision));
  txn.then_ops.push_back(cluster::Op::put(key, dump_json(encode_array_record(record))));
  auto result = co_await store_.txn(std::move(txn));
  if (!result.ok())
    co_return result.status().with_context(fmt::format("record of array \"{}\"", record.name));
  if (!result->succeeded)
    co_return error(Code::k_fenced, "record of array \"{}\" was changed by somebody else",
                    record.name);
  entry->record = std::move(record);
  entry->revision = result->revision;
  co_return Status();
}

io::Task<Status> ArrayBook::erase(Entry* entry) {
  std::string key = key_of(entry->record.uuid);
  cluster::Txn txn;
  txn.compares.push_back(cluster::Compare::unchanged(key, entry->revision));
  txn.then_ops.push_back(cluster::Op::erase(key));
  auto result = co_await store_.txn(std::move(txn));
  if (!result.ok())
    co_return result.status().with_context(
        fmt::format("record of array \"{}\"", entry->record.name));
  if (!result->succeeded)
    co_return error(Code::k_fenced, "record of array \"{}\" was changed by somebody else",
                    entry->record.name);
  co_return Status();
}

io::Task<Result<Uuid>> ArrayBook::identity(std::string name, Prng* prng) {
  std::string key = std::string(kIdentities) + name;
  for (;;) {
    auto found = co_await store_.get(key);
    if (!found.ok()) co_return found.status().with_context(key);
    if (found->entry.has_value()) {
      auto uuid = Uuid::parse(found->entry->value);
      if (!uuid.ok()) co_return uuid.status().with_context(key);
      co_return *uuid;
    }
    cluster::Txn txn;
    txn.compares.push_back(cluster::Compare::absent(key));
    txn.then_ops.push_back(cluster::Op::put(key, Uuid::random(*prng).to_string()));
    auto made = co_await store_.txn(std::move(txn));
    if (!made.ok()) co_return made.status().with_context(key);
  }
}

}  // namespace bb::backplane
