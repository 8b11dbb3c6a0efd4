// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "io/device_uri.h"
#include "io/nbd/server.h"
#include "support/world.h"

namespace bb::test {

// Our NBD server on loopback, offering one device. May be stopped and started again at the same
// port; the device, and what it holds, stays.
class NbdHost {
 public:
  explicit NbdHost(World& world, std::string device_uri = "mem:8M",
                   io::nbd::ExportOptions options = {}, io::nbd::ServerLimits limits = {},
                   io::nbd::ServerTls tls = {})
      : world_(world), options_(std::move(options)), limits_(limits), tls_(std::move(tls)) {
    open(std::move(device_uri));
  }
  ~NbdHost() { BB_CHECK(device_ == nullptr, "stop_all() was not called"); }

  void open(std::string device_uri) {
    auto opened = world_.run(io::open_device(world_.context, std::move(device_uri)));
    BB_CHECK(opened.ok(), "{}", opened.status().to_string());
    device_ = std::move(opened).value();
    start();
  }
  void start() {
    server_ = std::make_unique<io::nbd::Server>(world_.context, limits_, tls_);
    Status added = server_->add_export("d", *device_, options_);
    BB_CHECK(added.ok(), "{}", added.to_string());
    auto at = server_->start({address_});
    BB_CHECK(at.ok(), "{}", at.status().to_string());
    address_ = *at;
  }
  io::Task<void> stop() {
    co_await server_->stop();
    server_.reset();
  }
  io::Task<void> stop_all() {
    if (server_ != nullptr) co_await stop();
    Status closed = co_await device_->close();
    BB_CHECK(closed.ok(), "{}", closed.to_string());
    device_.reset();
  }

  const std::string& address() const { return address_; }
  std::string uri(std::string options = "") const { return "nbd://" + address_ + "/d" + options; }
  io::nbd::Server& server() { return *server_; }
  io::Device& device() { return *device_; }

 private:
  World& world_;
  io::nbd::ExportOptions options_;
  io::nbd::ServerLimits limits_;
  io::nbd::ServerTls tls_;
  std::string address_ = "127.0.0.1:0";
  std::unique_ptr<io::Device> device_;
  std::unique_ptr<io::nbd::Server> server_;
};

}  // namespace bb::test
