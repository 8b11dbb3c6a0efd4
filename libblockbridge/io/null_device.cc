// SPDX-License-Identifier: Apache-2.0
#include "io/null_device.h"

#include "base/units.h"

namespace bb::io {
namespace {

class NullDevice final : public Device {
 public:
  explicit NullDevice(DeviceInfo info) { info_ = std::move(info); }

  Task<Status> close() override {
    set_state(DeviceState::kClosed);
    co_return Status();
  }

 protected:
  void do_submit(IoRequest& request) override {
    if (request.op == IoOp::kRead) iov_fill_zero(request.iov, request.iov_count);
    request.done(&request, Status());
  }

  Task<Result<std::vector<Extent>>> do_extents(uint64_t, uint64_t length_bytes, uint32_t) override {
    co_return std::vector<Extent>{{.length_bytes = length_bytes, .hole = true, .zero = true}};
  }
};

}  // namespace

Task<Result<std::unique_ptr<Device>>> open_null_device(Context, Uri uri, std::string text) {
  DeviceInfo info;
  info.uri = text;
  BB_CO_ASSIGN(info.size_bytes, parse_size_bytes(uri.rest));
  BB_CO_TRY(uri.reject_unknown());
  if (info.size_bytes == 0 || info.size_bytes % info.block_size_bytes != 0) {
    co_return error(Code::k_invalid_argument, "{}: size {} is not a multiple of the block size {}",
                    text, info.size_bytes, info.block_size_bytes);
  }
  info.discard = true;
  info.fast_zero = true;
  co_return std::unique_ptr<Device>(std::make_unique<NullDevice>(std::move(info)));
}

}  // namespace bb::io
