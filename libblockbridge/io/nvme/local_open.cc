// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/local_open.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/units.h"

#include <libnvme.h>  // last: it defines macros of common names, such as round_up

namespace bb::io::nvme {
namespace {

Status errno_status(std::string_view what, int number) {
  Code code = Code::k_io_error;
  if (number == ENOENT || number == ENXIO || number == ENODEV) code = Code::k_not_found;
  if (number == EACCES || number == EPERM || number == EROFS) code = Code::k_permission_denied;
  if (number == EBUSY) code = Code::k_busy;
  return error(code, "{}: {} (errno {})", what, std::strerror(number), number);
}

// libnvme gives -1 with errno, or a status of the drive.
Status asked(std::string_view what, int rc) {
  if (rc == 0) return {};
  if (rc < 0) return errno_status(what, errno);
  auto status = static_cast<NvmeStatus>(rc);
  return error(code_of(status), "{}: {}", what, nvme_status_text(status));
}

uint64_t read_number(const std::string& path, uint64_t otherwise) {
  std::ifstream file(path);
  uint64_t number = otherwise;
  file >> number;
  return file ? number : otherwise;
}

QueueLimits queue_limits(const std::string& block_path) {
  std::string queue = "/sys/class/block/" + block_path.substr(block_path.rfind('/') + 1) + "/queue";
  if (::access(queue.c_str(), R_OK) != 0) return kLeastLimits;
  return {.io_max_bytes = read_number(queue + "/max_hw_sectors_kb", 512) * KiB,
          .segments_max = static_cast<uint32_t>(
              read_number(queue + "/max_segments", kLeastLimits.segments_max)),
          .discard_max_bytes = read_number(queue + "/discard_max_hw_bytes", 0),
          .write_zeroes_max_bytes = read_number(queue + "/write_zeroes_max_bytes", 0)};
}

Status hold_block_device(const LocalOptions& options, const std::string& path,
                         OpenedNamespace& opened) {
  if (!options.lock || path.empty()) return {};
  opened.block = Fd(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (opened.block.ok() || errno == ENOENT) return {};
  if (errno == EBUSY) {
    return error(Code::k_busy, "{}: its block device {} is mounted or in use; lock=0 goes ahead",
                 options.path, path);
  }
  return errno_status(path, errno);
}

Status open_command_device(const LocalOptions& options, OpenedNamespace& opened) {
  struct stat st{};
  if (::stat(options.path.c_str(), &st) != 0) return errno_status(options.path, errno);
  if (!S_ISCHR(st.st_mode)) {
    return error(Code::k_invalid_argument,
                 "{}: not the character device of an NVMe namespace, such as /dev/ng0n1",
                 options.path);
  }
  int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  opened.command = Fd(::open(options.path.c_str(), flags));
  return opened.command.ok() ? Status() : errno_status(options.path, errno);
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

std::string block_path_of(std::string_view command_path) {
  constexpr std::string_view kPrefix = "/dev/ng";
  if (!command_path.starts_with(kPrefix)) return "";
  return "/dev/nvme" + std::string(command_path.substr(kPrefix.size()));
}

Result<LocalOptions> parse_local_options(Uri uri) {
  LocalOptions options;
  options.path = uri.rest;
  if (!options.path.starts_with("/")) {
    return error(Code::k_invalid_argument, "\"nvme:{}\": expected nvme:/dev/ngXnY", options.path);
  }
  BB_ASSIGN(uint64_t depth, uri.take_u64("queue_depth", 128, 1024));
  BB_ASSIGN(options.io_timeout_ns, uri.take_duration_ns("io_timeout", 30 * kNsPerSecond));
  BB_ASSIGN(options.read_only, uri.take_bool("read_only", false));
  BB_ASSIGN(options.lock, uri.take_bool("lock", true));
  BB_TRY(uri.reject_unknown());
  if (depth == 0) return error(Code::k_invalid_argument, "URI option queue_depth: 0 is too small");
  if (options.io_timeout_ns < kNsPerMs) {
    return error(Code::k_invalid_argument, "URI option io_timeout: less than a millisecond");
  }
  options.queue_depth = static_cast<uint32_t>(depth);
  return options;
}

Result<OpenedNamespace> open_namespace(const LocalOptions& options) {
  OpenedNamespace opened;
  BB_TRY(open_command_device(options, opened));
  std::string block_path = block_path_of(options.path);
  BB_TRY(hold_block_device(options, block_path, opened));
  int fd = opened.command.get();
  uint32_t nsid = 0;
  if (nvme_get_nsid(fd, &nsid) != 0) {
    return error(Code::k_invalid_argument, "{}: not an NVMe namespace ({})", options.path,
                 std::strerror(errno));
  }
  alignas(4096) nvme_id_ctrl controller{};
  alignas(4096) nvme_id_ns space{};
  BB_TRY(asked(options.path + ": Identify Controller", nvme_identify_ctrl(fd, &controller)));
  BB_TRY(asked(options.path + ": Identify Namespace", nvme_identify_ns(fd, nsid, &space)));
  auto info = NamespaceInfo::decode({reinterpret_cast<const std::byte*>(&space), sizeof space});
  if (!info.ok()) return info.status().with_context(options.path);
  opened.info = *info;
  opened.volatile_cache = (controller.vwc & 1) != 0;
  opened.model.assign(controller.mn, strnlen(controller.mn, sizeof controller.mn));
  opened.target = local_namespace_of(nsid, opened.info, controller.mdts, le16toh(controller.oncs),
                                     queue_limits(block_path));
  return opened;
}

}  // namespace bb::io::nvme
