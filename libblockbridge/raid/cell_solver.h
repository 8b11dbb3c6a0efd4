// SPDX-License-Identifier: Apache-2.0
// pure: which blocks of a column are right, told by their checksums and their parity
#pragma once

#include <array>
#include <map>
#include <optional>
#include <vector>

#include "raid/checksum_page.h"
#include "raid/parity.h"

namespace bb::raid {

// A block of kCheckedBlockBytes of a row, one of a column with the others of the same place.
struct Cell {
  enum class State : uint8_t { kAbsent, kUnreadable, kRead };
  State state = State::kAbsent;
  std::byte* data = nullptr;     // kParityAlignBytes aligned; room in any case
  uint32_t found = kNoChecksum;  // of `data`, once it is read or made
  uint32_t recorded = kNoChecksum;

  bool read() const { return state == State::kRead; }
  bool wrong() const { return read() && recorded != kNoChecksum && recorded != found; }
  bool known() const { return read() && recorded != kNoChecksum && recorded == found; }
};

// What is recorded of the blocks of a stripe.
enum class Trust : uint8_t {
  kRecorded,  // what was written last
  kOld,       // that, or something older: after a crash
  kDoubtful,  // likewise, and what is found may be damaged: nothing of it is guessed
};

// Finds blocks that can be left out so that the others are proved right, and makes them anew.
class CellSolver {
 public:
  explicit CellSolver(const ParityCode& code) : code_(code) {}

  // Data first, then parity. Makes what is absent, cannot be read, or is wrong: which, a bit each.
  // nullopt: nothing decides, and no block was touched.
  std::optional<uint64_t> solve(std::vector<Cell>& cells, Trust trust);

 private:
  struct Attempt {
    uint64_t left_out = 0;
    uint32_t spares = 0;     // blocks that were neither left out nor needed …
    bool consistent = true;  // … and are what the others make of them
  };
  std::optional<Attempt> attempt(const std::vector<Cell>& cells, uint64_t left_out);
  bool accepts(const std::vector<Cell>& cells, Trust trust, const Attempt& attempt,
               uint64_t must_mask);
  const Reconstruction& plan(uint64_t lost_mask);
  ConstBytes made(uint32_t block) const;  // by the latest attempt

  const ParityCode& code_;
  std::map<uint64_t, Reconstruction> plans_;
  std::vector<uint32_t> made_of_;
  alignas(kParityAlignBytes) std::array<std::byte, kParityMax * kCheckedBlockBytes> made_;
};

}  // namespace bb::raid
