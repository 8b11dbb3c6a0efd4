// SPDX-License-Identifier: Apache-2.0
#include "backplane/drive_label.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

constexpr std::string_view kMagic = "BBDRIVE\n";
constexpr uint32_t kVersion = 1;

// Field offsets; docs/formats/claim.md has the same table.
enum : size_t {
  kAtMagic = 0,
  kAtVersion = 8,
  kAtCrc = 12,
  kAtGeneration = 16,
  kAtDrive = 24,
  kAtDataOffset = 40,
  kAtDataSize = 48,
  kAtBlockSize = 56,
  kAtClaimState = 60,
  kAtOwner = 64,
  kAtEpoch = 80,
  kAtArray = 88,
  kAtSerial = 128,
  kAtModel = 160,
  kAtHostNqn = 256,
  kAtOwnerName = 512,
  kAtArrayName = 576,
  kAtEnd = 640,
};
static_assert(kAtEnd <= kLabelSizeBytes);

struct TextField {
  std::string_view what;
  size_t offset;
  size_t max_bytes;
};
constexpr TextField kSerial{"serial", kAtSerial, kSerialMaxBytes};
constexpr TextField kModel{"model", kAtModel, kModelMaxBytes};
constexpr TextField kHostNqn{"host NQN", kAtHostNqn, kHostNqnMaxBytes};
constexpr TextField kOwnerName{"owner name", kAtOwnerName, kNameMaxBytes};
constexpr TextField kArrayName{"array name", kAtArrayName, kNameMaxBytes};

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

Status check_text(const TextField& field, const std::string& text) {
  if (text.size() > field.max_bytes)
    return error(Code::k_invalid_argument, "drive label: {} of {} bytes (max {})", field.what,
                 text.size(), field.max_bytes);
  if (!printable(text))
    return error(Code::k_invalid_argument,
                 "drive label: {} has characters other than printable ASCII", field.what);
  return ok_status();
}

void put_text(Bytes into, const TextField& field, const std::string& text) {
  std::copy_n(as_bytes(text).begin(), text.size(), into.begin() + static_cast<long>(field.offset));
}

Status get_text(ConstBytes from, const TextField& field, std::string* text) {
  std::string_view raw = as_text(from.subspan(field.offset, field.max_bytes));
  std::string_view used = raw.substr(0, raw.find('\0'));
  if (!printable(used) || raw.find_first_not_of('\0', used.size()) != std::string_view::npos)
    return error(Code::k_corrupt, "drive label: {} is not text", field.what);
  *text = used;
  return ok_status();
}

Status decode_claim(ConstBytes from, Claim* claim) {
  uint32_t state = load_le<uint32_t>(&from[kAtClaimState]);
  if (state > 1) return error(Code::k_corrupt, "drive label: claim state {} (max 1)", state);
  claim->owned = state == 1;
  claim->owner = Uuid::from(from.subspan(kAtOwner, 16));
  claim->epoch = load_le<uint64_t>(&from[kAtEpoch]);
  claim->array = Uuid::from(from.subspan(kAtArray, 16));
  BB_TRY(get_text(from, kHostNqn, &claim->host_nqn));
  BB_TRY(get_text(from, kOwnerName, &claim->owner_name));
  BB_TRY(get_text(from, kArrayName, &claim->array_name));
  if (claim->owned && (claim->owner.is_nil() || claim->epoch == 0 || claim->host_nqn.empty()))
    return error(Code::k_corrupt, "drive label: owned, but without owner, epoch or host NQN");
  return ok_status();
}

Status check_geometry(const DriveLabel& label) {
  uint64_t block = label.block_size_bytes;
  if ((block != 512 && block != 4096) || label.data_offset_bytes % block != 0 ||
      label.data_size_bytes % block != 0)
    return error(Code::k_corrupt, "drive label: block size {} with data of {} bytes at {}", block,
                 label.data_size_bytes, label.data_offset_bytes);
  if (label.data_offset_bytes < kReservedBytes || label.data_size_bytes == 0 ||
      label.data_size_bytes > UINT64_MAX - label.data_offset_bytes)
    return error(Code::k_corrupt, "drive label: data of {} bytes at {} (starts at {} or later)",
                 label.data_size_bytes, label.data_offset_bytes, kReservedBytes);
  return ok_status();
}

}  // namespace

Status check_label(const DriveLabel& label) {
  BB_TRY(check_text(kSerial, label.serial));
  BB_TRY(check_text(kModel, label.model));
  BB_TRY(check_text(kHostNqn, label.claim.host_nqn));
  BB_TRY(check_text(kOwnerName, label.claim.owner_name));
  return check_text(kArrayName, label.claim.array_name);
}

