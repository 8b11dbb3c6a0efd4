// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "raid/stripe_page.h"

namespace bb::raid {

inline constexpr uint32_t kNoRow = UINT32_MAX;
inline constexpr uint32_t kNoStripe = UINT32_MAX;

// In which row of an array with parity each of its stripes lies, and which rows are free
// (docs/decisions/014-levels.md). A stripe that is written as a whole moves to a free row. The row
// it lay in is free again once every member's page says where it lies now: until then the page of
// before may count.
//
// One batch of pages is written at a time; moves meanwhile share the next.
class StripeMap {
 public:
  // Stripe i lies in row i. More rows than stripes, and fewer than kNoRow.
  StripeMap(Uuid array, uint64_t stripes, uint64_t rows);

  uint64_t stripes() const { return row_of_.size(); }
  uint64_t rows() const { return stripe_in_.size(); }
  uint32_t pages() const;
  uint32_t row_of(uint64_t stripe) const { return row_of_[stripe]; }
  // What lies in a row, kNoStripe if nothing that counts.
  uint32_t stripe_in(uint64_t row) const { return stripe_in_[row]; }
  size_t free_rows() const { return free_.size(); }

  // --- moving
  // A free row, the next one after `near` if there is one; nobody else gets it. None: write pages.
  std::optional<uint32_t> take_row(uint32_t near);
  void give_back(uint32_t row);              // one taken, that nothing was moved to
  void move(uint64_t stripe, uint32_t row);  // it lies in that taken row from now on

  // --- pages
  bool page_wanted(uint64_t stripe) const {  // what its page says is not what is true
    return moved_pages_.contains(static_cast<uint32_t>(stripe / kStripesPerPage));
  }
  bool batch_wanted() const { return !moved_pages_.empty(); }
  bool in_batch() const { return in_batch_; }
  // Every page: when members do not agree about them.
  void request_all();
  // What has moved so far. All of it must be durable on the members before a page is written.
  const std::vector<uint32_t>& batch_begin();
  StripePageHead encode(uint32_t page, const Uuid& life, uint64_t first_seq, Bytes into) const;
  // Every member has them: the rows of before are free. Else all is wanted again, and no row is
  // free that any page names.
  void batch_end(bool written);

  // --- assembly
  // Takes what a page says, when it is newer than what was taken for that page before.
  void adopt(const StripePageHead& head, std::span<const uint32_t> rows);
  uint64_t generation(uint32_t page) const { return generations_[page]; }
  // After all of them: CORRUPT when two stripes lie in one row.
  Status settle();

 private:
  uint64_t first_of(uint32_t page) const { return uint64_t{page} * kStripesPerPage; }
  size_t count_of(uint32_t page) const;

  Uuid array_;
  std::vector<uint32_t> row_of_;
  std::vector<uint32_t> stripe_in_;
  std::set<uint32_t> free_;
  std::vector<uint32_t> leaving_;        // rows left since the batch under way began, or any
  std::vector<uint32_t> leaving_batch_;  // … before it
  std::set<uint32_t> moved_pages_;
  std::vector<uint64_t> generations_;
  std::vector<uint32_t> batch_;
  std::vector<std::vector<uint32_t>> images_;  // of the batch's pages
  bool in_batch_ = false;
  bool adopted_ = false;  // any page, since the map was made
};

}  // namespace bb::raid
