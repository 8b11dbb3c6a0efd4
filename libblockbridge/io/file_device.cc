// SPDX-License-Identifier: Apache-2.0
#include "io/file_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "base/units.h"
#include "io/buffer.h"
#include "io/errno_status.h"
#include "io/file_extents.h"
#include "io/offload.h"
#include "io/reactor.h"
#include "io/sync.h"

namespace bb::io {
namespace {

// From linux/falloc.h, which glibc's fcntl.h contradicts when both are included.
constexpr int kKeepSize = 0x01;
constexpr int kPunchHole = 0x02;
constexpr int kZeroRange = 0x10;

struct FileOptions {
  std::string path;
  std::string direct;  // auto, 1, 0
  bool create = false;
  bool read_only = false;
  bool lock = true;
  uint64_t size_bytes = 0;  // 0: as it is
};

class FileDevice final : public Device {
 public:
  FileDevice(DeviceInfo info, int fd, Reactor& reactor, Offload* offload, uint32_t memory_alignment)
      : fd_(fd),
        reactor_(reactor),
        offload_(offload),
        memory_alignment_(memory_alignment),
        gate_(reactor) {
    info_ = std::move(info);
  }
  // The lock ends here and not with the last reference to the file, of which a thread of the kernel
  // that did a flush may have one for a moment longer.
  ~FileDevice() override {
    flock(fd_, LOCK_UN);
    reactor_.close(fd_);
  }

  Task<Status> close() override {
    set_state(DeviceState::kClosed);
    co_await gate_.close();
    co_return Status();
  }

 protected:
  void do_submit(IoRequest& request) override;
  Task<Result<std::vector<Extent>>> do_extents(uint64_t offset_bytes, uint64_t length_bytes,
                                               uint32_t limit) override;

 private:
  // What a request needs while it is with the engine; lives in the request's scratch.
  struct Op final : EngineOp {
    FileDevice* device = nullptr;
    IoRequest* request = nullptr;
    uint64_t transferred = 0;
    iovec rest{};                  // what is left after a short transfer
    std::byte* bounce = nullptr;   // aligned copy, when the caller's memory is not
    bool zero_by_writing = false;  // the file system cannot zero a range: we write the zeroes
    bool flushing = false;         // the range is zeroed, now made durable
  };
  static_assert(sizeof(Op) <= sizeof(IoRequest::scratch));

  static void on_complete(EngineOp* op, int32_t result) {
    auto* self = static_cast<Op*>(op);
    self->device->completed(*self, result);
  }
  bool aligned(const IoRequest& request) const;
  void start(Op& op);
  void start_transfer(Op& op);
  void start_fallocate(Op& op, int mode);
  void zeroed_range(Op& op, int32_t result);
  void start_zeroing(Op& op);
  void completed(Op& op, int32_t result);
  void finish(Op& op, Status status);
  Status failed(const IoRequest& request, int number) const;

