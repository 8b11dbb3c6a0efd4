// SPDX-License-Identifier: Apache-2.0
// What the requests of an NBD connection were like: counted when their replies have left.
#include "io/nbd/connection.h"

namespace bb::io::nbd {
namespace {

IoKind kind_of(Command command) {
  if (command == Command::kRead) return IoKind::kRead;
  if (command == Command::kWrite) return IoKind::kWrite;
  return IoKind::kOther;
}

std::string_view name_of(Command command) {
  switch (command) {
    case Command::kRead:
      return "read";
    case Command::kWrite:
      return "write";
    case Command::kFlush:
      return "flush";
    case Command::kTrim:
      return "trim";
    case Command::kCache:
      return "cache";
    case Command::kWriteZeroes:
      return "write zeroes";
    case Command::kBlockStatus:
      return "block status";
    case Command::kDisconnect:
      break;
  }
  return "another command";
}

}  // namespace

void Connection::measure(const Slot& slot, uint64_t now_ns) {
  bool ok = slot.error == Errno::kNone;
  if (!meter_.end(kind_of(slot.request.command), slot.request.length_bytes, ok, slot.times, now_ns,
                  server_.recorder_)) {
    return;
  }
  FlightRecord record = QueueMeter::record(slot.times, now_ns);
  record.op = name_of(slot.request.command);
  record.object = export_->info.name;
  record.offset_bytes = slot.request.offset_bytes;
  record.length_bytes = slot.request.length_bytes;
  record.failed = !ok;
  record.status = ok ? "ok" : fmt::format("errno {}", static_cast<uint32_t>(slot.error));
  record.host = stream_->peer();
  server_.recorder_.add(std::move(record));
}

}  // namespace bb::io::nbd
