// SPDX-License-Identifier: Apache-2.0
#include "io/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace bb::io {
namespace {

constexpr size_t kSecretFileMaxBytes = 4096;

class File {
 public:
  explicit File(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {}
  File(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

Status system_error(const std::string& path, int number) {
  Code code = number == ENOENT || number == ENOTDIR ? Code::k_not_found
              : number == EACCES || number == EPERM ? Code::k_permission_denied
                                                    : Code::k_io_error;
  return error(code, "{}: {}", path, std::strerror(number));
}

// Asked of the open file: what was checked is what is read.
Status check(const std::string& path, const File& file, bool secret) {
  struct stat info{};
  if (file.fd() < 0 || ::fstat(file.fd(), &info) != 0) return system_error(path, errno);
  if (!S_ISREG(info.st_mode)) return error(Code::k_invalid_argument, "{}: not a file", path);
  if (secret && (info.st_mode & 077) != 0) {
    return error(Code::k_permission_denied,
                 "{}: a secret that others than its owner may read or change (mode {:04o}): "
                 "chmod 600 it",
                 path, info.st_mode & 07777);
  }
  return {};
}

}  // namespace

Status check_readable(const std::string& path) { return check(path, File(path), false); }
Status check_private(const std::string& path) { return check(path, File(path), true); }

Result<Secret> read_secret_file(const std::string& path) {
  File file(path);
  BB_TRY(check(path, file, true));
  Secret content(kSecretFileMaxBytes + 1);
  size_t length = 0;
  while (length < content.size()) {
    ssize_t got = ::read(file.fd(), content.data() + length, content.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, errno);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  if (length > kSecretFileMaxBytes) {
    return error(Code::k_invalid_argument, "{}: a secret of more than {} bytes", path,
                 kSecretFileMaxBytes);
  }
  content.shorten(length);
  return content;
}

}  // namespace bb::io
