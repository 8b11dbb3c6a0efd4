// SPDX-License-Identifier: Apache-2.0
// usage: deny_syscalls EPERM|ENOSYS NAME[,NAME...] PROGRAM [ARGUMENT...]
// Runs the program as a sandbox would that refuses these system calls, with a seccomp filter.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Name {
  const char* name;
  uint32_t number;
};
constexpr Name kNames[] = {{"io_uring_setup", __NR_io_uring_setup},
                           {"epoll_pwait2", __NR_epoll_pwait2}};

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

int wrong(const std::string& text) {
  std::fprintf(stderr, "deny_syscalls: %s\n", text.c_str());
  return 2;
}

bool numbers_of(const std::string& names, std::vector<uint32_t>* numbers) {
  std::istringstream in(names);
  for (std::string name; std::getline(in, name, ',');) {
    size_t before = numbers->size();
    for (const Name& known : kNames) {
      if (name == known.name) numbers->push_back(known.number);
    }
    if (numbers->size() == before) return false;
  }
  return !numbers->empty();
}

// Loads the number, compares it with each: one comparison jumps to what follows it, or over that.
std::vector<sock_filter> make_filter(const std::vector<uint32_t>& numbers, uint32_t refusal) {
  constexpr auto kArch = static_cast<uint32_t>(offsetof(seccomp_data, arch));
  constexpr auto kNumber = static_cast<uint32_t>(offsetof(seccomp_data, nr));
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),  // another architecture's numbers
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
  };
  for (uint32_t number : numbers) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | refusal));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return filter;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return wrong("usage: EPERM|ENOSYS NAME[,NAME...] PROGRAM [ARGUMENT...]");
  std::string as = argv[1];
  if (as != "EPERM" && as != "ENOSYS") return wrong(as + " is none of EPERM, ENOSYS");
  uint32_t refusal = as == "EPERM" ? EPERM : ENOSYS;
  std::vector<uint32_t> numbers;
  if (!numbers_of(argv[2], &numbers)) return wrong(std::string("unknown names: ") + argv[2]);
  std::vector<sock_filter> filter = make_filter(numbers, refusal);
  sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::printf("skipped: no seccomp filters here: %s\n", std::strerror(errno));
    return 77;
  }
  // A filter that lets it pass would make a judge of nothing.
  errno = 0;
  if (syscall(numbers[0], 0, nullptr, 0, 0, 0, 0) != -1 || errno != static_cast<int>(refusal)) {
    return wrong(std::string(argv[2]) + " is not refused");
  }
  execvp(argv[3], argv + 3);
  return wrong(std::string(argv[3]) + ": " + std::strerror(errno));
}
