// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_store.h"

#include "array_world.h"
#include "base/crc32c.h"

namespace bb::raid {
namespace {

constexpr uint64_t kChunk = 4096;
constexpr uint64_t kMapAt = 4096;
constexpr uint64_t kRingAt = 16'384;
constexpr uint64_t kDataAt = 128 * 1024;
const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
const Uuid kLife = *Uuid::parse("f2a8c6e0-1b34-4c5d-8e9f-a0b1c2d3e4f5");

// Drives by slot; who fails is no member any more, as long as the level bears it.
struct Members : StripeMembers {
  explicit Members(std::string_view shape_text, uint64_t ring_heads = 8) {
    layout.array = kArray;
    layout.shape = *parse_shape(shape_text, kChunk);
    layout.stripes = 4;
    layout.rows = 6;
    layout.map_offset_bytes = kMapAt;
    layout.ring_offset_bytes = kRingAt;
    layout.ring_bytes = ring_heads * kJournalHeadBytes;
    layout.data_offset_bytes = kDataAt;
    for (uint32_t slot = 0; slot < layout.shape.members; ++slot) {
      drives.push_back(std::make_unique<FakeDrive>(*reactor, fmt::format("drive{}", slot),
                                                   kDataAt + layout.rows * kChunk));
    }
    mask = all();
  }
  virtual ~Members() {
    if (store != nullptr) reactor->block_on(stop(store.get()));
  }
  static Task<int> stop(StripeStore* store) {
    co_await store->stop();
    co_return 0;
  }
  uint64_t all() const { return (uint64_t{1} << layout.shape.members) - 1; }
  io::Device* device(uint32_t slot) override { return drives[slot].get(); }
  uint64_t writable_mask() const override { return mask & ~suspects; }
  uint64_t readable_mask() const override { return mask & ~suspects; }
  void failed(uint32_t slot, const Status&) override { suspects |= uint64_t{1} << slot; }
  Task<Status> settle(uint64_t lacking) override {
    if ((lacking & mask) == 0) co_return Status();
    if (!layout.shape.survives(all() & ~(mask & ~lacking))) {
      co_return error(Code::k_unavailable, "too few members");
    }
    mask &= ~lacking;
    ++commits;
    co_return Status();
  }
  Status open() {
    store = std::make_unique<StripeStore>(*reactor, layout, *this);
    Status status = reactor->block_on(store->recover(kLife));
    if (status.ok()) status = reactor->block_on(store->start(kLife));
    return status;
  }
  Status write(uint64_t offset, size_t length, int value, bool fua = false) {
    std::vector<std::byte> bytes(length, static_cast<std::byte>(value));
    return reactor->block_on(store->write(offset, bytes, fua));
  }
  // The one value of the range, -1 for a mixture, -2 for an error.
  int read(uint64_t offset, size_t length) {
    std::vector<std::byte> bytes(length);
    if (!reactor->block_on(store->read(offset, bytes)).ok()) return -2;
    bool same = std::ranges::all_of(bytes, [&](std::byte one) { return one == bytes[0]; });
    return same ? static_cast<int>(bytes[0]) : -1;
  }
  uint64_t stripe() const { return kChunk * layout.shape.data_chunks(); }

