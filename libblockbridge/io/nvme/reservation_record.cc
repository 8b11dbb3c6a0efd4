// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation_record.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"

namespace bb::io::nvme {
namespace {

constexpr std::string_view kMagic = "BBRESRV\n";
constexpr uint32_t kVersion = 2;
constexpr uint32_t kVersionWithoutOwners = 1;
constexpr uint8_t kFlagPersistent = 1;

// Field offsets; docs/formats/reservation.md has the same table.
enum : size_t {
  kAtMagic = 0,
  kAtVersion = 8,
  kAtCrc = 12,
  kAtSequence = 16,
  kAtNamespace = 24,
  kAtGeneration = 40,
  kAtType = 44,
  kAtFlags = 45,
  kAtCount = 46,
  kAtHolder = 48,
  kAtRegistrants = 64,
};
constexpr size_t kRegistrantBytes = 24;
constexpr size_t kAtOwners = kAtRegistrants + kRegistrantsMax * kRegistrantBytes;
constexpr size_t kOwnerBytes = 4;
static_assert(kAtOwners + kRegistrantsMax * kOwnerBytes <= kReservationRecordBytes);

void put(Bytes into, size_t at, const Uuid& uuid) {
  std::ranges::copy(uuid.bytes, into.begin() + static_cast<ptrdiff_t>(at));
}

}  // namespace

void encode_record(const ReservationRecord& record, Bytes into) {
  const ReservationState& state = record.state;
  BB_CHECK(into.size() == kReservationRecordBytes, "a record into {} bytes", into.size());
  BB_CHECK(consistent(state), "a reservation that cannot be, of {} registrants",
           state.registrants.size());
  std::ranges::fill(into, std::byte{0});
  std::ranges::copy(as_bytes(kMagic), into.begin());
  store_le<uint32_t>(&into[kAtVersion], kVersion);
  store_le<uint64_t>(&into[kAtSequence], record.sequence);
  put(into, kAtNamespace, record.nspace);
  store_le<uint32_t>(&into[kAtGeneration], state.generation);
  into[kAtType] = static_cast<std::byte>(state.type);
  into[kAtFlags] = static_cast<std::byte>(state.persistent ? kFlagPersistent : 0);
  store_le<uint16_t>(&into[kAtCount], static_cast<uint16_t>(state.registrants.size()));
  put(into, kAtHolder, state.holder);
  for (size_t i = 0; i < state.registrants.size(); ++i) {
    const Registrant& one = state.registrants[i];
    size_t at = kAtRegistrants + i * kRegistrantBytes;
    put(into, at, one.host);
    store_le<uint64_t>(&into[at + 16], one.key);
    store_le<uint32_t>(&into[kAtOwners + i * kOwnerBytes], one.owner);
  }
  store_le<uint32_t>(&into[kAtCrc], crc32c_around(into, kAtCrc));
}

Result<ReservationRecord> decode_record(ConstBytes from) {
  if (from.size() != kReservationRecordBytes)
    return error(Code::k_corrupt, "reservation record: {} bytes (needs {})", from.size(),
                 kReservationRecordBytes);
  if (as_text(from.first(kMagic.size())) != kMagic)
    return error(Code::k_not_found, "no reservation record: the magic is missing");
  uint32_t expected = load_le<uint32_t>(&from[kAtCrc]);
  if (uint32_t found = crc32c_around(from, kAtCrc); found != expected)
    return error(Code::k_corrupt, "reservation record: checksum {:08x}, expected {:08x}", found,
                 expected);
  uint32_t version = load_le<uint32_t>(&from[kAtVersion]);
  if (version != kVersion && version != kVersionWithoutOwners)
    return error(Code::k_not_supported, "reservation record: version {} (this program knows {})",
                 version, kVersion);
  size_t count = load_le<uint16_t>(&from[kAtCount]);
  auto flags = static_cast<uint8_t>(from[kAtFlags]);
  if (count > kRegistrantsMax || flags > kFlagPersistent)
    return error(Code::k_corrupt, "reservation record: {} registrants (max {}), flags {:#x}", count,
                 kRegistrantsMax, flags);
  ReservationRecord record;
  record.sequence = load_le<uint64_t>(&from[kAtSequence]);
  record.nspace = Uuid::from(from.subspan(kAtNamespace, 16));
  record.state.generation = load_le<uint32_t>(&from[kAtGeneration]);
  record.state.persistent = flags != 0;
  record.state.type = static_cast<ReservationType>(from[kAtType]);
  record.state.holder = Uuid::from(from.subspan(kAtHolder, 16));
  for (size_t i = 0; i < count; ++i) {
    ConstBytes entry = from.subspan(kAtRegistrants + i * kRegistrantBytes, kRegistrantBytes);
    record.state.registrants.push_back(
        {.host = Uuid::from(entry.first(16)),
         .key = load_le<uint64_t>(&entry[16]),
         .owner = load_le<uint32_t>(&from[kAtOwners + i * kOwnerBytes])});
  }
  size_t end = kAtRegistrants + count * kRegistrantBytes;
  size_t owners_end = version == kVersion ? kAtOwners + count * kOwnerBytes : kAtOwners;
  bool rest = all_zero(from.subspan(end, kAtOwners - end)) && all_zero(from.subspan(owners_end));
  if (!consistent(record.state) || record.sequence == 0 || !rest)
    return error(Code::k_corrupt, "reservation record: type {} with {} registrants cannot be",
                 static_cast<int>(record.state.type), count);
  return record;
}

Result<RecordChoice> choose_record(const Uuid& nspace, ConstBytes first, ConstBytes second) {
  Result<ReservationRecord> both[2] = {decode_record(first), decode_record(second)};
  for (const auto& one : both) {
    // What a newer program wrote must not be undone by an older copy, nor taken for nothing.
    if (one.code() == Code::k_not_supported) return one.status();
    if (one.ok() && one->nspace != nspace)
      return error(Code::k_corrupt, "reservation record: of namespace {}, expected {}",
                   one->nspace.to_string(), nspace.to_string());
  }
  bool second_counts = both[1].ok() && (!both[0].ok() || both[1]->sequence > both[0]->sequence);
  if (second_counts) return RecordChoice{.record = std::move(both[1]).value(), .next = 0};
  if (both[0].ok()) return RecordChoice{.record = std::move(both[0]).value(), .next = 1};
  // The very first write goes to the first place: torn, nobody was told of what it says.
  if (both[1].code() != Code::k_not_found) return both[1].status();
  RecordChoice nothing;
  nothing.record.nspace = nspace;
  return nothing;
}

}  // namespace bb::io::nvme
