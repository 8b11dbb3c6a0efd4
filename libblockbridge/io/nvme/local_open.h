// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/uri.h"
#include "io/nvme/passthrough.h"

namespace bb::io::nvme {

struct LocalOptions {
  std::string path;
  uint32_t queue_depth = 128;
  uint64_t io_timeout_ns = 0;
  bool read_only = false;
  bool lock = true;  // hold the block device of the namespace, so that nobody mounts it meanwhile
};
Result<LocalOptions> parse_local_options(Uri uri);

// An owned descriptor.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

struct OpenedNamespace {
  Fd command;  // /dev/ngXnY
  Fd block;    // /dev/nvmeXnY, exclusively; or none
  LocalNamespace target;
  NamespaceInfo info;
  std::string model;
  bool volatile_cache = false;
};

// "/dev/nvme0n1" of "/dev/ng0n1"; empty for anything else.
std::string block_path_of(std::string_view command_path);

// Opens and asks the drive what it is. Blocks: not on a loop's thread. NOT_FOUND,
// PERMISSION_DENIED, BUSY (mounted), NOT_SUPPORTED (format with metadata, kernel before 5.19).
Result<OpenedNamespace> open_namespace(const LocalOptions& options);

}  // namespace bb::io::nvme
