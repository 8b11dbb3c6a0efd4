// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "raid/checksum_page.h"

namespace bb::raid {

// The checksums of one member's blocks, as far as they are in memory. Pages come when they are
// wanted and go, once written, when others need the room.
class Checksums {
 public:
  explicit Checksums(uint64_t blocks);

  uint64_t pages() const { return table_.size(); }
  uint64_t resident() const { return resident_.size(); }
  bool has(uint64_t page) const { return table_[page] != nullptr; }
  // The first page that is missing of those of these blocks; pages() when none is.
  uint64_t missing(uint64_t block, uint64_t count) const;
  // A page as its member had it. A damaged one is dirty: it has to be written, or the next to fetch
  // it finds the damage again.
  void put(uint64_t page, const FoundChecksums& found);

  // Of blocks whose pages are here.
  uint32_t at(uint64_t block);
  void set(uint64_t block, uint32_t sum);

  // One reads a page at a time; false: somebody does already.
  bool begin_fetch(uint64_t page) { return fetching_.insert(page).second; }
  void end_fetch(uint64_t page) { fetching_.erase(page); }

  // The pages to write of those that are `wanted`: what is set from now on makes them dirty again.
  std::vector<uint64_t> take_dirty(const std::function<bool(uint64_t page)>& wanted);
  std::span<const uint32_t> sums(uint64_t page) const { return table_[page]->sums; }
  uint64_t generation(uint64_t page) const { return table_[page]->generation; }
  // When it was written last (flush epoch of the bitmap): until a flush after that, the other copy
  // is the only one that is surely whole.
  uint64_t written_epoch(uint64_t page) const { return table_[page]->epoch; }
  void written(uint64_t page, bool ok, uint64_t epoch = 0);
  void pin(uint64_t page) { ++table_[page]->pins; }
  void unpin(uint64_t page) { --table_[page]->pins; }
  bool dirty() const { return !dirty_.empty(); }

  // Gives up one page that is not pinned, need not be written and was not used of late; false:
  // there is none. What was used counts as unused from then on.
  bool evict();

 private:
  struct Page {
    std::array<uint32_t, kChecksumsPerPage> sums;
    bool dirty = false;
    bool writing = false;
    bool used = true;  // since the hand passed
    uint32_t pins = 0;
    uint64_t generation = 0;
    uint64_t epoch = 0;
  };
  uint64_t blocks_;
  std::vector<std::unique_ptr<Page>> table_;
  std::vector<uint64_t> resident_;  // the pages here, round which the hand goes
  std::vector<uint64_t> dirty_;
  std::set<uint64_t> fetching_;
  size_t hand_ = 0;
};

// Pages that stay until it goes: of whoever has to fetch several before it can use any.
class PinnedSums {
 public:
  PinnedSums() = default;
  PinnedSums(const PinnedSums&) = delete;
  ~PinnedSums();
  // The pages of these blocks, all of which are here.
  void pin(std::shared_ptr<Checksums> sums, uint64_t block, uint64_t count);

 private:
  std::vector<std::pair<std::shared_ptr<Checksums>, uint64_t>> pages_;
};

// The checksums of a request's blocks; a few need no allocation.
class BlockSums {
 public:
  // Of memory that lies in many pieces; whole blocks.
  void compute(std::span<const iovec> memory);
  void fill(uint64_t count, uint32_t sum);
  std::span<const uint32_t> values() const {
    return more_.empty() ? std::span<const uint32_t>(few_).first(count_) : more_;
  }

 private:
  static constexpr size_t kFew = 16;
  void start(uint64_t count);
  std::span<uint32_t> room() {
    return more_.empty() ? std::span<uint32_t>(few_).first(count_) : more_;
  }
  std::array<uint32_t, kFew> few_;
  std::vector<uint32_t> more_;
  size_t count_ = 0;
};

}  // namespace bb::raid
