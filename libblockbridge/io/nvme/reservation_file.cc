// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "base/check.h"
#include "io/errno_status.h"
#include "io/offload.h"

namespace bb::io::nvme {
namespace {

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }

 private:
  int fd_;
};

Status failed(const std::string& path) { return errno_status(path, errno); }

// Reads what is there, at most `into`; a file that is longer counts as that much longer.
Result<size_t> read_all(const std::string& path, Bytes into) {
  Descriptor file(path, O_RDONLY);
  if (!file.valid()) return failed(path);
  size_t have = 0;
  while (have < into.size()) {
    ssize_t got = ::read(file.get(), into.data() + have, into.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(path);
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  return have;
}

Status write_durably(const std::string& path, ConstBytes bytes) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.valid()) return failed(path);
  while (!bytes.empty()) {
    ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed(path);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return ::fsync(file.get()) == 0 ? Status() : failed(path);
}

Status sync_folder(const std::string& path) {
  Descriptor folder(path, O_RDONLY | O_DIRECTORY);
  if (!folder.valid() || ::fsync(folder.get()) != 0) return failed(path);
  return {};
}

}  // namespace

ReservationFile::ReservationFile(Context context, const std::string& folder, const Uuid& nspace)
    : context_(context),
      folder_(folder),
      path_(folder + "/" + nspace.to_string() + ".reservation") {
  BB_CHECK(context_.offload != nullptr, "{}: needs a thread for calls that block", path_);
  record_.nspace = nspace;
}

Status ReservationFile::read() {
  std::array<std::byte, kReservationRecordBytes + 1> bytes;
  Result<size_t> length = read_all(path_, bytes);
  if (length.code() == Code::k_not_found) return sync_folder(folder_);  // none; is there a folder?
  if (!length.ok()) return length.status();
  Result<ReservationRecord> found = decode_record(Bytes(bytes).first(*length));
  if (found.code() == Code::k_not_found) return error(Code::k_corrupt, "{}: no record", path_);
  if (!found.ok()) return found.status().with_context(path_);
  if (found->nspace != record_.nspace)
    return error(Code::k_corrupt, "{}: of namespace {}", path_, found->nspace.to_string());
  record_ = std::move(found).value();
  return {};
}

// Until the rename the old record is whole, from it on the new one: a crash leaves one of them, and
// perhaps a file that the next save overwrites.
Status ReservationFile::write(const ReservationRecord& record) const {
  std::array<std::byte, kReservationRecordBytes> bytes;
  encode_record(record, bytes);
  std::string fresh = path_ + ".new";
  BB_TRY(write_durably(fresh, bytes));
  if (::rename(fresh.c_str(), path_.c_str()) != 0) return failed(path_);
  return sync_folder(folder_);
}

Task<Result<ReservationState>> ReservationFile::load() {
  Status status;
  co_await context_.offload->run(context_.loop, [this, &status] { status = read(); });
  if (!status.ok()) co_return status.with_context("reservations");
  co_return record_.state;
}

Task<Status> ReservationFile::save(ReservationState state) {
  ReservationRecord next = record_;
  ++next.sequence;
  next.state = std::move(state);
  Status status;
  co_await context_.offload->run(context_.loop, [this, &status, &next] { status = write(next); });
  if (!status.ok()) co_return status.with_context("reservations");
  record_ = std::move(next);
  co_return Status();
}

}  // namespace bb::io::nvme
