// SPDX-License-Identifier: Apache-2.0
// Texts from people and from disk nodes: queries, configurations, reports. The first byte says
// which.
#include <algorithm>
#include <string>

#include "backplane/array_book.h"
#include "backplane/config.h"
#include "backplane/node_report.h"
#include "backplane/query.h"
#include "fuzz/fuzz.h"

namespace bb {
namespace {

void try_query(std::string_view text) {
  auto query = backplane::Query::parse(text);
  if (!query.ok()) return;
  std::string written = query->to_string();
  auto again = backplane::Query::parse(written);
  BB_CHECK(again.ok() && again->to_string() == written, "query \"{}\" is not stable", written);
  std::vector<backplane::DriveRecord> drives(4);
  for (size_t i = 0; i < drives.size(); ++i) {
    drives[i].uuid.bytes[15] = std::byte(i);
    drives[i].slot = std::to_string(i);
    drives[i].domain = drives[i].disk_node = i % 2 == 0 ? "a" : "b";
    drives[i].capacity_bytes = 1u << 30;
  }
  backplane::Choice choice;
  Status status = backplane::choose_drives(*query, drives, {.count = 2}, &choice);
  BB_CHECK(status.ok() == (choice.chosen.size() == 2), "{}", status.to_string());
}

void try_report(std::string_view text) {
  auto json = parse_json(text);
  if (!json.ok()) return;
  auto report = backplane::decode_node_report(*json);
  if (!report.ok()) return;
  Json written = backplane::encode_node_report(*report);
  auto again = backplane::decode_node_report(written);
  BB_CHECK(again.ok() && backplane::encode_node_report(*again) == written, "report changed");
}

std::vector<std::byte> seed(char kind, std::string_view text) {
  std::vector<std::byte> bytes{std::byte(kind)};
  bytes.insert(bytes.end(), as_bytes(text).begin(), as_bytes(text).end());
  return bytes;
}

}  // namespace

fuzz::Seeds fuzz::seeds() {
  backplane::NodeReport report{
      .name = "n", .domain = "d", .enclosure = "e", .nvme = {"127.0.0.1:1"}};
  report.drives.push_back({.slot = "0", .state = "online"});
  return {{"query", seed(0, "from slot=0-3,7 select model=a* reject serial=x,y unique domain")},
          {"disknode",
           seed(1, "name: a\nlisten: [:1]\ncontrol: :2\ndrives:\n- {path: /a, create: 1G}\n")},
          {"dataplane", seed(2,
                             "name: a\nstore: file:/s\ncontrol: unix:/c\n"
                             "backplanes: [{name: x, control: :3}]\n")},
          {"report", seed(3, dump_json(backplane::encode_node_report(report)))},
          {"record", seed(4, dump_json(backplane::encode_array_record({.name = "db"})))}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0 || size > 65536) return 0;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 5) {
    case 0:
      try_query(text);
      break;
    case 1:
      (void)backplane::parse_disknode_config(text, "f");
      break;
    case 2:
      (void)backplane::parse_dataplane_config(text, "f");
      break;
    case 3:
      try_report(text);
      break;
    default:
      (void)backplane::decode_array_record(text);
      break;
  }
  return 0;
}
