// SPDX-License-Identifier: Apache-2.0
#include "backplane/probe.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/offload.h"

namespace bb::backplane {
namespace {

std::string describe(blkid_probe probe) {
  const char* type = nullptr;
  const char* usage = nullptr;
  if (blkid_probe_lookup_value(probe, "TYPE", &type, nullptr) == 0) {
    bool known = blkid_probe_lookup_value(probe, "USAGE", &usage, nullptr) == 0;
    return fmt::format("{} {}", type, known ? usage : "contents");
  }
  if (blkid_probe_lookup_value(probe, "PTTYPE", &type, nullptr) == 0)
    return fmt::format("{} partition table", type);
  return "unknown contents";
}

Result<std::string> probe_now(const std::string& path) {
  struct stat about{};
  if (stat(path.c_str(), &about) != 0)
    return error(Code::k_not_found, "{}: {}", path, std::strerror(errno));
  // O_EXCL on a block device fails while the kernel itself uses it.
  int flags = O_RDONLY | O_CLOEXEC | (S_ISBLK(about.st_mode) ? O_EXCL : 0);
  int fd = open(path.c_str(), flags);
  if (fd < 0 && errno == EBUSY)
    return error(Code::k_busy, "{} is mounted or otherwise in use by the kernel", path);
  if (fd < 0) return error(Code::k_io_error, "{}: {}", path, std::strerror(errno));
  blkid_probe probe = blkid_new_probe();
  std::string found;
  if (probe != nullptr && blkid_probe_set_device(probe, fd, 0, 0) == 0) {
    blkid_probe_enable_superblocks(probe, 1);
    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
    blkid_probe_enable_partitions(probe, 1);
    int result = blkid_do_safeprobe(probe);
    if (result == 0) found = describe(probe);
    if (result == -2) found = "contents of more than one kind";
  }
  if (probe != nullptr) blkid_free_probe(probe);
  close(fd);
  return found;
}

}  // namespace

io::Task<Result<std::string>> probe_contents(io::Context context, std::string path) {
  if (context.offload == nullptr)
    co_return error(Code::k_not_supported, "{}: no real files here", path);
  Result<std::string> found{std::string()};
  co_await context.offload->run(context.loop, [&found, &path] { found = probe_now(path); });
  co_return found;
}

}  // namespace bb::backplane