  static constexpr uint64_t kZeroesBytes = 128 * KiB;
  int fd_;
  Reactor& reactor_;
  Offload* offload_;  // null: nothing that blocks can be asked
  uint32_t memory_alignment_;
  Gate gate_;
  AlignedBuffer zeroes_;
};

bool FileDevice::aligned(const IoRequest& request) const {
  if (memory_alignment_ <= 1) return true;
  for (uint32_t i = 0; i < request.iov_count; ++i) {
    auto address = reinterpret_cast<uintptr_t>(request.iov[i].iov_base);
    if ((address | request.iov[i].iov_len) % memory_alignment_ != 0) return false;
  }
  return true;
}

void FileDevice::do_submit(IoRequest& request) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  auto* op = new (request.scratch) Op;
  op->complete = on_complete;
  op->device = this;
  op->request = &request;
  bool transfers = request.op == IoOp::kRead || request.op == IoOp::kWrite;
  if (transfers && (request.iov_count > IOV_MAX || !aligned(request))) {
    op->bounce = static_cast<std::byte*>(
        std::aligned_alloc(AlignedBuffer::kAlignmentBytes,
                           round_up(request.length_bytes, AlignedBuffer::kAlignmentBytes)));
    if (op->bounce == nullptr) {
      finish(*op, error(Code::k_no_space, "{}: no memory for {} bytes", info_.uri,
                        request.length_bytes));
      return;
    }
    if (request.op == IoOp::kWrite) {
      iov_gather(request.iov, request.iov_count, 0, {op->bounce, request.length_bytes});
    }
  }
  start(*op);
}

void FileDevice::start(Op& op) {
  IoRequest& request = *op.request;
  switch (request.op) {
    case IoOp::kRead:
    case IoOp::kWrite:
      start_transfer(op);
      return;
    case IoOp::kWriteZeroes:
      start_zeroing(op);
      return;
    case IoOp::kFlush:
      reactor_.fdatasync(op, fd_);
      return;
    case IoOp::kDiscard:
      start_fallocate(op, kPunchHole | kKeepSize);
      return;
  }
}

void FileDevice::start_fallocate(Op& op, int mode) {
  reactor_.fallocate(op, fd_, mode, op.request->offset_bytes, op.request->length_bytes);
}

void FileDevice::start_transfer(Op& op) {
  IoRequest& request = *op.request;
  const iovec* iov = request.iov;
  uint32_t count = request.iov_count;
  if (op.bounce != nullptr || op.transferred > 0) {
    std::byte* base = op.bounce;
    if (base == nullptr) {  // a short transfer of the caller's own memory: go on inside an iovec
      uint64_t skip = op.transferred;
      uint32_t i = 0;
      while (skip >= iov[i].iov_len) skip -= iov[i++].iov_len;
      op.rest = {.iov_base = static_cast<std::byte*>(iov[i].iov_base) + skip,
                 .iov_len = iov[i].iov_len - skip};
    } else {
      op.rest = {.iov_base = base + op.transferred,
                 .iov_len = request.length_bytes - op.transferred};
    }
    iov = &op.rest;
    count = 1;
  }
  uint64_t at = request.offset_bytes + op.transferred;
  if (request.op == IoOp::kRead) {
    reactor_.readv(op, fd_, iov, count, at);
  } else {
    reactor_.writev(op, fd_, iov, count, at, request.fua ? RWF_DSYNC : 0);
  }
}

// A hole reads as zeroes and is durable as soon as the file's metadata is: with FUA a flush
// follows. Block devices and some file systems cannot: there the zeroes are written.
void FileDevice::start_zeroing(Op& op) {
  IoRequest& request = *op.request;
  if (!op.zero_by_writing) {
    return start_fallocate(op, (request.may_discard ? kPunchHole : kZeroRange) | kKeepSize);
  }
  if (zeroes_.size() == 0) zeroes_ = AlignedBuffer(kZeroesBytes);
  uint64_t left = std::min(request.length_bytes - op.transferred, kZeroesBytes);
  op.rest = {.iov_base = zeroes_.data(), .iov_len = left};
  reactor_.writev(op, fd_, &op.rest, 1, request.offset_bytes + op.transferred,
                  request.fua ? RWF_DSYNC : 0);
}

Status FileDevice::failed(const IoRequest& request, int number) const {
  return errno_status(fmt::format("{}: {} of {} bytes at {}", info_.uri, io_op_name(request.op),
                                  request.length_bytes, request.offset_bytes),
                      number);
}

void FileDevice::completed(Op& op, int32_t result) {
  IoRequest& request = *op.request;
  if (result == -EINTR || result == -EAGAIN) return reactor_.submit(op);
  if (request.op == IoOp::kWriteZeroes && !op.zero_by_writing) return zeroed_range(op, result);
  // Where holes cannot be made, a discard is a hint not taken.
  if (request.op == IoOp::kDiscard && result == -EOPNOTSUPP) result = 0;
  if (result < 0) return finish(op, failed(request, -result));
  if (request.op == IoOp::kFlush || request.op == IoOp::kDiscard) return finish(op, Status());
  if (result == 0 && op.transferred < request.length_bytes) {
    return finish(
        op, error(Code::k_io_error, "{}: {} of {} bytes at {}: the file ends before", info_.uri,
                  io_op_name(request.op), request.length_bytes, request.offset_bytes));
  }
  op.transferred += static_cast<uint64_t>(result);
  if (op.transferred < request.length_bytes) return start(op);
  finish(op, Status());
}

void FileDevice::zeroed_range(Op& op, int32_t result) {
  IoRequest& request = *op.request;
  if (!op.flushing && (result == -EOPNOTSUPP || result == -EINVAL)) {
    if (request.fast_only) {
      return finish(
          op, error(Code::k_not_supported, "{}: zeroing is not faster than writing", info_.uri));
    }
    op.zero_by_writing = true;
    return start(op);
  }
  if (result == 0 && request.fua && !op.flushing) {
    op.flushing = true;
    return reactor_.fdatasync(op, fd_);
  }
  finish(op, result < 0 ? failed(request, -result) : Status());
}

void FileDevice::finish(Op& op, Status status) {
  IoRequest& request = *op.request;
  if (op.bounce != nullptr) {
    if (status.ok() && request.op == IoOp::kRead) {
      iov_scatter(request.iov, request.iov_count, 0, {op.bounce, request.length_bytes});
    }
    std::free(op.bounce);
  }
  op.~Op();
  request.done(&request, std::move(status));
  gate_.leave();
}

Task<Result<std::vector<Extent>>> FileDevice::do_extents(uint64_t offset_bytes,
                                                         uint64_t length_bytes, uint32_t limit) {
  if (offload_ == nullptr) co_return std::vector<Extent>{{.length_bytes = length_bytes}};
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  std::vector<Extent> list;
  auto* into = &list;
  int fd = fd_;
  uint64_t end_bytes = offset_bytes + length_bytes;
  uint64_t block_bytes = info_.block_size_bytes;
  co_await offload_->run(
      reactor_, [=] { *into = file_extents(fd, offset_bytes, end_bytes, limit, block_bytes); });
  gate_.leave();
  co_return list;
}

// Opening: plain code, done once.

struct OpenFile {
  int fd = -1;
  bool direct = false;
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }
};

