// SPDX-License-Identifier: Apache-2.0
// pure: what a drive holds, and what of it is durable
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/prng.h"

namespace bb::sim {

// A sparse image of 512-byte sectors with two layers: what a read returns now, and what is left
// after a power loss. A sector whose layers differ in age is "unflushed".
class SectorStore {
 public:
  static constexpr uint64_t kSectorBytes = 512;
  static constexpr uint64_t kPageBytes = 4096;

  struct Page {
    std::byte current[kPageBytes];
    std::byte durable[kPageBytes];  // meaningful for unflushed sectors only
    uint8_t unflushed = 0;          // a bit a sector
    uint8_t unreadable = 0;         // latent sector errors
    uint8_t wrong = 0;              // sectors that are silently not what was written,
    uint8_t wrong_durable = 0;      // and those that would not be after a power loss
    bool listed = false;            // in unflushed_pages_
  };
  // Pages used again by the next run: allocation would be most of a short run's time.
  struct Pool {
    std::vector<std::unique_ptr<Page>> free;
  };

  SectorStore(uint64_t size_bytes, Pool* pool);
  ~SectorStore();
  SectorStore(const SectorStore&) = delete;

  uint64_t size_bytes() const { return size_bytes_; }

  // False when a sector of the range is unreadable; the others are read all the same.
  bool read(uint64_t offset_bytes, Bytes into) const;
  // A write makes its sectors readable again, as drives do by remapping.
  void write(uint64_t offset_bytes, ConstBytes from, bool durable);
  void write_zeroes(uint64_t offset_bytes, uint64_t length_bytes, bool durable);
  void flush();

  // Power loss: of each unflushed sector either layer stays, at random. Returns how many went back.
  uint64_t lose_unflushed(Prng& prng);
  void flip_bit(uint64_t offset_bytes, uint32_t bit);  // bit rot: of both layers
  void make_unreadable(uint64_t offset_bytes);
  // It holds something else than `right` (bit rot, a lost or misplaced write), until written.
  void mark_wrong(uint64_t offset_bytes, ConstBytes right);
  // As if nothing were wrong.
  void read_right(uint64_t offset_bytes, Bytes into) const;
  // What is wrong becomes right after all.
  void mend(uint64_t offset_bytes);
  std::vector<uint64_t> wrong_places() const;
  bool is_wrong(uint64_t offset_bytes) const;
  uint64_t wrong_sectors() const;
  uint64_t unflushed_sectors() const;
  uint64_t unreadable_sectors() const { return unreadable_; }

 private:
  Page* find(uint64_t offset_bytes) const { return pages_[offset_bytes / kPageBytes].get(); }
  Page& obtain(uint64_t offset_bytes);
  void put_sector(uint64_t offset_bytes, const std::byte* from, bool durable);

  uint64_t size_bytes_;
  Pool* pool_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::vector<uint64_t> used_pages_;
  std::vector<uint64_t> unflushed_pages_;
  uint64_t unreadable_ = 0;
  std::map<uint64_t, std::array<std::byte, kSectorBytes>> right_;  // of what is wrong, or was
};

}  // namespace bb::sim
