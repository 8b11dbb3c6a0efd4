// SPDX-License-Identifier: Apache-2.0
// pure: bytes in, values out
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/status.h"
#include "base/uuid.h"

namespace bb::backplane {

// Who may use a drive. Recorded on the drive itself, so that it survives every reboot.
struct Claim {
  bool owned = false;
  Uuid owner;              // the cluster or dataplane that owns the drive
  std::string owner_name;  // for messages only
  std::string host_nqn;    // the only host that may connect while owned
  uint64_t epoch = 0;      // raised at each take-over; connections of older ones are cut
  Uuid array;
  std::string array_name;

  bool operator==(const Claim&) const = default;
};

// What a disk node writes at the head of each drive it publishes; see docs/formats/claim.md. The
// NVMe namespace starts after the reserved first MiB.
struct DriveLabel {
  uint64_t generation = 0;  // raised by every write; the newer whole copy counts
  Uuid drive;
  uint64_t data_offset_bytes = 0;
  uint64_t data_size_bytes = 0;
  uint32_t block_size_bytes = 0;
  std::string serial;
  std::string model;
  Claim claim;

  bool operator==(const DriveLabel&) const = default;
};

inline constexpr size_t kLabelSizeBytes = 4096;
inline constexpr uint64_t kLabelOffsetsBytes[2] = {0, 65536};
inline constexpr uint64_t kReservedBytes = 1u << 20;
inline constexpr uint64_t kDriveSizeMinBytes = 16u << 20;  // smaller ones hold no array
inline constexpr size_t kSerialMaxBytes = 20;              // what NVMe Identify can show
inline constexpr size_t kModelMaxBytes = 40;
inline constexpr size_t kHostNqnMaxBytes = 223;
inline constexpr size_t kNameMaxBytes = 64;

// `into` is kLabelSizeBytes long. The texts have been checked with check_label.
void encode_label(const DriveLabel& label, Bytes into);
// INVALID_ARGUMENT naming the text that does not fit.
Status check_label(const DriveLabel& label);

// NOT_FOUND: no magic, so not a label. NOT_SUPPORTED: a version of the future. CORRUPT: magic, but
// the rest is not whole.
Result<DriveLabel> decode_label(ConstBytes from);

// The two copies as read; what a drive says and which copy is to be overwritten first.
struct LabelChoice {
  DriveLabel label;
  int newer = 0;  // index of the copy that counts; the other is written first
};
// NOT_FOUND only when neither copy has the magic; CORRUPT when a label was there and none is whole.
Result<LabelChoice> choose_label(ConstBytes copy_a, ConstBytes copy_b);

// True when the area a new label would take is all zeroes, as on a blank drive.
bool label_area_blank(ConstBytes head);

}  // namespace bb::backplane
