// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sqlite3.h>

#include <vector>

#include "cluster/kv_core.h"

namespace bb::cluster {

// What a database file holds.
struct StoredState {
  std::vector<KeyValue> entries;
  std::vector<LeaseRecord> leases;
  uint64_t revision = 1;
  uint64_t next_lease = 1;
};

// The database file of the SQLite backend; every call blocks, so all happen on the offload thread.
class SqliteFile {
 public:
  SqliteFile() = default;
  SqliteFile(const SqliteFile&) = delete;
  ~SqliteFile();

  // Creates the file when there is none. BUSY: another process has it; CORRUPT; INVALID_ARGUMENT:
  // not a cluster store, or of a newer version; PERMISSION_DENIED; NOT_FOUND: no such folder.
  Status open(const std::string& path, uint64_t size_max_bytes);
  Result<StoredState> load();

  // All of it durably, or nothing, or (`unknown` is set) nobody can tell any more.
  Status commit(const Effects& effects, uint64_t next_lease, bool* unknown);

 private:
  class Statement;
  Status fail(const char* doing, int rc) const;
  Status run(const char* sql);
  Status prepare();
  Status check_kind();
  Result<uint64_t> pragma(const char* name);
  Status write(const Effects& effects, uint64_t next_lease);
  Status step(sqlite3_stmt* statement, const char* doing);

  std::string path_;
  sqlite3* db_ = nullptr;
  sqlite3_stmt* put_ = nullptr;
  sqlite3_stmt* erase_ = nullptr;
  sqlite3_stmt* grant_ = nullptr;
  sqlite3_stmt* revoke_ = nullptr;
  sqlite3_stmt* set_meta_ = nullptr;
};

}  // namespace bb::cluster
