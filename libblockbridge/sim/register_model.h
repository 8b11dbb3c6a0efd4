// SPDX-License-Identifier: Apache-2.0
// pure: what a block may hold that several hosts write, read, and compare and write
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace bb::sim {

// The history of one block of which each write has a value of its own, and 0 is there at first. Is
// there an order of all that was done, each within the time between its question and its answer,
// in which every read finds what was written last, and every Compare and Write writes right after
// what it compared with?
class RegisterModel {
 public:
  using Value = uint64_t;
  using OpId = size_t;

  OpId begin_read(uint64_t now);
  OpId begin_write(Value value, uint64_t now);
  OpId begin_pair(Value compared, Value value, uint64_t now);

  // What never ends may have happened, and may yet happen.
  void end_read(OpId read, Value found, uint64_t now);
  void end_done(OpId op, uint64_t now);
  void end_without_effect(OpId op);
  void end_differs(OpId pair, uint64_t now);  // from what was compared: nothing was written

  std::string check() const;  // empty: there is
  size_t pairs_done() const;

 private:
  enum class Kind : uint8_t { kRead, kWrite, kPair };
  enum class End : uint8_t { kUnknown, kDone, kNoEffect, kDiffers };
  struct Op {
    Kind kind;
    End end = End::kUnknown;
    uint64_t began = 0;
    uint64_t ended = UINT64_MAX;
    Value value = 0;     // written, or found
    Value compared = 0;  // of a pair
    bool happened = false;
  };
  // Values that follow each other directly: a plain write's, and those of pairs behind it.
  struct Chain {
    uint64_t first_end = UINT64_MAX;
    uint64_t last_begin = 0;
  };
  struct History;

  static std::string happen(History* history);
  static std::string link(History* history);
  static std::string add_chain(History* history, Value root);
  static std::string check_differing(const History& history);

  std::vector<Op> ops_;
};

}  // namespace bb::sim
