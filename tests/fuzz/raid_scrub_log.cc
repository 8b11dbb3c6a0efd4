// SPDX-License-Identifier: Apache-2.0
// The decoder of scrub logs. Input: one byte of options (bit 0: write a right checksum of the page,
// or nothing behind it is ever reached), then the page; what it leaves out is zero.
#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "raid/scrub_log.h"

namespace bb {
namespace {

using namespace raid;
constexpr size_t kCrcAt = 8;
constexpr uint64_t kCreated = 7;

const Uuid& array() {
  static const Uuid uuid = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
  return uuid;
}

}  // namespace

const size_t fuzz::kInputMax = 1 + kScrubLogBytes;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  for (bool open : {false, true}) {
    ScrubLog log{.array = array(), .created_wall_ns = kCreated, .generation = 3};
    log.open = ScrubRun{.state = ScrubState::kRunning, .position_bytes = 8192};
    log.open->report.add(4096, true);
    if (!open) log.end(ScrubState::kDone, 5);
    std::vector<std::byte> page(1 + kScrubLogBytes, std::byte{1});
    encode_scrub_log(log, Bytes(page).subspan(1));
    page.resize(600);
    all.emplace_back(open ? "open" : "ended", page);
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  std::vector<std::byte> page(kScrubLogBytes);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), std::min(size - 1, page.size()),
              page.begin());
  if ((data[0] & 1) != 0) {
    store_le<uint32_t>(&page[kCrcAt], 0);
    store_le<uint32_t>(&page[kCrcAt], crc32c(page));
  }
  Result<ScrubLog> log = decode_scrub_log(array(), kCreated, page);
  if (!log.ok()) return 0;
  BB_CHECK(log->history.size() <= kScrubHistoryMax, "{} runs", log->history.size());
  std::vector<std::byte> again(kScrubLogBytes);
  encode_scrub_log(*log, again);
  Result<ScrubLog> twice = decode_scrub_log(array(), kCreated, again);
  BB_CHECK(twice.ok(), "it cannot be read again");
  BB_CHECK(twice->generation == log->generation && twice->open == log->open &&
               twice->history == log->history,
           "it is another log");
  return 0;
}
