// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "io/buffer.h"
#include "raid/parity.h"
#include "raid/stripe_layout.h"
#include "raid/stripe_plan.h"

namespace bb::sim {
namespace {

constexpr uint32_t kFreeWritesMax = 10;  // of one drive, of which all subsets are tried
constexpr uint32_t kTicksMax = 100'000;
constexpr uint64_t kRowsLookedAt = 16;

uint64_t record_hash(const raid::MembershipRecord& record) {
  uint64_t hash = tiny_mix(record.version, record.epoch);
  for (const raid::MemberRecord& member : record.members) {
    hash = tiny_mix(hash, static_cast<uint64_t>(member.state) << 32 | member.generation);
  }
  return hash;
}

uint64_t allowed_hash(const TinyModel::Allowed& allowed) {
  uint64_t hash = 1;
  for (uint32_t mask : allowed) hash = tiny_mix(hash, mask);
  return hash;
}

// If only the array's process ends, what is complete stays.
bool must_stay(const TinyWrite& write, bool power) {
  bool complete = write.number != 0 && write.number != UINT64_MAX;
  return write.durable || (complete && !power);
}

uint64_t moment_hash(const TinyMoment& moment, bool power, uint64_t seed) {
  uint64_t hash = tiny_mix(seed, record_hash(moment.record));
  for (const TinyRemains& drive : moment.drives) {
    hash = tiny_mix(hash, drive.durable.hash());
    for (const TinyWrite& write : drive.loose) {
      hash = tiny_mix(hash, write.hash + (must_stay(write, power) ? 1 : 0));
    }
  }
  return hash;
}

// Half 0 of a torn write: its first sector is there; half 1: all but that.
void put_half(TinyImage& image, const TinyWrite& write, uint32_t half) {
  constexpr uint64_t kSector = TinyImage::kSectorBytes;
  ConstBytes bytes = write.bytes;
  if (half == 0) {
    image.write(write.offset_bytes, bytes.first(kSector));
  } else {
    image.write(write.offset_bytes + kSector, bytes.subspan(kSector));
  }
}

TinyImage image_after(const TinyRemains& remains, bool power, uint64_t kept_mask,
                      const std::optional<TinyCrash::Torn>& torn) {
  TinyImage image = remains.durable;
  for (uint32_t i = 0; i < remains.loose.size(); ++i) {
    const TinyWrite& write = remains.loose[i];
    if (torn && torn->write == i) {
      put_half(image, write, torn->half);
    } else if (must_stay(write, power) || (kept_mask >> i & 1) != 0) {
      image.write(write.offset_bytes, write.bytes);
    }
  }
  return image;
}

}  // namespace

TinyChecker::TinyChecker(const TinyConfig& config)
    : config_(config), shape_(*raid::parse_shape(config.shape, kTinyChunkBytes)) {
  uint64_t stripe = shape_.level->parity > 0 ? shape_.data_chunks() * kTinyChunkBytes : UINT64_MAX;
  for (const auto& writer : config.writers) {
    for (const TinyOp& op : writer) {
      whole_stripes_ = whole_stripes_ || op.sectors * TinyModel::kSectorBytes >= stripe;
    }
  }
}

// --- what a crash may leave

std::vector<TinyChecker::Left> TinyChecker::lefts_of(const TinyRemains& remains, uint32_t member,
                                                     bool power, bool* bounded) const {
  std::vector<uint32_t> free;
  for (uint32_t i = 0; i < remains.loose.size(); ++i) {
    if (!must_stay(remains.loose[i], power)) free.push_back(i);
  }
  std::vector<Left> lefts;
  std::unordered_set<uint64_t> seen;
  auto add = [&](uint64_t kept, std::optional<TinyCrash::Torn> torn) {
    TinyImage image = image_after(remains, power, kept, torn);
    if (seen.insert(image.hash()).second) lefts.push_back({std::move(image), kept, torn});
  };
  auto add_torn = [&](uint64_t kept) {
    for (uint32_t i : free) {
      if (remains.loose[i].bytes.size() <= TinyImage::kSectorBytes) continue;
      for (uint32_t half : {0u, 1u}) add(kept, TinyCrash::Torn{member, i, half});
    }
  };
  BB_CHECK(remains.loose.size() < 64, "{} writes that a crash may take back", remains.loose.size());
  bool all = free.size() <= kFreeWritesMax;
  *bounded = *bounded || !all;
  uint64_t subsets = uint64_t{1} << std::min<size_t>(free.size(), kFreeWritesMax);
  for (uint64_t subset = 0; subset < subsets; ++subset) {
    uint64_t kept = 0;
    // Too many: any of the latest are lost, and all before them are there.
    size_t first = free.size() - std::min<size_t>(free.size(), kFreeWritesMax);
    for (size_t i = 0; i < free.size(); ++i) {
      bool there = i < first || (subset >> (i - first) & 1) != 0;
      if (there) kept |= uint64_t{1} << free[i];
    }
    add(kept, std::nullopt);
    if (config_.torn) add_torn(kept);
  }
  return lefts;
}

std::string TinyChecker::all_crashes(const TinyMoment& moment, std::vector<TinyCrash>* trail) {
  for (bool power : {true, false}) {
    std::string problem = crashes_of(moment, power, trail);
    if (!problem.empty()) return problem;
  }
  return {};
}

std::string TinyChecker::crashes_of(const TinyMoment& moment, bool power,
                                    std::vector<TinyCrash>* trail) {
  const TinyModel::Allowed& allowed = moment.allowed[power ? 1 : 0];
  // After a second crash less is tried.
  uint64_t wanted = tiny_mix(allowed_hash(allowed), trail->size());
  uint64_t name = moment_hash(moment, power, wanted);
  if (!moments_.insert(name).second) return {};
  ++counts_.moments;
  moments_hash_ += name;
  bool bounded = false;
  std::vector<std::vector<Left>> lefts;
  lefts.reserve(moment.drives.size());
  for (uint32_t slot = 0; slot < moment.drives.size(); ++slot) {
    lefts.push_back(lefts_of(moment.drives[slot], slot, power, &bounded));
  }
  counts_.bounded += bounded ? 1 : 0;
  uint64_t base = tiny_mix(wanted, record_hash(moment.record));
  std::vector<size_t> at(lefts.size(), 0);
  for (;;) {
    uint64_t key = base;
    uint32_t torn = 0;
    TinyCrash crash{.power = power};
    for (size_t slot = 0; slot < lefts.size(); ++slot) {
      const Left& left = lefts[slot][at[slot]];
      key = tiny_mix(key, left.image.hash());
      crash.kept_masks.push_back(left.kept_mask);
      torn += left.torn ? 1 : 0;
      if (left.torn) crash.torn = left.torn;
    }
    if (torn <= 1 && images_.insert(key).second) {
      ++counts_.images;
      TinyStart start{.images = {}, .record = moment.record};
      for (size_t slot = 0; slot < lefts.size(); ++slot) {
        start.images.push_back(lefts[slot][at[slot]].image);
      }
      trail->push_back(std::move(crash));
      std::string problem = starts_of(start, allowed, trail);
      if (!problem.empty()) return problem;
      trail->pop_back();
    }
    size_t slot = 0;
    while (slot < at.size() && ++at[slot] == lefts[slot].size()) at[slot++] = 0;
    if (slot == at.size()) return {};
  }
}

// Each start of those that may be, and if the configuration says so, each crash of that start.
std::string TinyChecker::starts_of(const TinyStart& start, const TinyModel::Allowed& allowed,
                                   std::vector<TinyCrash>* trail) {
  bool again = config_.crash_again && trail->size() == 1;
  for (uint64_t without = 0; without < shape_.all_slots(); ++without) {
    if (!may_start(*start.record, without)) continue;
    trail->back().without_mask = without;
    uint64_t steps = 0;
    auto crash = [&](TinyLife& life, const TinyModel::Allowed& left) -> std::string {
      ++steps;
      std::string problem = all_crashes(
          {.drives = life.remains(), .record = *life.authority().record(), .allowed = {left, left}},
          trail);
      if (!problem.empty()) trail->back().after = steps;
      return problem;
    };
    std::string problem = start_again(start, without, allowed, again ? crash : AtStep());
    if (!problem.empty()) return problem;
  }
  return {};
}

std::string TinyChecker::repeat(const TinyMoment& moment, std::span<const TinyCrash> crashes) {
  const TinyCrash& crash = crashes.front();
  if (crash.kept_masks.size() != moment.drives.size()) return "the crash is of another array";
  if (!may_start(moment.record, crash.without_mask)) return "so many may not be missing";
  TinyStart start{.images = {}, .record = moment.record};
  for (uint32_t slot = 0; slot < moment.drives.size(); ++slot) {
    bool torn = crash.torn && crash.torn->member == slot;
    start.images.push_back(image_after(moment.drives[slot], crash.power, crash.kept_masks[slot],
                                       torn ? crash.torn : std::nullopt));
  }
  uint64_t steps = 0;
  auto again = [&](TinyLife& life, const TinyModel::Allowed& left) -> std::string {
    if (crashes.size() < 2 || ++steps != crashes[1].after) return {};
    return repeat(
        {.drives = life.remains(), .record = *life.authority().record(), .allowed = {left, left}},
        crashes.subspan(1));
  };
  bool held = config_.crash_again && crash.after == 0;
  return start_again(start, crash.without_mask, moment.allowed[crash.power ? 1 : 0],
                     held ? again : AtStep());
}

// --- what must be there after it

bool TinyChecker::may_start(const raid::MembershipRecord& record, uint64_t without_mask) const {
  uint64_t there = record.slots_in(raid::MemberState::kInSync) & ~without_mask;
  return shape_.survives(shape_.all_slots() & ~there);
}

std::string TinyChecker::start_again(const TinyStart& start, uint64_t without_mask,
                                     TinyModel::Allowed allowed, const AtStep& at_step) {
  ++counts_.starts;
  TinyLife life(config_, start);
  std::string problem;
  if (at_step) {
    life.hold();
    life.at_each_step([&] {
      if (problem.empty()) problem = at_step(life, allowed);
    });
  }
  Status status = life.assemble(without_mask);
  if (!problem.empty()) return problem;
  if (!status.ok()) return "it does not start again: " + status.to_string();
  std::string wrong = look_at(life, &allowed);
  return problem.empty() ? wrong : problem;
}

std::string TinyChecker::look_at(TinyLife& life, TinyModel::Allowed* allowed) const {
  for (int reads = 0; reads < 2; ++reads) {
    std::string problem = look(life, allowed);
    if (!problem.empty()) return problem;
  }
  uint32_t ticks = 0;
  while (life.array().describe().state.find("resyncing") != std::string::npos) {
    if (++ticks > kTicksMax || !life.go_on()) return "copies do not become equal again";
  }
  std::string problem = look(life, allowed);
  if (problem.empty()) problem = copies(life);
  if (!problem.empty()) return problem;
  if (!life.authority().unlawful().empty()) return life.authority().unlawful();
  uint64_t there = life.authority().record()->slots_in(raid::MemberState::kInSync);
  Status status = life.close();
  if (!status.ok()) return "it does not close: " + status.to_string();
  return there == shape_.all_slots() && whole_stripes_ ? look_without(life, allowed) : "";
}

// What was read once is read again.
std::string TinyChecker::look(TinyLife& life, TinyModel::Allowed* allowed) {
  std::vector<std::byte> bytes(kTinySectors * TinyModel::kSectorBytes);
  Status status = life.read(bytes);
  if (!status.ok()) return "a read within the redundancy failed: " + status.to_string();
  return TinyModel::check(allowed, bytes);
}

// Rows that no stripe lies in may hold anything: parity is asked through the array.
std::string TinyChecker::look_without(TinyLife& life, TinyModel::Allowed* allowed) const {
  TinyStart rest{.images = {}, .record = life.authority().record()};
  for (size_t slot = 0; slot < life.devices(); ++slot) {
    rest.images.push_back(life.device(slot).image());
  }
  for (size_t slot = 0; slot < life.devices(); ++slot) {
    TinyLife without(config_, rest);
    Status status = without.assemble(uint64_t{1} << slot);
    if (!status.ok()) return "it does not start without a member: " + status.to_string();
    std::string problem = look(without, allowed);
    if (!problem.empty()) return fmt::format("without member {} then: {}", slot, problem);
  }
  return {};
}

// Of the members that count, copies are alike and parity is right.
std::string TinyChecker::copies(TinyLife& life) const {
  const raid::MembershipRecord& record = *life.authority().record();
  uint64_t there = record.slots_in(raid::MemberState::kInSync);
  if (shape_.level->parity > 0) {
    if (there != shape_.all_slots() || whole_stripes_) return {};
    raid::StripeLayout layout =
        raid::layout_stripes(record.array, shape_, record.data_offset_bytes, record.member_bytes);
    return parity(life, layout.rows);
  }
  uint64_t end = kTinySectors * TinyModel::kSectorBytes;
  for (uint64_t at = 0; at < end; at += TinyImage::kPageBytes) {
    raid::CopyPlace first;
    const TinyImage* image = nullptr;
    for (uint32_t copy = 0; copy < shape_.copies; ++copy) {
      raid::CopyPlace place = raid::copy_place(shape_, at, copy);
      if ((there >> place.slot & 1) == 0) continue;
      std::byte bytes[2][TinyImage::kPageBytes];
      life.device(place.slot).image().read(record.data_offset_bytes + place.offset_bytes, bytes[0]);
      if (image == nullptr) {
        image = &life.device(place.slot).image();
        first = place;
      }
      image->read(record.data_offset_bytes + first.offset_bytes, bytes[1]);
      if (std::memcmp(bytes[0], bytes[1], sizeof(bytes[0])) == 0) continue;
      return fmt::format("the copies at {} on members {} and {} differ", at, first.slot,
                         place.slot);
    }
  }
  return {};
}

std::string TinyChecker::parity(TinyLife& life, uint64_t rows) const {
  uint64_t data_offset = life.authority().record()->data_offset_bytes;
  uint32_t data = shape_.data_chunks();
  raid::ParityCode code(data, shape_.level->parity);
  io::AlignedBuffer memory((shape_.members + shape_.level->parity) * kTinyChunkBytes);
  std::vector<std::byte*> blocks;
  blocks.reserve(shape_.members + shape_.level->parity);
  for (uint32_t i = 0; i < shape_.members + shape_.level->parity; ++i) {
    blocks.push_back(memory.data() + i * kTinyChunkBytes);
  }
  for (uint64_t row = 0; row < rows; ++row) {
    if (row == kRowsLookedAt) row = std::max(row, rows - kRowsLookedAt);
    for (uint32_t block = 0; block < shape_.members; ++block) {
      uint32_t slot = raid::block_slot(shape_, row, block);
      life.device(slot).image().read(data_offset + row * kTinyChunkBytes,
                                     {blocks[block], kTinyChunkBytes});
    }
    code.encode(blocks.data(), blocks.data() + shape_.members, kTinyChunkBytes);
    size_t bytes = shape_.level->parity * kTinyChunkBytes;
    if (std::memcmp(blocks[data], blocks[shape_.members], bytes) != 0) {
      return fmt::format("the parity of row {} is wrong", row);
    }
  }
  return {};
}

}  // namespace bb::sim
