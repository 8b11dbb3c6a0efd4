// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_map.h"

#include <algorithm>

#include "base/check.h"
#include "base/mutant.h"
#include "base/units.h"

namespace bb::raid {

StripeMap::StripeMap(Uuid array, uint64_t stripes, uint64_t rows)
    : array_(array), row_of_(stripes), stripe_in_(rows, kNoStripe) {
  BB_CHECK(stripes > 0 && rows > stripes && rows < kNoRow, "{} stripes in {} rows", stripes, rows);
  for (uint32_t i = 0; i < stripes; ++i) row_of_[i] = stripe_in_[i] = i;
  for (auto row = static_cast<uint32_t>(stripes); row < rows; ++row) free_.insert(row);
  generations_.assign(pages(), 0);
}

uint32_t StripeMap::pages() const {
  return static_cast<uint32_t>(div_up(row_of_.size(), kStripesPerPage));
}

size_t StripeMap::count_of(uint32_t page) const {
  return std::min<uint64_t>(kStripesPerPage, row_of_.size() - first_of(page));
}

std::optional<uint32_t> StripeMap::take_row(uint32_t near) {
  if (free_.empty()) return std::nullopt;
  auto found = free_.lower_bound(near);
  if (found == free_.end()) found = free_.begin();
  uint32_t row = *found;
  free_.erase(found);
  return row;
}

void StripeMap::give_back(uint32_t row) {
  BB_CHECK(stripe_in_[row] == kNoStripe, "row {} has stripe {}", row, stripe_in_[row]);
  bool fresh = free_.insert(row).second;
  BB_CHECK(fresh, "row {} is free already", row);
}

void StripeMap::move(uint64_t stripe, uint32_t row) {
  BB_CHECK(stripe_in_[row] == kNoStripe && !free_.contains(row), "row {} was not taken", row);
  uint32_t before = row_of_[stripe];
  stripe_in_[before] = kNoStripe;
  stripe_in_[row] = static_cast<uint32_t>(stripe);
  row_of_[stripe] = row;
  if (BB_MUTANT(kRowFreeAtOnce)) {
    free_.insert(before);
  } else {
    leaving_.push_back(before);
  }
  moved_pages_.insert(static_cast<uint32_t>(stripe / kStripesPerPage));
}

void StripeMap::request_all() {
  for (uint32_t page = 0; page < pages(); ++page) moved_pages_.insert(page);
}

const std::vector<uint32_t>& StripeMap::batch_begin() {
  BB_CHECK(!in_batch_, "two batches of stripe map pages at once");
  in_batch_ = true;
  batch_.assign(moved_pages_.begin(), moved_pages_.end());
  moved_pages_.clear();
  leaving_batch_.swap(leaving_);
  images_.clear();
  for (uint32_t page : batch_) {
    ++generations_[page];
    auto first = row_of_.begin() + static_cast<ptrdiff_t>(first_of(page));
    images_.emplace_back(first, first + static_cast<ptrdiff_t>(count_of(page)));
  }
  return batch_;
}

StripePageHead StripeMap::encode(uint32_t page, const Uuid& life, uint64_t first_seq,
                                 Bytes into) const {
  auto found = std::ranges::lower_bound(batch_, page);
  BB_CHECK(in_batch_ && found != batch_.end() && *found == page, "page {} is in no batch", page);
  StripePageHead head{.array = array_,
                      .page = page,
                      .generation = generations_[page],
                      .life = life,
                      .first_seq = first_seq};
  encode_stripe_page(head, images_[static_cast<size_t>(found - batch_.begin())], into);
  return head;
}

void StripeMap::batch_end(bool written) {
  BB_CHECK(in_batch_, "no batch of stripe map pages ends");
  in_batch_ = false;
  if (written) {
    free_.insert(leaving_batch_.begin(), leaving_batch_.end());
  } else {
    moved_pages_.insert(batch_.begin(), batch_.end());
    leaving_.insert(leaving_.end(), leaving_batch_.begin(), leaving_batch_.end());
  }
  leaving_batch_.clear();
  images_.clear();
}

void StripeMap::adopt(const StripePageHead& head, std::span<const uint32_t> rows) {
  BB_CHECK(head.page < pages() && rows.size() == count_of(head.page), "page {} of {} stripes",
           head.page, rows.size());
  if (head.generation <= generations_[head.page]) return;
  generations_[head.page] = head.generation;
  adopted_ = true;
  std::ranges::copy(rows, row_of_.begin() + static_cast<ptrdiff_t>(first_of(head.page)));
}

Status StripeMap::settle() {
  if (!adopted_) return {};
  std::ranges::fill(stripe_in_, kNoStripe);
  for (uint32_t stripe = 0; stripe < row_of_.size(); ++stripe) {
    uint32_t row = row_of_[stripe];
    if (stripe_in_[row] != kNoStripe) {
      return error(Code::k_corrupt, "stripe map: stripes {} and {} lie in row {}", stripe_in_[row],
                   stripe, row);
    }
    stripe_in_[row] = stripe;
  }
  free_.clear();
  for (uint32_t row = 0; row < stripe_in_.size(); ++row) {
    if (stripe_in_[row] == kNoStripe) free_.insert(row);
  }
  return {};
}

}  // namespace bb::raid