Status check_options(const FileOptions& options) {
  if (!options.create) return {};
  if (options.read_only) {
    return error(Code::k_invalid_argument, "{}: create=1 contradicts read_only=1", options.path);
  }
  if (options.size_bytes == 0 || options.size_bytes % 512 != 0) {
    return error(Code::k_invalid_argument,
                 "{}: create=1 needs size=, a multiple of 512 bytes, not {}", options.path,
                 options.size_bytes);
  }
  return {};
}

Status open_path(const FileOptions& options, OpenFile& file) {
  struct stat st{};  // first, because opening a FIFO or a terminal would wait or do more than that
  if (::stat(options.path.c_str(), &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
    return error(Code::k_invalid_argument, "{}: neither a file nor a block device", options.path);
  }
  int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  if (options.create) flags |= O_CREAT;
  if (options.direct != "0") {
    file.fd = ::open(options.path.c_str(), flags | O_DIRECT, 0600);
    file.direct = file.fd >= 0;
    if (file.fd < 0 && (errno != EINVAL || options.direct == "1"))
      return errno_status(options.path, errno);
  }
  if (file.fd < 0) file.fd = ::open(options.path.c_str(), flags, 0600);
  if (file.fd < 0) return errno_status(options.path, errno);
  if (!options.lock) return {};
  if (flock(file.fd, (options.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return errno_status(options.path + ": flock", errno);
  return error(Code::k_busy, "{}: in use by another opener (locked)", options.path);
}

Status size_regular(const FileOptions& options, int fd, const struct stat& st, DeviceInfo& info) {
  info.size_bytes = static_cast<uint64_t>(st.st_size);
  if (options.size_bytes != 0 && info.size_bytes == 0 && options.create) {
    int rc = ftruncate(fd, static_cast<off_t>(options.size_bytes));
    if (rc != 0) return errno_status(options.path, errno);
    info.size_bytes = options.size_bytes;
  }
  if (options.size_bytes != 0 && info.size_bytes != options.size_bytes) {
    return error(Code::k_already_exists, "{}: has {} bytes, asked for {}", options.path,
                 info.size_bytes, options.size_bytes);
  }
  if (info.size_bytes == 0 || info.size_bytes % info.block_size_bytes != 0) {
    return error(Code::k_invalid_argument, "{}: size {} is not a multiple of {} bytes",
                 options.path, info.size_bytes, info.block_size_bytes);
  }
  return {};
}

Status describe(const FileOptions& options, OpenFile& file, DeviceInfo& info) {
  struct stat st{};
  if (fstat(file.fd, &st) != 0) return errno_status(options.path, errno);
  info.read_only = options.read_only;
  info.volatile_cache = true;
  info.discard = true;
  info.fast_zero = true;  // asked of the file system each time, see fast_only
  if (S_ISBLK(st.st_mode)) {
    info.fast_zero = false;  // the kernel may well write them itself
    int block = 0;
    if (ioctl(file.fd, BLKGETSIZE64, &info.size_bytes) != 0 ||
        ioctl(file.fd, BLKSSZGET, &block) != 0) {
      return errno_status(options.path, errno);
    }
    info.block_size_bytes = static_cast<uint32_t>(block);
    int physical = 0;
    if (ioctl(file.fd, BLKPBSZGET, &physical) == 0 && physical >= block) {
      info.physical_block_bytes = static_cast<uint32_t>(physical);
    }
    if (info.size_bytes == 0) {
      return error(Code::k_invalid_argument, "{}: the block device has no size", options.path);
    }
    return {};
  }
  return size_regular(options, file.fd, st, info);
}

// Some file systems take O_DIRECT at 4096 only, or not at all although open() let it pass: ask by
// reading. -> the alignment that memory needs; 1 when I/O goes through the page cache.
Result<uint32_t> find_direct_alignment(const FileOptions& options, OpenFile& file,
                                       DeviceInfo& info) {
  if (!file.direct) return uint32_t{1};
  AlignedBuffer probe(2 * AlignedBuffer::kAlignmentBytes);
  if (info.block_size_bytes == 512 && ::pread(file.fd, probe.data() + 512, 512, 0) == 512) {
    return uint32_t{512};
  }
  if (info.size_bytes % 4096 == 0 && ::pread(file.fd, probe.data(), 4096, 0) == 4096) {
    info.block_size_bytes = 4096;
    return uint32_t{4096};
  }
  if (options.direct == "1") {
    return error(Code::k_not_supported,
                 "{}: direct=1: the file system takes direct I/O neither at 512 bytes nor, with a "
                 "file of {} bytes, at 4096",
                 options.path, info.size_bytes);
  }
  int flags = fcntl(file.fd, F_GETFL);
  if (flags < 0 || fcntl(file.fd, F_SETFL, flags & ~O_DIRECT) != 0) {
    return errno_status(options.path, errno);
  }
  file.direct = false;
  return uint32_t{1};
}

}  // namespace

Task<Result<std::unique_ptr<Device>>> open_file_device(Context context, Uri uri, std::string text) {
  if (context.reactor == nullptr) {
    co_return error(Code::k_not_supported, "{}: there are no files in the simulator", text);
  }
  FileOptions options;
  options.path = uri.rest;
  options.direct = uri.take("direct", "auto");
  if (options.direct == "on") options.direct = "1";
  if (options.direct == "off") options.direct = "0";
  if (options.direct != "auto" && options.direct != "1" && options.direct != "0") {
    co_return error(Code::k_invalid_argument, "{}: direct={} is none of auto, 1, 0", text,
                    options.direct);
  }
  if (options.path.empty()) co_return error(Code::k_invalid_argument, "{}: no path", text);
  BB_CO_ASSIGN(options.create, uri.take_bool("create", false));
  BB_CO_ASSIGN(options.read_only, uri.take_bool("read_only", false));
  BB_CO_ASSIGN(options.lock, uri.take_bool("lock", true));
  BB_CO_ASSIGN(options.size_bytes, uri.take_size("size", 0));
  BB_CO_TRY(uri.reject_unknown());
  BB_CO_TRY(check_options(options));

  OpenFile file;
  BB_CO_TRY(open_path(options, file));
  DeviceInfo info;
  info.uri = "file:" + options.path;
  BB_CO_TRY(describe(options, file, info));
  BB_CO_ASSIGN(uint32_t memory_alignment, find_direct_alignment(options, file, info));
  int fd = std::exchange(file.fd, -1);
  co_return std::unique_ptr<Device>(std::make_unique<FileDevice>(
      std::move(info), fd, *context.reactor, context.offload, memory_alignment));
}

}  // namespace bb::io
