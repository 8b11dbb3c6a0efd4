// SPDX-License-Identifier: Apache-2.0
// The decoder of membership records as the store holds them. Input: the text. A record that is
// accepted is lawful, and is the same when written and read again.
#include "base/check.h"
#include "cluster/membership_codec.h"
#include "fuzz.h"

const size_t bb::fuzz::kInputMax = 768;

bb::fuzz::Seeds bb::fuzz::seeds() {
  raid::MembershipRecord record;
  record.array.bytes.fill(std::byte{1});
  record.name = "db";
  record.slots = record.copies = 2;
  record.size_bytes = record.member_bytes = record.region_size_bytes = 1 << 20;
  record.members.resize(2);
  record.members[0].uuid.bytes.fill(std::byte{2});
  record.members[1].uuid.bytes.fill(std::byte{3});
  record.members[1].slot = 1;
  Seeds all;
  for (const char* name : {"first", "later"}) {
    std::string text = cluster::encode_membership(record, record.version);
    ConstBytes bytes = as_bytes(text);
    all.emplace_back(name, std::vector<std::byte>(bytes.begin(), bytes.end()));
    record.version = 9;
    record.reason = "member 1 failed";
    record.members[1].state = raid::MemberState::kFailed;
  }
  return all;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto change = cluster::decode_membership(text);
  if (!change.ok()) {
    BB_CHECK(change.code() == Code::k_corrupt, "{}", change.status().to_string());
    return 0;
  }
  BB_CHECK(raid::validate_record(change->record).ok(), "an unlawful record got through");
  auto again =
      cluster::decode_membership(cluster::encode_membership(change->record, change->wall_ns));
  BB_CHECK(again.ok() && again->record == change->record, "another record");
  return 0;
}
