// SPDX-License-Identifier: Apache-2.0
#include "conformance/device_backends.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/status.h"
#include "support/nbd_host.h"
#include "support/nvme_host.h"

namespace bb::test {
namespace {

std::string scratch_file(uint64_t size_bytes) {
  const char* dir = std::getenv("TEST_TMPDIR");
  // /var/tmp lies on a real file system more often than /tmp, so that O_DIRECT gets its chance.
  std::string path = fmt::format("{}/bb-conformance-XXXXXX", dir != nullptr ? dir : "/var/tmp");
  int fd = mkstemp(path.data());
  BB_CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(size_bytes)) == 0, "{}: {}", path,
           std::strerror(errno));
  ::close(fd);
  return path;
}

class PlainUri final : public BackendHost {
 public:
  explicit PlainUri(std::string uri) : uri_(std::move(uri)) {}
  std::string uri() const override { return uri_; }

 private:
  std::string uri_;
};

class FileHost final : public BackendHost {
 public:
  FileHost(std::string before, std::string after)
      : path_(scratch_file(kBackendBytes)), before_(std::move(before)), after_(std::move(after)) {}
  ~FileHost() override { std::remove(path_.c_str()); }
  std::string uri() const override { return before_ + path_ + after_; }

 private:
  std::string path_;
  std::string before_;
  std::string after_;
};

class LoopHost final : public BackendHost {
 public:
  LoopHost() : path_(scratch_file(kBackendBytes)) {}
  ~LoopHost() override {
    if (loop_fd_ >= 0) {
      ioctl(loop_fd_, LOOP_CLR_FD, 0);
      ::close(loop_fd_);
    }
    std::remove(path_.c_str());
  }
  std::string uri() const override { return "file:" + device_; }

  bool attach(std::string& why_not) {
    int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) {
      why_not = fmt::format("/dev/loop-control: {}", std::strerror(errno));
      return false;
    }
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    ::close(control);
    device_ = fmt::format("/dev/loop{}", number);
    loop_fd_ = number < 0 ? -1 : ::open(device_.c_str(), O_RDWR | O_CLOEXEC);
    int file = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
    bool attached = loop_fd_ >= 0 && file >= 0 && ioctl(loop_fd_, LOOP_SET_FD, file) == 0;
    if (!attached) why_not = fmt::format("{}: {}", device_, std::strerror(errno));
    if (file >= 0) ::close(file);
    if (!attached && loop_fd_ >= 0) {
      ::close(loop_fd_);
      loop_fd_ = -1;
    }
    return attached;
  }

 private:
  std::string path_;
  std::string device_;
  int loop_fd_ = -1;
};

class NvmeBackend final : public BackendHost {
 public:
  NvmeBackend(World& world, std::string inner, std::string options)
      : host_(world, std::move(inner)), options_(std::move(options)) {}
  std::string uri() const override { return host_.uri(options_); }
  void stop(World& world) override { world.run(host_.stop_all()); }

 private:
  NvmeHost host_;
  std::string options_;
};

class NbdBackend final : public BackendHost {
 public:
  NbdBackend(World& world, std::string inner, std::string options)
      : host_(world, std::move(inner)), options_(std::move(options)) {}
  std::string uri() const override { return host_.uri(options_); }
  void stop(World& world) override { world.run(host_.stop_all()); }

 private:
  NbdHost host_;
  std::string options_;
};

Backend nbd(std::string name, std::string inner, std::string options) {
  return {.name = std::move(name), .start = [=](World& world, std::string&) {
            return std::make_unique<NbdBackend>(world, inner, options);
          }};
}

Backend nvme(std::string name, std::string inner, std::string options) {
  return {.name = std::move(name), .start = [=](World& world, std::string&) {
            return std::make_unique<NvmeBackend>(world, inner, options);
          }};
}

Backend plain(std::string name, std::string uri, bool keeps_data = true) {
  return {.name = std::move(name),
          .start = [uri](World&, std::string&) { return std::make_unique<PlainUri>(uri); },
          .keeps_data = keeps_data};
}

Backend file(std::string name, std::string before, std::string after) {
  return {.name = std::move(name),
          .start = [=](World&, std::string&) { return std::make_unique<FileHost>(before, after); },
          .can_read_only = before == "file:"};
}

}  // namespace

std::vector<Backend> device_backends() {
  Backend loop{.name = "loop_device",
               .start = [](World&, std::string& why_not) -> std::unique_ptr<BackendHost> {
                 auto host = std::make_unique<LoopHost>();
                 if (!host->attach(why_not)) return nullptr;
                 return host;
               },
               .can_read_only = true};
  // A namespace of 8 MiB that may be overwritten: tests/guest gives emulated ones.
  Backend local{.name = "nvme_local",
                .start = [](World&, std::string& why_not) -> std::unique_ptr<BackendHost> {
                  const char* path = std::getenv("BB_NVME_NAMESPACE");
                  if (path != nullptr) {
                    return std::make_unique<PlainUri>(fmt::format("nvme:{}?queue_depth=3", path));
                  }
                  why_not = "BB_NVME_NAMESPACE names no /dev/ngXnY";
                  return nullptr;
                },
                .can_read_only = true};
  return {
      local,
      file("file_direct", "file:", "?direct=auto"),
      file("file_buffered", "file:", "?direct=0"),
      loop,
      plain("mem", "mem:8M"),
      plain("mem_4k", "mem:8M?block_size=4096"),
      plain("mem_huge_pages", "mem:8M?huge_pages=1"),
      plain("null", "null:8M", false),
      plain("fault_mem", "fault:mem:8M%3Fblock_size=4096?seed=3"),
      plain("fault_slow_mem", "fault:mem:8M?latency=50us&latency_chance=1/3"),
      file("fault_file", "fault:file:", "%3Fdirect=auto"),
      nvme("nvme_tcp", "mem:8M", ""),
      nvme("nvme_tcp_no_digests", "mem:8M", "?digest=off"),
      nvme("nvme_tcp_small_queues", "mem:8M?block_size=4096",
           "?queues=3&queue_depth=2&digest=data"),
      nvme("nvme_tcp_slow_drive", "fault:mem:8M?latency=300us&latency_chance=1/3",
           "?digest=header"),
      nbd("nbd", "mem:8M", ""),
      nbd("nbd_structured_4k", "mem:8M?block_size=4096", "?extended=0"),
      nbd("nbd_simple_small_queues", "fault:mem:8M?latency=300us&latency_chance=1/3",
          "?structured=0&connections=3&queue_depth=2"),
  };
}

}  // namespace bb::test
