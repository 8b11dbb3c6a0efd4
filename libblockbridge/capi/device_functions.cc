// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "capi/handle.h"
#include "io/called_device.h"

using bb::Bytes;
using bb::Code;
using bb::ConstBytes;
using bb::Status;
using bb::io::CalledDevice;
namespace capi = bb::capi;

namespace {

constexpr uint32_t kTransferBytes = 1u << 20;

class Functions final : public bb::io::DeviceFunctions {
 public:
  Functions(const bb_device_functions& given, std::string name)
      : given_(given), name_(std::move(name)) {}
  ~Functions() override {
    if (published_ && given_.closed != nullptr) given_.closed(given_.arg);
  }
  void publish() { published_ = true; }

  Status read(uint64_t offset_bytes, Bytes into) override {
    return told("read", given_.read(given_.arg, offset_bytes, into.data(), into.size()));
  }
  Status write(uint64_t offset_bytes, ConstBytes from) override {
    return told("write", given_.write(given_.arg, offset_bytes, from.data(), from.size()));
  }
  Status flush() override {
    return given_.flush == nullptr ? Status() : told("flush", given_.flush(given_.arg));
  }
  Status discard(uint64_t offset_bytes, uint64_t length_bytes) override {
    if (given_.discard == nullptr) {
      return bb::error(Code::k_not_supported, "{}: it does not discard", name_);
    }
    return told("discard", given_.discard(given_.arg, offset_bytes, length_bytes));
  }
  Status write_zeroes(uint64_t offset_bytes, uint64_t length_bytes) override {
    return told("write_zeroes", given_.write_zeroes(given_.arg, offset_bytes, length_bytes));
  }

 private:
  Status told(const char* what, int code) const {
    if (code == BB_OK) return {};
    if (std::string_view(bb_code_name(code)) == "unknown") {
      return bb::error(Code::k_io_error, "{}: {} gave {}, which is no code", name_, what, code);
    }
    return bb::error(static_cast<Code>(code), "{}: {} failed", name_, what);
  }

  bb_device_functions given_;
  std::string name_;
  bool published_ = false;
};

bb::io::DeviceInfo info_of(const bb_device_functions& given, std::string name) {
  bb::io::DeviceInfo info;
  info.uri = std::move(name);
  info.size_bytes = given.size_bytes;
  info.block_size_bytes = given.block_size_bytes;
  info.physical_block_bytes = std::max(info.physical_block_bytes, given.block_size_bytes);
  info.transfer_max_bytes =
      given.transfer_max_bytes == 0 ? kTransferBytes : given.transfer_max_bytes;
  info.read_only = given.write == nullptr;
  info.volatile_cache = given.flush != nullptr;
  info.discard = given.discard != nullptr;
  info.fast_zero = given.write_zeroes != nullptr;
  return info;
}

}  // namespace

int bb_device_create(bb_runtime* runtime, const bb_device_functions* functions, bb_device** out) {
  if (out == nullptr) return capi::invalid("bb_device_create: out is NULL");
  *out = nullptr;
  if (runtime == nullptr || functions == nullptr) {
    return capi::invalid("bb_device_create: an argument is NULL");
  }
  bb_device_functions given = BB_DEVICE_FUNCTIONS_INIT;
  Status taken = capi::take_options("bb_device_create", functions, &given);
  if (!taken.ok()) return capi::code_of(taken);
  if (given.read == nullptr) return capi::invalid("bb_device_create: read is NULL");
  uint32_t transfer = given.transfer_max_bytes == 0 ? kTransferBytes : given.transfer_max_bytes;
  if (transfer % 4096 != 0 || transfer > (64u << 20)) {
    return capi::invalid(fmt::format(
        "bb_device_create: transfer_max_bytes {} is no multiple of 4096 up to 64 MiB", transfer));
  }
  std::string name = given.name == nullptr ? "functions" : given.name;
  auto made = std::make_unique<Functions>(given, name);
  Functions* raw = made.get();
  auto device = CalledDevice::create(runtime->runtime->context(), info_of(given, name),
                                     std::max(1u, given.threads), std::move(made));
  if (!device.ok()) return capi::code_of(device.status());
  raw->publish();
  *out = capi::adopt(runtime, std::move(*device));
  return BB_OK;
}
