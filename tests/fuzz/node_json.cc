// SPDX-License-Identifier: Apache-2.0
// JSON between disk nodes and dataplanes, and the array records in the store. Input: one byte that
// says which, then the text. What is understood is the same when written and read again.
#include <nlohmann/json.hpp>

#include "backplane/array_book.h"
#include "backplane/node_report.h"
#include "base/check.h"
#include "fuzz.h"

namespace bb {
namespace {

using namespace backplane;

template <auto kDecode, auto kEncode>
void try_value(const Json& json) {
  auto value = kDecode(json);
  if (!value.ok()) return;
  Json written = kEncode(*value);
  auto again = kDecode(written);
  BB_CHECK(again.ok() && kEncode(*again) == written, "it changed: {}", dump_json(written));
}

Json encode_claim_of(const DriveClaimRequest& request) {
  return encode_claim_request(request.drive, request.claim);
}
Json encode_release_of(const DriveReleaseRequest& request) {
  return encode_release_request(request.drive, request.release);
}

void try_record(std::string_view text) {
  auto record = decode_array_record(text);
  if (!record.ok()) return;
  auto again = decode_array_record(dump_json(encode_array_record(*record)));
  BB_CHECK(again.ok() && *again == *record, "the record changed: {}", text);
}

std::vector<std::byte> seed(unsigned kind, const Json& json) {
  std::string text = dump_json(json);
  std::vector<std::byte> bytes{static_cast<std::byte>(kind)};
  bytes.insert(bytes.end(), as_bytes(text).begin(), as_bytes(text).end());
  return bytes;
}

}  // namespace

const size_t fuzz::kInputMax = 768;

fuzz::Seeds fuzz::seeds() {
  Uuid uuid = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();
  NodeDrive drive{.uuid = uuid, .slot = "0", .capacity_bytes = 1 << 30, .block_size_bytes = 512};
  drive.state = "online";
  NodeDrive owned = drive;
  owned.claim = {.owned = true, .owner = uuid, .owner_name = "dp", .host_nqn = "nqn.2026-11.x"};
  owned.claim.array = uuid;
  NodeReport report{.name = "n", .domain = "d", .enclosure = "e", .nvme = {"127.0.0.1:1"}};
  report.drives = {drive};
  report.refused = {{.slot = "1", .uri = "file:/a", .reason = "missing"}};
  ClaimRequest claim{.owner = uuid, .owner_name = "dp", .host_nqn = "nqn.2026-11.x", .epoch = 1};
  claim.array = uuid;
  ArrayRecord record{.uuid = uuid, .name = "db", .shape = *raid::parse_shape("1.2", 0)};
  record.drives = {{.uuid = uuid, .backplane = "b", .place = "n/0"}};
  return {{"report", seed(0, encode_node_report(report))},
          {"drive", seed(1, encode_node_drive(drive))},
          {"owned", seed(1, encode_node_drive(owned))},
          {"claim", seed(2, encode_claim_request(uuid, claim))},
          {"release", seed(3, encode_release_request(uuid, {.owner = uuid, .array = uuid}))},
          {"record", seed(4, encode_array_record(record))}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 5 == 4) {
    try_record(text);
    return 0;
  }
  auto json = parse_json(text);
  if (!json.ok()) return 0;
  switch (data[0] % 5) {
    case 0:
      try_value<decode_node_report, encode_node_report>(*json);
      break;
    case 1:
      try_value<decode_node_drive, encode_node_drive>(*json);
      break;
    case 2:
      try_value<decode_claim_request, encode_claim_of>(*json);
      break;
    default:
      try_value<decode_release_request, encode_release_of>(*json);
      break;
  }
  return 0;
}
