// SPDX-License-Identifier: Apache-2.0
#include "cluster/sqlite_file.h"

#include <array>
#include <cerrno>
#include <cstring>

#include "base/crc32c.h"

namespace bb::cluster {
namespace {

constexpr uint64_t kApplicationId = 0x42424353;  // "BBCS"
constexpr uint64_t kSchemaVersion = 1;
constexpr uint64_t kPageBytes = 4096;

constexpr const char* kSchema = R"(
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease(id INTEGER PRIMARY KEY, ttl_ns INTEGER NOT NULL);
CREATE TABLE kv(key BLOB PRIMARY KEY, value BLOB NOT NULL, create_revision INTEGER NOT NULL,
  mod_revision INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,
  crc32c INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('revision', 1), ('next_lease', 1);
PRAGMA application_id = 1111638867;
PRAGMA user_version = 1;
)";
static_assert(kApplicationId == 1111638867);

// SQLite checks no content, so each row carries its own checksum.
uint32_t checksum(const KeyValue& entry) {
  std::array<std::byte, 40> numbers;
  const uint64_t values[] = {entry.create_revision, entry.mod_revision, entry.version, entry.lease,
                             entry.key.size()};
  for (size_t i = 0; i < std::size(values); ++i) store_le(numbers.data() + 8 * i, values[i]);
  uint32_t crc = crc32c(numbers);
  crc = crc32c(as_bytes(entry.key), crc);
  return crc32c(as_bytes(entry.value), crc);
}

std::string blob(sqlite3_stmt* row, int column) {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(row, column));
  return {bytes == nullptr ? "" : bytes, static_cast<size_t>(sqlite3_column_bytes(row, column))};
}

uint64_t number(sqlite3_stmt* row, int column) {
  return static_cast<uint64_t>(sqlite3_column_int64(row, column));
}

void bind(sqlite3_stmt* statement, int at, uint64_t value) {
  sqlite3_bind_int64(statement, at, static_cast<sqlite3_int64>(value));
}

void bind_blob(sqlite3_stmt* statement, int at, const std::string& bytes) {
  sqlite3_bind_blob64(statement, at, bytes.data(), bytes.size(), SQLITE_STATIC);
}

Code code_of(int rc, int number) {
  switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Code::k_busy;
    case SQLITE_FULL:
      return Code::k_no_space;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return Code::k_permission_denied;
    case SQLITE_CORRUPT:
      return Code::k_corrupt;
    case SQLITE_NOTADB:
      return Code::k_invalid_argument;
    case SQLITE_CANTOPEN:
      if (number == EACCES || number == EROFS || number == EPERM) return Code::k_permission_denied;
      return number == ENOENT || number == ENOTDIR ? Code::k_not_found : Code::k_invalid_argument;
    default:
      return number == ENOSPC || number == EDQUOT ? Code::k_no_space : Code::k_io_error;
  }
}

}  // namespace

// A query that ends with its scope.
class SqliteFile::Statement {
 public:
  Statement(sqlite3* db, const char* sql) {
    rc = sqlite3_prepare_v2(db, sql, -1, &handle, nullptr);
  }
  Statement(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(handle); }
  bool row() {
    if (rc == SQLITE_OK || rc == SQLITE_ROW) rc = sqlite3_step(handle);
    return rc == SQLITE_ROW;
  }
  sqlite3_stmt* handle = nullptr;
  int rc = SQLITE_OK;
};

SqliteFile::~SqliteFile() {
  for (sqlite3_stmt* statement : {put_, erase_, grant_, revoke_, set_meta_}) {
    sqlite3_finalize(statement);
  }
  sqlite3_close_v2(db_);
}

