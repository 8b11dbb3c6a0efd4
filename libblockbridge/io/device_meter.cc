// SPDX-License-Identifier: Apache-2.0
#include "io/device_meter.h"

namespace bb::io {

void DeviceMeter::on_done(IoRequest* request, Status status) {
  DeviceMeter& self = *request->measured.meter;
  request->done = request->measured.done;
  uint64_t total_ns = self.loop_.batch_ns() - request->measured.submitted_ns;
  --self.in_flight_;
  // What came back together was mostly submitted together.
  Alike& alike = self.alike_;
  if (status.ok() && total_ns == alike.total_ns && io_kind_of(request->op) == alike.kind) {
    ++alike.count;
    alike.bytes += request->length_bytes;
  } else {
    self.end_unlike(*request, status, total_ns);
  }
  request->done(request, std::move(status));
}

void DeviceMeter::end_unlike(const IoRequest& request, const Status& status, uint64_t total_ns) {
  IoKind kind = io_kind_of(request.op);
  if (!status.ok()) {
    stats_.failed(kind);
    return record(request, status, total_ns);
  }
  if (recorder_.slow(loop_.batch_ns(), total_ns)) {
    stats_.succeeded(kind, 1, request.length_bytes, total_ns);
    return record(request, status, total_ns);
  }
  alike_.count_in(stats_);
  alike_ = {.kind = kind, .count = 1, .bytes = request.length_bytes, .total_ns = total_ns};
}

void DeviceMeter::Alike::count_in(IoStats& stats) const {
  if (count > 0) stats.succeeded(kind, count, bytes, total_ns);
}

IoStats DeviceMeter::stats() const {
  IoStats all = stats_;
  alike_.count_in(all);
  return all;
}

void DeviceMeter::record(const IoRequest& request, const Status& status, uint64_t total_ns) {
  recorder_.add({.op = io_op_name(request.op),
                 .object = device_.info().uri,
                 .offset_bytes = request.offset_bytes,
                 .length_bytes = request.length_bytes,
                 .failed = !status.ok(),
                 .status = status.to_string(),
                 .ended_ns = loop_.batch_ns(),
                 .device_ns = total_ns,
                 .total_ns = total_ns});
}

}  // namespace bb::io
