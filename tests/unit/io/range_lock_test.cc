// SPDX-License-Identifier: Apache-2.0
#include "io/range_lock.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "base/prng.h"

namespace bb::io {
namespace {

struct Wish : RangeTicket {
  std::vector<Wish*>* log = nullptr;
  Wish(uint64_t offset, uint64_t length, LockMode m, std::vector<Wish*>* to) : log(to) {
    offset_bytes = offset;
    length_bytes = length;
    mode = m;
    granted = [](RangeTicket* ticket) {
      auto* wish = static_cast<Wish*>(ticket);
      wish->log->push_back(wish);
    };
  }
};

TEST(RangeLock, OrdersWhatOverlaps) {
  RangeLock lock;
  std::vector<Wish*> granted;
  auto shared = LockMode::kShared;
  auto exclusive = LockMode::kExclusive;
  Wish a(0, 10, exclusive, &granted), b(10, 10, exclusive, &granted), c(5, 10, exclusive, &granted);
  Wish d(12, 2, shared, &granted), e(0, 4, shared, &granted), f(1, 1, shared, &granted);
  EXPECT_TRUE(lock.acquire(a));
  EXPECT_TRUE(lock.acquire(b));   // touches, does not overlap
  EXPECT_FALSE(lock.acquire(c));  // overlaps both
  EXPECT_FALSE(lock.acquire(d));  // behind c
  EXPECT_FALSE(lock.acquire(e));  // behind a only
  lock.release(a);
  EXPECT_EQ(granted, (std::vector<Wish*>{&e}));
  EXPECT_TRUE(lock.acquire(f));  // readers share
  lock.release(b);
  EXPECT_EQ(granted, (std::vector<Wish*>{&e, &c}));
  lock.release(c);
  EXPECT_EQ(granted, (std::vector<Wish*>{&e, &c, &d}));
  lock.release(d);
  lock.release(e);
  lock.release(f);
  EXPECT_TRUE(lock.idle());
}

TEST(RangeLock, ACancelledWishLetsThoseBehindItGo) {
  RangeLock lock;
  std::vector<Wish*> granted;
  Wish a(0, 4, LockMode::kShared, &granted), b(0, 8, LockMode::kExclusive, &granted);
  Wish c(2, 2, LockMode::kShared, &granted), d(4, 8, LockMode::kExclusive, &granted);
  EXPECT_TRUE(lock.acquire(a));
  EXPECT_FALSE(lock.acquire(b));
  EXPECT_FALSE(lock.acquire(c));
  EXPECT_FALSE(lock.acquire(d));
  lock.cancel(b);
  EXPECT_EQ(granted, (std::vector<Wish*>{&c, &d}));
  for (Wish* wish : {&a, &c, &d}) lock.release(*wish);
  EXPECT_TRUE(lock.idle());
}

TEST(RangeLock, NeverTwoThatClashAndNobodyIsForgotten) {
  Prng prng(1);
  RangeLock lock;
  std::vector<Wish*> granted;
  std::deque<Wish> wishes;
  for (int step = 0; step < 20000; ++step) {
    if (prng.chance(2)) {
      Wish& wish =
          wishes.emplace_back(prng.below(64), prng.between(1, 16),
                              prng.chance(2) ? LockMode::kShared : LockMode::kExclusive, &granted);
      lock.acquire(wish);
    } else {
      std::vector<Wish*> held;
      for (Wish& wish : wishes) {
        if (wish.held) held.push_back(&wish);
      }
      if (held.empty()) continue;
      lock.release(*held[prng.below(held.size())]);
    }
    while (!wishes.empty() && !wishes.front().held && !wishes.front().is_linked()) {
      wishes.pop_front();
    }
    for (size_t i = 0; i < wishes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        const Wish &x = wishes[i], &y = wishes[j];
        if (!x.held || !y.held) continue;
        if (x.mode == LockMode::kShared && y.mode == LockMode::kShared) continue;
        ASSERT_FALSE(x.offset_bytes < y.offset_bytes + y.length_bytes &&
                     y.offset_bytes < x.offset_bytes + x.length_bytes);
      }
    }
    if (wishes.size() > 40) {
      for (Wish& wish : wishes) {
        if (wish.held) lock.release(wish);
      }
    }
  }
  for (bool more = true; more;) {
    more = false;
    for (Wish& wish : wishes) {
      if (!wish.held) continue;
      lock.release(wish);
      more = true;
    }
  }
  EXPECT_TRUE(lock.idle());
}

}  // namespace
}  // namespace bb::io
