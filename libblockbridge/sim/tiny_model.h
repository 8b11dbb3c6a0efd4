// SPDX-License-Identifier: Apache-2.0
// pure: what sectors may hold after a crash
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "sim/tiny_config.h"

namespace bb::sim {

// The rules of DiskModel (docs/SIMULATOR.md) for a handful of writes that are known before: so what
// a write leaves does not depend on the order in which the writes begin, and crashes after
// different orders can be told to be alike.
class TinyModel {
 public:
  static constexpr uint64_t kSectorBytes = 512;
  // Which writes each sector may hold, a bit each; bit 0 is what was there at first.
  using Allowed = std::vector<uint32_t>;

  explicit TinyModel(const TinyConfig& config);

  // `op`: a number for each op of both writers, from 1 on.
  static uint32_t number_of(const TinyConfig& config, uint32_t writer, size_t op);
  static void fill(uint32_t op, uint64_t first_sector, Bytes into);

  void begin(uint32_t op);
  void end(uint32_t op);  // acknowledged
  // `lost`: what was acknowledged and not flushed since may be gone.
  Allowed allowed(bool lost) const;
  // Empty, or what is wrong with these bytes of the front of the array. What was read stays read:
  // afterwards nothing else is allowed.
  static std::string check(Allowed* allowed, ConstBytes bytes);

 private:
  struct Op {
    TinyOp what;
    uint64_t begin = 0;  // 0: not yet
    uint64_t end = UINT64_MAX;
    bool durable = false;
  };
  std::vector<Op> ops_;
  uint64_t now_ = 0;
};

}  // namespace bb::sim
