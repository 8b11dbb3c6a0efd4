// SPDX-License-Identifier: Apache-2.0
// Reservation commands as hosts send them, one after the other, and the records that are kept of
// what they come to. No sequence leads to a state that cannot be, and every state survives a
// record.
#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz/fuzz.h"
#include "fuzz/input.h"
#include "io/nvme/reservation_codec.h"
#include "io/nvme/reservation_record.h"

namespace bb {
namespace {

using namespace io::nvme;  // NOLINT: all of it is theirs
using Copy = std::array<std::byte, kReservationRecordBytes>;

const Uuid kNamespace = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();

// Makes magic, version (either one) and checksum right, or no input would ever get behind them.
void repair(Copy& copy) {
  std::ranges::copy(as_bytes("BBRESRV\n"), copy.begin());
  store_le<uint32_t>(&copy[8], 1 + (load_le<uint32_t>(&copy[8]) & 1));
  store_le<uint32_t>(&copy[12], 0);
  store_le<uint32_t>(&copy[12], crc32c(copy));
}

void check_record(const ReservationRecord& record) {
  Copy copy{};
  encode_record(record, copy);
  auto back = decode_record(copy);
  BB_CHECK(back.ok() && *back == record, "a record changed by being written");
}

ReservationOutcome carry_out(const ReservationState& state, fuzz::Input& input) {
  uint8_t head = input.byte();
  Uuid host;
  host.bytes[7] = static_cast<std::byte>((head >> 2) & 15);
  Sqe sqe{.cdw10 = input.take(2) | (input.take(1) << 24)};
  std::array<std::byte, kRegisterDataBytes> data{};
  data[0] = static_cast<std::byte>(input.byte());
  data[8] = static_cast<std::byte>(input.byte());
  ReservationOutcome wrong;
  wrong.status = NvmeStatus::kInvalidField;
  switch (head & 3) {
    case 0:
      if (auto command = decode_register(sqe, data))
        return reserve(state, host, *command, (head & 0x80) != 0);
      return wrong;
    case 1:
      if (auto command = decode_acquire(sqe, data)) return reserve(state, host, *command);
      return wrong;
    default:
      if (auto command = decode_release(sqe, data)) return reserve(state, host, *command);
      return wrong;
  }
}

// What a target may send to a host that asks for a report.
void read_report(ConstBytes data) {
  if (data.size() < kReportExtendedHeaderBytes) return;
  auto report = decode_report(data);
  size_t wanted = report_bytes(data);
  BB_CHECK(!report.ok() || wanted == 64 + 64 * report->hosts.size(), "a report's length");
  BB_CHECK(!report.ok() || wanted <= data.size(), "a report beyond its end");
}

void run_commands(fuzz::Input input) {
  ReservationRecord record{.nspace = kNamespace, .sequence = 1, .state = {}};
  while (!input.empty()) {
    ReservationOutcome outcome = carry_out(record.state, input);
    if (outcome.status != NvmeStatus::kSuccess) continue;
    BB_CHECK(consistent(outcome.next), "a command led to a state that cannot be");
    for (const ReservationNotice& one : outcome.notices)
      BB_CHECK(record.state.find(one.host) != nullptr, "told somebody who was not registered");
    for (const Uuid& one : outcome.preempted)
      BB_CHECK(outcome.next.find(one) == nullptr, "preempted, and still registered");
    record.state = std::move(outcome.next);
    ++record.sequence;
    size_t entries = record.state.registrants.size();
    auto report = decode_report(encode_report(record.state, true));
    BB_CHECK(report.ok() && report->hosts.size() == entries, "a host reads another report");
    BB_CHECK(encode_report(record.state, false).size() == 24 + 24 * entries, "a report's length");
  }
  check_record(record);
}

void read_copies(uint8_t how, ConstBytes rest) {
  Copy copies[2]{};
  for (Copy& copy : copies) {
    size_t length = std::min(rest.size(), copy.size());
    std::ranges::copy(rest.first(length), copy.begin());
    rest = rest.subspan(length);
  }
  if ((how & 2) != 0) repair(copies[0]);
  if ((how & 4) != 0) repair(copies[1]);
  for (const Copy& copy : copies) {
    auto record = decode_record(copy);
    if (record.ok()) check_record(*record);
  }
  auto choice = choose_record(kNamespace, copies[0], copies[1]);
  if (!choice.ok() || choice->record.sequence == 0) return;
  auto chosen = decode_record(copies[1 - choice->next]);
  BB_CHECK(chosen.ok() && *chosen == choice->record, "chose a copy that is not whole");
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

}  // namespace

const size_t fuzz::kInputMax = 1024;

fuzz::Seeds fuzz::seeds() {
  ReservationRecord record{.nspace = kNamespace, .sequence = 3, .state = {.generation = 2}};
  record.state.registrants = {{kNamespace, 7}};
  record.state.type = ReservationType::kExclusiveAccess;
  record.state.holder = kNamespace;
  std::vector<std::byte> copy(1 + kReservationRecordBytes);
  encode_record(record, Bytes(copy).subspan(1));
  copy[0] = std::byte{3};
  copy.resize(200);
  // Two hosts register, one acquires, the other preempts and aborts, then clears.
  return {{"record", copy},
          {"preempt", bytes_of({0, 4, 0, 0, 0, 0, 7, 8, 0, 0,  0, 0, 9, 5, 0, 1,
                                0, 7, 0, 9, 2, 3, 0, 9, 7, 10, 1, 0, 0, 9, 0})},
          {"all", bytes_of({0, 0x84, 0, 0, 0xc0, 0, 7, 8, 0, 0, 0, 0, 7, 5, 0, 6,
                            0, 7,    0, 9, 1,    2, 0, 7, 0, 4, 1, 0, 0, 7, 0})}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  ConstBytes rest{reinterpret_cast<const std::byte*>(data + 1), size - 1};
  read_report(rest);
  if ((data[0] & 1) == 0) {
    run_commands(fuzz::Input(rest));
  } else {
    read_copies(data[0], rest);
  }
  return 0;
}
