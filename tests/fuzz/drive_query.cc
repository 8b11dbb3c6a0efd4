// SPDX-License-Identifier: Apache-2.0
// The drive query language, and the choice it makes. Input: the text. What is understood is written
// out and understood the same.
#include "backplane/query.h"
#include "base/check.h"
#include "fuzz.h"

namespace bb {
namespace {

const std::vector<backplane::DriveRecord>& inventory() {
  static const std::vector<backplane::DriveRecord> drives = [] {
    std::vector<backplane::DriveRecord> made(4);
    for (size_t i = 0; i < made.size(); ++i) {
      made[i].uuid.bytes[15] = static_cast<std::byte>(i);
      made[i].slot = std::to_string(i);
      made[i].model = "AB";
      made[i].domain = made[i].disk_node = i % 2 == 0 ? "a" : "b";
      made[i].capacity_bytes = 1u << 30;
    }
    return made;
  }();
  return drives;
}

}  // namespace

const size_t fuzz::kInputMax = 160;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  for (std::string_view text :
       {"from slot=0-3,7 select model=a* reject serial=x,y unique domain", "select capacity=1G-2G",
        "reject slot=2 unique enclosure unique disk_node", "select block_size=512,4096"}) {
    ConstBytes bytes = as_bytes(text);
    all.emplace_back("query-" + std::to_string(all.size()),
                     std::vector<std::byte>(bytes.begin(), bytes.end()));
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  auto query = backplane::Query::parse({reinterpret_cast<const char*>(data), size});
  if (!query.ok()) return 0;
  std::string written = query->to_string();
  auto again = backplane::Query::parse(written);
  BB_CHECK(again.ok() && again->to_string() == written, "query \"{}\" is not stable", written);
  backplane::Choice choice;
  Status status = backplane::choose_drives(*query, inventory(), {.count = 2}, &choice);
  BB_CHECK(status.ok() == (choice.chosen.size() == 2), "{}", status.to_string());
  BB_CHECK(choice.chosen.size() + choice.refused.size() <= 4, "more drives than there are");
  return 0;
}
