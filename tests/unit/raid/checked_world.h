// SPDX-License-Identifier: Apache-2.0
// An array with integrity, and what can be done to its drives behind its back.
#pragma once

#include "array_content.h"

namespace bb::raid {
namespace {

struct CheckedWorld : World {
  explicit CheckedWorld(const char* raid, uint64_t chunk_bytes = 16 * KiB)
      : World(raid, parse_shape(raid, 0)->level->id == RaidLevel::k1 ? 0 : chunk_bytes) {
    integrity = Integrity::kCrc32c;
  }
  uint64_t checksum_errors(size_t slot) {
    return array->describe().members.at(slot).checksum_errors;
  }
  // Where copy `copy` of a byte of the array lies.
  CopyPlace place(uint64_t at, uint32_t copy) { return copy_place(shape, at, copy); }
  void rot(uint64_t at, uint32_t copy, size_t length = 1) {
    CopyPlace where = place(at, copy);
    int was = on_drive(where.slot, where.offset_bytes);
    put_on_drive(where.slot, where.offset_bytes, length, was ^ 0x40);
  }
  Result<ScrubReport> scrub(ScrubRange range = {}) { return run(array->scrub(range)); }
};

}  // namespace
}  // namespace bb::raid