  std::unique_ptr<io::Reactor> reactor = std::move(io::Reactor::create()).value();
  StripeLayout layout;
  std::vector<std::unique_ptr<FakeDrive>> drives;
  std::unique_ptr<StripeStore> store;
  uint64_t mask = 0;
  uint64_t suspects = 0;
  uint64_t commits = 0;
};

TEST(StripeStore, ReadsBackWholeStripesAndPartsWithAnyMembersAway) {
  for (const char* shape : {"5.3", "5.4", "6.4", "6.6"}) {
    Members world(shape);
    ASSERT_OK(world.open());
    EXPECT_EQ(world.store->size_bytes(), 4 * world.stripe());
    ASSERT_OK(world.write(0, 2 * world.stripe(), 1));
    ASSERT_OK(world.write(world.stripe() + 512, 4096, 2));
    ASSERT_OK(world.write(2 * world.stripe() - 1024, 2048, 3));
    for (uint64_t away = 0; away <= world.all(); ++away) {
      if (!world.layout.shape.survives(away)) continue;
      world.mask = world.all() & ~away;
      EXPECT_EQ(world.read(0, world.stripe() + 512), 1) << shape << " without " << away;
      EXPECT_EQ(world.read(world.stripe() + 512, 4096), 2) << shape << " without " << away;
      EXPECT_EQ(world.read(2 * world.stripe() - 1024, 2048), 3) << shape << " without " << away;
      EXPECT_EQ(world.read(3 * world.stripe(), world.stripe()), 0) << shape;
    }
  }
}

TEST(StripeStore, ABadSectorIsReadAroundAndAMemberThatFailsIsCommittedFirst) {
  Members world("5.4");
  ASSERT_OK(world.open());
  ASSERT_OK(world.write(0, world.stripe(), 5));
  uint32_t slot = block_slot(world.layout.shape, world.store->map().row_of(0), 1);
  world.drives[slot]->fault = [](const io::IoRequest& request) {
    bool reads = request.op == io::IoOp::kRead;
    return reads ? error(Code::k_io_error, "bad sector") : Status();
  };
  EXPECT_EQ(world.read(0, world.stripe()), 5);
  EXPECT_EQ(world.suspects, 0u);
  ASSERT_OK(world.write(kChunk + 512, 512, 6));
  EXPECT_EQ(world.read(kChunk + 512, 512), 6);
  world.drives[slot]->fault = [](const io::IoRequest&) {
    return error(Code::k_unavailable, "gone");
  };
  ASSERT_OK(world.write(kChunk, 512, 7));
  EXPECT_EQ(world.commits, 1u);
  EXPECT_EQ(world.mask, world.all() & ~(uint64_t{1} << slot));
  EXPECT_EQ(world.read(kChunk, 512), 7);
  EXPECT_EQ(world.read(kChunk + 512, 512), 6);
  uint32_t second = block_slot(world.layout.shape, world.store->map().row_of(0), 0);
  world.drives[second]->fault = world.drives[slot]->fault;
  EXPECT_EQ(world.write(0, 512, 8).code(), Code::k_unavailable);
  EXPECT_EQ(world.read(0, 512), -2);
}

// After a write that members could neither take nor be done without, no other follows.
TEST(StripeStore, AWriteOfUnknownFateIsTheLast) {
  Members world("5.3");
  ASSERT_OK(world.open());
  for (size_t slot : {0u, 1u}) {
    world.drives[slot]->fault = [](const io::IoRequest& request) {
      bool data = request.op == io::IoOp::kWrite && request.offset_bytes >= kDataAt;
      return data ? error(Code::k_io_error, "no") : Status();
    };
  }
  uint64_t row0_parity = 0;  // a write that touches both
  EXPECT_EQ(world.write(row0_parity, 2 * kChunk - 512, 1).code(), Code::k_unavailable);
  for (size_t slot : {0u, 1u}) world.drives[slot]->fault = nullptr;
  EXPECT_EQ(world.write(3 * world.stripe(), 512, 2).code(), Code::k_unavailable);
}

// Whatever is overwritten in a ring, a head that was durable there before says that it has ended.
TEST(StripeStore, NoEntryIsOverwrittenBeforeItsRingSaysThatItEnded) {
  Members world("5.4", 5);
  struct Ring {
    std::map<uint64_t, uint64_t> seq_at;  // by block of the ring
    uint64_t announced = 0;
    uint64_t overwritten = 0;
  };
  std::vector<Ring> rings(4);
  for (uint32_t slot = 0; slot < 4; ++slot) {
    world.drives[slot]->fault = [&world, &rings, slot](const io::IoRequest& request) {
      bool in_ring = request.op == io::IoOp::kWrite && request.offset_bytes >= kRingAt &&
                     request.offset_bytes < kRingAt + world.layout.ring_bytes;
      if (!in_ring) return Status();
      std::vector<std::byte> bytes(request.length_bytes);
      io::iov_gather(request.iov, request.iov_count, 0, bytes);
      Ring& ring = rings[slot];
      JournalPlace place{.array = kArray,
                         .life = kLife,
                         .slot = slot,
                         .ring_bytes = world.layout.ring_bytes,
                         .offset_bytes = request.offset_bytes - kRingAt,
                         .shape = world.layout.shape,
                         .rows = world.layout.rows};
      Result<JournalHead> head = decode_journal_head(place, ConstBytes(bytes).first(4096));
      uint64_t seq = head.ok() ? head->seq : 0;
      for (uint64_t at = 0; at < bytes.size(); at += 4096) {
        uint64_t& there = ring.seq_at[(place.offset_bytes + at) / 4096];
        if (there != 0) {
          ++ring.overwritten;
          EXPECT_LT(there, ring.announced) << "slot " << slot << " block " << at / 4096;
        }
        there = seq != 0 ? seq : there;
      }
      if (head.ok()) ring.announced = std::max(ring.announced, head->first_seq);
      return Status();
    };
  }
  ASSERT_OK(world.open());
  for (int i = 0; i < 200; ++i) {
    uint64_t at = static_cast<uint64_t>(i * 37 % 90) * 512;
    ASSERT_OK(world.write(at, 512, i));
  }
  uint64_t overwritten = 0;
  for (const Ring& ring : rings) overwritten += ring.overwritten;
  EXPECT_GT(overwritten, 100u);
}

TEST(StripeStore, AFlushMakesWholeStripesLieWhereTheyAre) {
  Members world("6.4");
  ASSERT_OK(world.open());
  for (int round = 1; round < 20; ++round) {
    ASSERT_OK(world.write(0, 2 * world.stripe(), round));
    if (round % 3 != 0) continue;
    ASSERT_OK(world.reactor->block_on(world.store->flush()));
    for (auto& drive : world.drives) drive->power_cycle();
    world.reactor->block_on(Members::stop(world.store.get()));
    ASSERT_OK(world.open());
    EXPECT_EQ(world.read(0, 2 * world.stripe()), round);
  }
}

// A member that was away while others went on, and is taken in again in the same life.
struct Returning : Members {
  Returning() : Members("5.3") {}
  void lose(uint32_t slot) { mask &= ~(uint64_t{1} << slot); }
  Status take_in(uint32_t slot) {
    store->admit(slot);
    joining = uint64_t{1} << slot;
    Status status = reactor->block_on(store->write_map());
    for (uint64_t i = 0; i < layout.stripes && status.ok(); ++i) {
      status = reactor->block_on(store->rebuild(i, 4096));
    }
    if (status.ok()) status = reactor->block_on(store->flush());
    mask |= joining;
    joining = 0;
    return status;
  }
  uint64_t writable_mask() const override { return mask | joining; }
  Status crash() {
    for (auto& drive : drives) drive->power_cycle();
    reactor->block_on(stop(store.get()));
    return open();  // as if no newer life had been written yet
  }
  uint64_t joining = 0;
};

TEST(StripeStore, AMemberThatReturnsHasAllAndNothingOfBefore) {
  for (uint32_t slot = 0; slot < 3; ++slot) {
    Returning world;
    ASSERT_OK(world.open());
    ASSERT_OK(world.write(0, 2 * kChunk, 1));  // a whole stripe
    ASSERT_OK(world.write(0, kChunk, 2));      // an entry in its ring, or in its parity's
    ASSERT_OK(world.write(kChunk, kChunk, 3));
    world.lose(slot);
    ASSERT_OK(world.write(0, kChunk, 4));
    ASSERT_OK(world.write(kChunk, kChunk, 5));
    ASSERT_OK(world.write(3 * world.stripe(), world.stripe(), 6));
    ASSERT_OK(world.take_in(slot));
    for (uint32_t of = 0; of < 3; ++of) {
      std::vector<uint32_t> rows(world.layout.stripes);
      uint64_t generation = 0;
      for (uint64_t copy = 0; copy < 2; ++copy) {
        ConstBytes page =
            world.drives[of]->platter().subspan(kMapAt + copy * kStripePageBytes, kStripePageBytes);
        auto head = decode_stripe_page(kArray, 0, page, world.layout.rows, rows);
        if (head.ok()) generation = std::max(generation, head->generation);
      }
      EXPECT_EQ(generation, world.store->map().generation(0)) << "member " << of;
    }
    ASSERT_OK(world.crash());
    for (uint32_t away = 0; away < 3; ++away) {
      world.mask = world.all() & ~(uint64_t{1} << away);
      EXPECT_EQ(world.read(0, kChunk), 4) << slot << " returned, " << away << " is away";
      EXPECT_EQ(world.read(kChunk, kChunk), 5) << slot << " returned, " << away << " is away";
      EXPECT_EQ(world.read(3 * world.stripe(), world.stripe()), 6) << slot << ", " << away;
    }
  }
}

}  // namespace
}  // namespace bb::raid
