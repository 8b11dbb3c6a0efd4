// SPDX-License-Identifier: Apache-2.0
// Two copies of a drive label as a drive may hold them. What is decoded must encode to itself.
#include "backplane/drive_label.h"

#include <algorithm>

#include "base/crc32c.h"
#include "fuzz/fuzz.h"

namespace bb {
namespace {

using backplane::kLabelSizeBytes;
using Copy = std::array<std::byte, kLabelSizeBytes>;

// Makes magic and checksum right, or no input would ever get behind them.
void repair(Copy& copy) {
  std::ranges::copy(as_bytes("BBDRIVE\n"), copy.begin());
  store_le<uint32_t>(&copy[8], 1);
  store_le<uint32_t>(&copy[12], 0);
  store_le<uint32_t>(&copy[12], crc32c(copy));
}

void check_one(const Copy& copy) {
  auto label = backplane::decode_label(copy);
  if (!label.ok()) return;
  BB_CHECK(backplane::check_label(*label).ok(), "decoded what could not be written");
  Copy again{};
  backplane::encode_label(*label, again);
  auto back = backplane::decode_label(again);
  BB_CHECK(back.ok() && *back == *label, "a label changed by being written again");
}

}  // namespace

const size_t fuzz::kInputMax = 1024;

fuzz::Seeds fuzz::seeds() {
  backplane::DriveLabel label;
  label.generation = 7;
  label.drive = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();
  label.data_offset_bytes = 1048576;
  label.data_size_bytes = 1072693248;
  label.block_size_bytes = 4096;
  label.serial = "SN-0001";
  std::vector<std::byte> free(1 + kLabelSizeBytes), owned = free;
  backplane::encode_label(label, Bytes(free).subspan(1));
  label.claim = {.owned = true,
                 .owner = label.drive,
                 .owner_name = "dp",
                 .host_nqn = "nqn.2026-11.example",
                 .epoch = 3,
                 .array = label.drive,
                 .array_name = "db"};
  backplane::encode_label(label, Bytes(owned).subspan(1));
  free[0] = owned[0] = std::byte{3};
  return {{"free", free}, {"owned", owned}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  Copy copies[2]{};
  ConstBytes rest{reinterpret_cast<const std::byte*>(data + 1), size - 1};
  for (Copy& copy : copies) {
    size_t length = std::min(rest.size(), copy.size());
    std::ranges::copy(rest.first(length), copy.begin());
    rest = rest.subspan(length);
  }
  if ((data[0] & 1) != 0) repair(copies[0]);
  if ((data[0] & 2) != 0) repair(copies[1]);
  for (const Copy& copy : copies) check_one(copy);
  auto choice = backplane::choose_label(copies[0], copies[1]);
  if (choice.ok()) {
    auto chosen = backplane::decode_label(copies[choice->newer]);
    BB_CHECK(chosen.ok() && *chosen == choice->label, "chose a copy that is not whole");
  }
  return 0;
}
