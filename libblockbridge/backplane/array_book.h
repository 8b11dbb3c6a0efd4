// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "backplane/node_report.h"
#include "base/json.h"
#include "cluster/store.h"
#include "raid/level.h"

namespace bb::backplane {

// One drive of an array, as the dataplane remembers it.
struct ArrayDrive {
  Uuid uuid;
  std::string backplane;
  std::string place;      // "node/slot", for people
  bool held_out = false;  // failed by an operator: comes back only when told to

  std::string label() const;  // "node/slot drv-uuid": the member's label in the array
  bool operator==(const ArrayDrive&) const = default;
};

enum class ArrayPhase : uint8_t {
  kCreating,  // may hold claims, has never held data
  kReady,
  kRemoving,  // its claims are being given back
};

// What the dataplane keeps about an array, apart from its membership: how it was asked for, which
// drives it claimed, and the epoch of those claims.
struct ArrayRecord {
  Uuid uuid;
  std::string name;
  ArrayPhase phase = ArrayPhase::kCreating;
  uint64_t epoch = 1;
  raid::Shape shape;
  std::string query;
  bool spread = true;
  std::vector<ArrayDrive> drives;

  bool operator==(const ArrayRecord&) const = default;
};

// pure
Json encode_array_record(const ArrayRecord& record);
Result<ArrayRecord> decode_array_record(std::string_view text);

// The records in the store. Every change is a compare-and-set on what was read, so two dataplanes
// over one store cannot both believe they own an array.
class ArrayBook {
 public:
  struct Entry {
    ArrayRecord record;
    uint64_t revision = 0;
  };
  explicit ArrayBook(cluster::Store& store) : store_(store) {}

  io::Task<Result<std::vector<Entry>>> load();
  io::Task<Result<Entry>> add(ArrayRecord record);
  // FENCED when somebody else changed the record since.
  io::Task<Status> save(Entry* entry, ArrayRecord record);
  io::Task<Status> erase(Entry* entry);

  // A uuid made once and then kept under this name: of the owner, of the host.
  io::Task<Result<Uuid>> identity(std::string name, Prng* prng);

 private:
  cluster::Store& store_;
};

}  // namespace bb::backplane
