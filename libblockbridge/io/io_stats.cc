// SPDX-License-Identifier: Apache-2.0
#include "io/io_stats.h"

namespace bb::io {
namespace {

uint64_t difference(uint64_t now, uint64_t before) { return now >= before ? now - before : now; }

}  // namespace

std::string_view io_kind_name(IoKind kind) {
  switch (kind) {
    case IoKind::kRead:
      return "read";
    case IoKind::kWrite:
      return "write";
    case IoKind::kOther:
      return "other";
  }
  return "?";
}

std::string_view io_stage_name(IoStage stage) {
  switch (stage) {
    case IoStage::kReceive:
      return "receive";
    case IoStage::kDevice:
      return "device";
    case IoStage::kSend:
      return "send";
    case IoStage::kTotal:
      return "total";
  }
  return "?";
}

void IoStats::succeeded(IoKind which, uint64_t count, uint64_t bytes, uint64_t total_ns) {
  Kind& of = kind(which);
  of.bytes += bytes;
  of.stage(IoStage::kTotal).record(total_ns, count);
}

void IoStats::succeeded(IoKind which, uint64_t count, uint64_t bytes, const CommandTimes& times,
                        uint64_t sent_ns) {
  Kind& of = kind(which);
  of.stage(IoStage::kReceive).record(times.submitted_ns - times.begun_ns, count);
  of.stage(IoStage::kDevice).record(times.answered_ns - times.submitted_ns, count);
  of.stage(IoStage::kSend).record(sent_ns - times.answered_ns, count);
  succeeded(which, count, bytes, sent_ns - times.begun_ns);
}

void IoStats::merge(const IoStats& other) {
  for (size_t i = 0; i < kinds.size(); ++i) {
    kinds[i].bytes += other.kinds[i].bytes;
    kinds[i].errors += other.kinds[i].errors;
    for (size_t j = 0; j < kIoStages.size(); ++j) {
      kinds[i].stages[j].merge(other.kinds[i].stages[j]);
    }
  }
}

IoStats IoStats::since(const IoStats& before) const {
  IoStats out;
  for (size_t i = 0; i < kinds.size(); ++i) {
    out.kinds[i].bytes = difference(kinds[i].bytes, before.kinds[i].bytes);
    out.kinds[i].errors = difference(kinds[i].errors, before.kinds[i].errors);
    for (size_t j = 0; j < kIoStages.size(); ++j) {
      out.kinds[i].stages[j] = kinds[i].stages[j].since(before.kinds[i].stages[j]);
    }
  }
  return out;
}

uint64_t IoStats::errors() const {
  uint64_t total = 0;
  for (const Kind& each : kinds) total += each.errors;
  return total;
}

}  // namespace bb::io
