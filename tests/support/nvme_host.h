// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "io/device_uri.h"
#include "io/nvme/target.h"
#include "support/world.h"

namespace bb::test {

// Our target on loopback, publishing one device in memory. May be stopped and started again at the
// same port; the device, and what it holds, stays.
class NvmeHost {
 public:
  static constexpr const char* kNqn = "nqn.2026-11.io.blockbridge:drive:test";

  explicit NvmeHost(World& world, std::string device_uri = "mem:8M",
                    io::nvme::DigestPolicy digests = io::nvme::DigestPolicy::kAllow)
      : world_(world), digests_(digests) {
    auto opened = world.run(io::open_device(world.context, std::move(device_uri)));
    BB_CHECK(opened.ok(), "{}", opened.status().to_string());
    device_ = std::move(opened).value();
    start();
  }
  ~NvmeHost() { BB_CHECK(device_ == nullptr, "stop_all() was not called"); }

  void start() {
    auto made =
        io::nvme::Target::create(world_.context, {.listen = {{address_}}, .digests = digests_});
    BB_CHECK(made.ok(), "{}", made.status().to_string());
    target_ = std::move(made).value();
    address_ = target_->addresses().front();
    Status added = target_->add_subsystem(
        {.nqn = kNqn, .device = device_.get(), .uuid = uuid_, .serial = "1"});
    BB_CHECK(added.ok(), "{}", added.to_string());
  }
  io::Task<void> stop() {
    co_await target_->stop();
    target_.reset();
  }
  io::Task<void> stop_all() {
    if (target_ != nullptr) co_await stop();
    Status closed = co_await device_->close();
    BB_CHECK(closed.ok(), "{}", closed.to_string());
    device_.reset();
  }

  const std::string& address() const { return address_; }
  std::string uri(std::string options = "") const { return uri_at(address_, options); }
  static std::string uri_at(const std::string& address, const std::string& options) {
    return "nvme-tcp://" + address + "/" + kNqn + options;
  }
  io::nvme::Target& target() { return *target_; }
  io::Device& device() { return *device_; }

 private:
  World& world_;
  io::nvme::DigestPolicy digests_;
  std::string address_ = "127.0.0.1:0";
  Uuid uuid_ = Uuid::parse("6f1d0c2e-4b7a-4f3e-9a55-0d6c1f2b3a49").value();
  std::unique_ptr<io::Device> device_;
  std::unique_ptr<io::nvme::Target> target_;
};

}  // namespace bb::test
