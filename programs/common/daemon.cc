// SPDX-License-Identifier: Apache-2.0
#include "common/daemon.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace bb::program {
namespace {

// The protocol of sd_notify(3): one datagram to the socket that systemd names.
void notify_systemd(std::string_view text) {
  const char* name = std::getenv("NOTIFY_SOCKET");
  sockaddr_un to{.sun_family = AF_UNIX};
  if (name == nullptr || std::strlen(name) >= sizeof(to.sun_path)) return;
  std::strcpy(to.sun_path, name);
  if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(name));
  (void)!sendto(fd, text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to),
                length);
  close(fd);
}

}  // namespace

Result<std::string> read_config_file(const std::string& path, size_t bytes_max) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return error(errno == ENOENT ? Code::k_not_found : Code::k_permission_denied,
                 "configuration {}: {}", path, std::strerror(errno));
  std::string text(bytes_max + 1, '\0');
  size_t length = 0;
  ssize_t got = 0;
  while (length < text.size() &&
         (got = pread(fd, &text[length], text.size() - length, static_cast<off_t>(length))) > 0)
    length += static_cast<size_t>(got);
  int why = errno;
  close(fd);
  if (got < 0) return error(Code::k_io_error, "configuration {}: {}", path, std::strerror(why));
  text.resize(length);
  return text;
}

void announce_ready(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
  notify_systemd("READY=1\n");
}

void announce_stopping() { notify_systemd("STOPPING=1\n"); }

}  // namespace bb::program