Status SqliteFile::fail(const char* doing, int rc) const {
  int number = db_ == nullptr ? 0 : sqlite3_system_errno(db_);
  Code code = code_of(rc, number);
  if (code == Code::k_busy) {
    return error(code, "cluster store file:{}: {}: another process has it open", path_, doing);
  }
  std::string text = db_ == nullptr ? sqlite3_errstr(rc) : sqlite3_errmsg(db_);
  bool errno_says_more = (rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_IOERR;
  if (number != 0 && errno_says_more) text += fmt::format(": {}", std::strerror(number));
  return error(code, "cluster store file:{}: {}: {}", path_, doing, text);
}

Status SqliteFile::run(const char* sql) {
  int rc = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  return rc == SQLITE_OK ? Status() : fail("open", sqlite3_extended_errcode(db_));
}

Result<uint64_t> SqliteFile::pragma(const char* sql) {
  Statement query(db_, sql);
  if (!query.row()) return fail("open", query.rc);
  return number(query.handle, 0);
}

Status SqliteFile::open(const std::string& path, uint64_t size_max_bytes) {
  path_ = path;
  int rc = sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  if (rc != SQLITE_OK) return fail("open", rc);
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_busy_timeout(db_, 250);  // a process that is just ending
  if (sqlite3_db_readonly(db_, "main") == 1) {
    return error(Code::k_permission_denied, "cluster store file:{}: the file is read-only", path_);
  }
  // Set before the first access, it keeps the lock until we close: the second process is refused.
  BB_TRY(run("PRAGMA locking_mode = EXCLUSIVE"));
  BB_TRY(check_kind());
  BB_TRY(run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"));
  BB_TRY(run("BEGIN EXCLUSIVE; COMMIT"));
  if (size_max_bytes != 0) {
    uint64_t pages = std::max<uint64_t>(size_max_bytes / kPageBytes, 8);
    BB_TRY(pragma(fmt::format("PRAGMA max_page_count = {}", pages).c_str()));
  }
  return prepare();
}

// Ours of a known version, or empty and made ours. A foreign database is left as it was.
Status SqliteFile::check_kind() {
  BB_ASSIGN(uint64_t tables, pragma("SELECT count(*) FROM sqlite_schema"));
  BB_ASSIGN(uint64_t application, pragma("PRAGMA application_id"));
  BB_ASSIGN(uint64_t version, pragma("PRAGMA user_version"));
  if (tables == 0 && application == 0) {
    return run(fmt::format("BEGIN EXCLUSIVE; {} COMMIT", kSchema).c_str());
  }
  if (application != kApplicationId) {
    return error(Code::k_invalid_argument,
                 "cluster store file:{}: a SQLite database of another program (application id "
                 "{:#x}, ours is {:#x})",
                 path_, application, kApplicationId);
  }
  if (version != kSchemaVersion) {
    return error(Code::k_not_supported,
                 "cluster store file:{}: schema version {}, this program knows {}", path_, version,
                 kSchemaVersion);
  }
  Statement check(db_, "PRAGMA quick_check(1)");
  if (!check.row()) return fail("check", check.rc);
  std::string verdict = blob(check.handle, 0);
  if (verdict == "ok") return {};
  return error(Code::k_corrupt, "cluster store file:{}: {}", path_, verdict);
}

Status SqliteFile::prepare() {
  const struct {
    sqlite3_stmt** statement;
    const char* sql;
  } rows[] = {
      {&put_, "INSERT OR REPLACE INTO kv VALUES(?,?,?,?,?,?,?)"},
      {&erase_, "DELETE FROM kv WHERE key = ?"},
      {&grant_, "INSERT INTO lease VALUES(?,?)"},
      {&revoke_, "DELETE FROM lease WHERE id = ?"},
      {&set_meta_, "UPDATE meta SET value = ? WHERE name = ?"},
  };
  for (const auto& row : rows) {
    int rc =
        sqlite3_prepare_v3(db_, row.sql, -1, SQLITE_PREPARE_PERSISTENT, row.statement, nullptr);
    if (rc != SQLITE_OK) return fail("open", rc);
  }
  return {};
}

Result<StoredState> SqliteFile::load() {
  StoredState state;
  Statement meta(db_, "SELECT name, value FROM meta");
  while (meta.row()) {
    std::string name = blob(meta.handle, 0);
    if (name == "revision") state.revision = number(meta.handle, 1);
    if (name == "next_lease") state.next_lease = number(meta.handle, 1);
  }
  if (meta.rc != SQLITE_DONE) return fail("load", meta.rc);
  Statement leases(db_, "SELECT id, ttl_ns FROM lease");
  while (leases.row()) {
    state.leases.push_back({.id = number(leases.handle, 0), .ttl_ns = number(leases.handle, 1)});
  }
  if (leases.rc != SQLITE_DONE) return fail("load", leases.rc);
  Statement rows(db_,
                 "SELECT key, value, create_revision, mod_revision, version, lease, crc32c "
                 "FROM kv ORDER BY key");
  while (rows.row()) {
    KeyValue entry{.key = blob(rows.handle, 0),
                   .value = blob(rows.handle, 1),
                   .create_revision = number(rows.handle, 2),
                   .mod_revision = number(rows.handle, 3),
                   .version = number(rows.handle, 4),
                   .lease = number(rows.handle, 5)};
    if (number(rows.handle, 6) != checksum(entry)) {
      return error(Code::k_corrupt, "cluster store file:{}: key \"{}\": wrong checksum", path_,
                   entry.key.substr(0, 64));
    }
    state.entries.push_back(std::move(entry));
  }
  if (rows.rc != SQLITE_DONE) return fail("load", rows.rc);
  return state;
}

Status SqliteFile::step(sqlite3_stmt* statement, const char* doing) {
  int rc = sqlite3_step(statement);
  Status status = rc == SQLITE_DONE ? Status() : fail(doing, rc);
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return status;
}

Status SqliteFile::write(const Effects& effects, uint64_t next_lease) {
  for (const WatchEvent& event : effects.events) {
    const KeyValue& entry = event.entry;
    if (event.kind == WatchEvent::Kind::kDelete) {
      bind_blob(erase_, 1, entry.key);
      BB_TRY(step(erase_, "delete"));
      continue;
    }
    bind_blob(put_, 1, entry.key);
    bind_blob(put_, 2, entry.value);
    // Empty blobs from an empty string's pointer are blobs, not NULL: data() is never null.
    bind(put_, 3, entry.create_revision);
    bind(put_, 4, entry.mod_revision);
    bind(put_, 5, entry.version);
    bind(put_, 6, entry.lease);
    bind(put_, 7, checksum(entry));
    BB_TRY(step(put_, "put"));
  }
  if (effects.granted.has_value()) {
    bind(grant_, 1, effects.granted->id);
    bind(grant_, 2, effects.granted->ttl_ns);
    BB_TRY(step(grant_, "grant a lease"));
  }
  if (effects.revoked != 0) {
    bind(revoke_, 1, effects.revoked);
    BB_TRY(step(revoke_, "revoke a lease"));
  }
  const std::pair<const char*, uint64_t> numbers[] = {{"revision", effects.revision},
                                                      {"next_lease", next_lease}};
  for (const auto& [name, value] : numbers) {
    bind(set_meta_, 1, value);
    sqlite3_bind_text(set_meta_, 2, name, -1, SQLITE_STATIC);
    BB_TRY(step(set_meta_, "set the revision"));
  }
  return {};
}

Status SqliteFile::commit(const Effects& effects, uint64_t next_lease, bool* unknown) {
  *unknown = false;
  int rc = sqlite3_exec(db_, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return fail("begin", sqlite3_extended_errcode(db_));
  Status status = write(effects, next_lease);
  bool committing = status.ok();
  if (committing) {
    rc = sqlite3_exec(db_, "COMMIT", nullptr, nullptr, nullptr);
    if (rc == SQLITE_OK) return {};
    status = fail("commit", sqlite3_extended_errcode(db_));
  }
  if (sqlite3_get_autocommit(db_) == 0) {
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  // A commit that failed for want of space is undone; after an I/O error the log on the drive may
  // or may not hold it, and only a new start that reads the drive can tell.
  *unknown = committing && status.code() != Code::k_no_space && status.code() != Code::k_busy;
  return status;
}

}  // namespace bb::cluster