void encode_label(const DriveLabel& label, Bytes into) {
  BB_CHECK(into.size() == kLabelSizeBytes, "a drive label into {} bytes", into.size());
  BB_CHECK(check_label(label).ok(), "{}", check_label(label).to_string());
  std::fill(into.begin(), into.end(), std::byte{0});
  std::copy_n(as_bytes(kMagic).begin(), kMagic.size(), into.begin());
  store_le<uint32_t>(&into[kAtVersion], kVersion);
  store_le<uint64_t>(&into[kAtGeneration], label.generation);
  std::copy(label.drive.bytes.begin(), label.drive.bytes.end(), &into[kAtDrive]);
  store_le<uint64_t>(&into[kAtDataOffset], label.data_offset_bytes);
  store_le<uint64_t>(&into[kAtDataSize], label.data_size_bytes);
  store_le<uint32_t>(&into[kAtBlockSize], label.block_size_bytes);
  store_le<uint32_t>(&into[kAtClaimState], label.claim.owned ? 1 : 0);
  std::copy(label.claim.owner.bytes.begin(), label.claim.owner.bytes.end(), &into[kAtOwner]);
  store_le<uint64_t>(&into[kAtEpoch], label.claim.epoch);
  std::copy(label.claim.array.bytes.begin(), label.claim.array.bytes.end(), &into[kAtArray]);
  put_text(into, kSerial, label.serial);
  put_text(into, kModel, label.model);
  put_text(into, kHostNqn, label.claim.host_nqn);
  put_text(into, kOwnerName, label.claim.owner_name);
  put_text(into, kArrayName, label.claim.array_name);
  store_le<uint32_t>(&into[kAtCrc], crc32c_around(into.first(kLabelSizeBytes), kAtCrc));
}

Result<DriveLabel> decode_label(ConstBytes from) {
  if (from.size() != kLabelSizeBytes)
    return error(Code::k_corrupt, "drive label: {} bytes (needs {})", from.size(), kLabelSizeBytes);
  if (as_text(from.first(kMagic.size())) != kMagic)
    return error(Code::k_not_found, "no drive label: the magic is missing");
  uint32_t expected = load_le<uint32_t>(&from[kAtCrc]);
  if (uint32_t found = crc32c_around(from.first(kLabelSizeBytes), kAtCrc); found != expected)
    return error(Code::k_corrupt, "drive label: checksum {:08x}, expected {:08x}", found, expected);
  uint32_t version = load_le<uint32_t>(&from[kAtVersion]);
  if (version != kVersion)
    return error(Code::k_not_supported, "drive label: version {} (this program knows {})", version,
                 kVersion);
  DriveLabel label;
  label.generation = load_le<uint64_t>(&from[kAtGeneration]);
  label.drive = Uuid::from(from.subspan(kAtDrive, 16));
  label.data_offset_bytes = load_le<uint64_t>(&from[kAtDataOffset]);
  label.data_size_bytes = load_le<uint64_t>(&from[kAtDataSize]);
  label.block_size_bytes = load_le<uint32_t>(&from[kAtBlockSize]);
  if (label.drive.is_nil()) return error(Code::k_corrupt, "drive label: the drive has no uuid");
  BB_TRY(check_geometry(label));
  BB_TRY(get_text(from, kSerial, &label.serial));
  BB_TRY(get_text(from, kModel, &label.model));
  BB_TRY(decode_claim(from, &label.claim));
  return label;
}

Result<LabelChoice> choose_label(ConstBytes copy_a, ConstBytes copy_b) {
  Result<DriveLabel> a = decode_label(copy_a);
  Result<DriveLabel> b = decode_label(copy_b);
  // What a newer program wrote last must not be undone by an older copy, nor taken for blank.
  if (a.code() == Code::k_not_supported) return a.status();
  if (b.code() == Code::k_not_supported) return b.status();
  if (a.ok() && b.ok() && a->drive != b->drive)
    return error(Code::k_corrupt, "the two copies of the drive label name different drives");
  if (a.ok() && (!b.ok() || a->generation >= b->generation))
    return LabelChoice{.label = std::move(a).value(), .newer = 0};
  if (b.ok()) return LabelChoice{.label = std::move(b).value(), .newer = 1};
  if (a.code() == Code::k_not_found) return b.status();
  return a.status();
}

bool label_area_blank(ConstBytes head) { return all_zero(head); }

}  // namespace bb::backplane
