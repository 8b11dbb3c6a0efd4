// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "sim/stripe_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kSector = DiskModel::kSectorBytes;
constexpr uint64_t kChunk = raid::kChunkMinBytes;
constexpr uint64_t kStepsMax = 3'000'000;
constexpr uint64_t kMapAt = 4096;
constexpr uint64_t kRingAt = 16'384;
constexpr const char* kShapes[] = {"5.3", "5.4", "6.4", "6.5", "5.5"};

// What stands for a superblock: a life of the journal, and its number.
struct Life {
  Uuid life;
  uint64_t number = 0;
};
Life life_of(SimDrive& drive) {
  std::byte sector[kSector];
  (void)drive.medium().read(0, sector);
  return {Uuid::from(ConstBytes(sector).first(16)), load_le<uint64_t>(sector + 16)};
}

}  // namespace

StripeWorld::Node::Node(StripeWorld& of, SimClock clock, Prng prng)
    : world(of), node(of.world_, clock, prng), members(of.committed_) {
  for (auto& drive : of.drives_) cables.push_back(drive->connect(node));
  store = std::make_unique<raid::StripeStore>(node, of.layout_, *this);
}

void StripeWorld::Node::failed(uint32_t slot, const Status& why) {
  world.note("suspect", slot, static_cast<uint64_t>(why.code()));
  suspects |= uint64_t{1} << slot;
}

// Committing takes a moment, in which the node may die.
io::Task<Status> StripeWorld::Node::settle(uint64_t lacking_mask) {
  if ((lacking_mask & members) == 0 && !dead) co_return Status();
  co_await node.sleep_for(world.prng_.chance(4) ? world.prng_.below(5'000'000) : 100'000);
  uint64_t lost = lacking_mask & members;
  uint64_t all = (uint64_t{1} << world.layout_.shape.members) - 1;
  if (dead) co_return error(Code::k_unavailable, "the node is dead");
  if (!world.layout_.shape.survives(all & ~(members & ~lost))) {
    co_return error(Code::k_unavailable, "too few members are left");
  }
  members &= ~lost;
  joining &= ~lost;
  world.committed_ &= ~lost;
  if (lost != 0) world.note("committed lost", lost);
  co_return Status();
}

StripeWorld::StripeWorld(const RunOptions& options)
    : options_(options),
      world_(options.seed / kCrashPoints),
      prng_(world_.prng().fork()),
      crash_prng_(options.seed),
      top_(world_) {
  world_.trace().print_to(options.trace_to);
  choose();
}

void StripeWorld::choose() {
  Result<raid::Shape> shape = raid::parse_shape(kShapes[prng_.below(std::size(kShapes))], kChunk);
  layout_.shape = *shape;
  layout_.array = Uuid::random(prng_);
  small_ = prng_.chance(3);
  layout_.stripes = prng_.between(2, 4);
  layout_.rows = layout_.stripes + prng_.between(1, 3);
  layout_.map_offset_bytes = kMapAt;
  layout_.ring_offset_bytes = kRingAt;
  layout_.ring_bytes = prng_.between(4, 12) * raid::kJournalHeadBytes;
  layout_.data_offset_bytes = kRingAt + 16 * raid::kJournalHeadBytes;
  Uuid life = Uuid::random(prng_);
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    SimDriveOptions drive;
    drive.size_bytes = layout_.data_offset_bytes + layout_.rows * kChunk;
    drive.volatile_cache = true;
    drives_.push_back(std::make_unique<SimDrive>(world_, options_.pool, drive, prng_.fork()));
    std::byte sector[kSector]{};
    std::memcpy(sector, life.bytes.data(), 16);
    drives_.back()->medium().write(0, sector, true);
  }
  committed_ = (uint64_t{1} << layout_.shape.members) - 1;
  uint64_t stripe = kChunk * layout_.shape.data_chunks();
  model_ = std::make_unique<DiskModel>(layout_.stripes * stripe / kSector);
  if (small_ && prng_.chance(2)) hot_ = prng_.below(model_->sectors());
  if (prng_.chance(2)) break_at_ = prng_.between(1, 150);
}

void StripeWorld::fail(std::string violation) {
  if (violation_.empty()) violation_ = std::move(violation);
}

uint64_t StripeWorld::requests() const {
  uint64_t sum = 0;
  for (const auto& drive : drives_) sum += drive->requests();
  return sum;
}

RunResult StripeWorld::run() {
  top_.spawn(main());
  while (!done_ && violation_.empty()) {
    if (!world_.run_once(true)) fail("deadlock: something waits for ever");
    if (world_.steps() > kStepsMax) fail("livelock: too many steps");
    if (crash_at_ != 0 && !crashed_ && requests() >= crash_at_) crash();
    if (break_at_ != 0 && !crashed_ && requests() >= break_at_) break_drive();
    if (mend_at_ != 0 && !crashed_ && requests() >= mend_at_) mend_drives();
  }
  RunResult result;
  result.violation = violation_;
  result.trace_hash = world_.trace().hash();
  result.events = world_.trace().events();
  result.stats = stats_;
  result.stats.steps = world_.steps();
  result.stats.sectors_checked = model_->reads_checked();
  return result;
}

// As long as the level bears it.
void StripeWorld::break_drive() {
  break_at_ = 0;
  uint64_t all = (uint64_t{1} << layout_.shape.members) - 1;
  uint64_t slot = prng_.below(layout_.shape.members);
  if (!layout_.shape.survives((all & ~committed_) | uint64_t{1} << slot)) return;
  broken_ |= uint64_t{1} << slot;
  drives_[slot]->set_broken(true);
  ++stats_.drive_faults;
  if (prng_.chance(2)) mend_at_ = requests() + prng_.between(5, 60);
  note("broken", slot);
}

void StripeWorld::mend_drives() {
  mend_at_ = 0;
  for (auto& drive : drives_) drive->set_broken(false);
  broken_ = 0;
  note("mended");
}

// The node dies; drives mostly lose their power with it, and what they had not flushed.
void StripeWorld::crash() {
  crashed_ = true;
  ++stats_.crashes;
  note("crash");
  node_->dead = true;
  for (auto& cable : node_->cables) cable->cut();
  power_lost_ = !crash_prng_.chance(3);
  if (power_lost_) {
    for (auto& drive : drives_) {
      drive->power_off();
      drive->power_on();
    }
    ++stats_.power_losses;
  }
}

// With the crash, or later: as many as the level bears, broken ones among them, for good.
void StripeWorld::lose_members() {
  uint64_t all = (uint64_t{1} << layout_.shape.members) - 1;
  // A drive that failed may work again, and then counts unless it was committed as lost.
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    if ((broken_ >> slot & 1) == 0 || crash_prng_.chance(2)) continue;
    drives_[slot]->set_broken(false);
    broken_ &= ~(uint64_t{1} << slot);
  }
  committed_ &= ~broken_;
  for (uint64_t tries = crash_prng_.below(4); tries > 0; --tries) {
    uint64_t slot = uint64_t{1} << crash_prng_.below(layout_.shape.members);
    if (layout_.shape.survives((all & ~committed_) | slot)) committed_ &= ~slot;
  }
  note("left", committed_);
}

io::Task<Status> StripeWorld::assemble(Node* node) {
  Life newest;
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    Life found = life_of(*drives_[slot]);
    bool member = (node->members >> slot & 1) != 0;
    if (member && found.number >= newest.number) newest = found;
  }
  BB_CO_TRY(co_await node->store->recover(newest.life));
  life_ = Uuid::random(prng_);
  life_number_ = newest.number + 1;
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    if ((node->members >> slot & 1) == 0) continue;
    Status status = co_await write_life(node, slot);
    if (status.ok()) continue;
    node->failed(slot, status);
    BB_CO_TRY(co_await node->settle(uint64_t{1} << slot));
  }
  co_return co_await node->store->start(life_);
}

io::Task<Status> StripeWorld::write_life(Node* node, uint32_t slot) {
  io::AlignedBuffer sector(kSector);
  std::memcpy(sector.data(), life_.bytes.data(), 16);
  store_le<uint64_t>(sector.data() + 16, life_number_);
  co_return co_await node->cables[slot]->write(0, sector.bytes(), true);
}

io::Task<void> StripeWorld::one_op(Node* node, Prng* prng) {
  uint64_t stripe = kChunk * layout_.shape.data_chunks() / kSector;
  uint64_t sectors = model_->sectors();
  uint64_t first = prng->below(sectors);
  if (hot_ != 0 && !prng->chance(5)) first = hot_;
  uint64_t count = 1 + prng->below(std::min<uint64_t>(sectors - first, 2 * kChunk / kSector));
  if (small_) count = std::min(count, 1 + prng->below(kChunk / kSector));
  if (!small_ && prng->chance(3)) {  // whole stripes
    first = prng->below(layout_.stripes) * stripe;
    count = stripe;
    if (first + 2 * stripe <= sectors && prng->chance(4)) count *= 2;
  }
  ++stats_.host_ops;
  switch (small_ ? 3 + prng->below(40) : prng->below(8)) {
    case 0: {
      DiskModel::OpId op = model_->begin_flush();
      Status status = co_await node->store->flush();
      model_->end_flush(op, status.ok() && !node->dead);
      co_return;
    }
    case 1:
    case 2: {
      io::AlignedBuffer bytes(count * kSector);
      DiskModel::OpId op = model_->begin_read();
      Status status = co_await node->store->read(first * kSector, bytes.bytes());
      if (!status.ok() || node->dead) {
        model_->drop_read(op);
        if (!node->dead) fail("a read within the redundancy failed: " + status.to_string());
        co_return;
      }
      std::string problem = model_->end_read(op, first, bytes.bytes());
      if (!problem.empty()) fail("read: " + problem);
      co_return;
    }
    default: {
      io::AlignedBuffer bytes(count * kSector);
      bool fua = prng->chance(6);
      DiskModel::OpId op = model_->begin_write(first, count, false, fua);
      note("write", op, first, count);
      model_->fill(op, first, bytes.bytes());
      Status status = co_await node->store->write(first * kSector, bytes.bytes(), fua);
      note("written", op, static_cast<uint64_t>(status.code()));
      model_->end_write(op, status.ok() && !node->dead);
      if (!status.ok() && !node->dead) {
        fail("a write within the redundancy failed: " + status.to_string());
      }
    }
  }
}

// A lost member comes back, with what it has from before, or with nothing.
io::Task<void> StripeWorld::join(Node* node) {
  uint64_t all = (uint64_t{1} << layout_.shape.members) - 1;
  uint64_t lost = all & ~node->members & ~broken_;
  while (lost == 0 && workers_ > 0 && !node->dead) {
    co_await node->node.sleep_for(200'000);
    lost = all & ~node->members & ~broken_;
  }
  if (lost == 0 || node->dead) co_return;
  auto slot = static_cast<uint32_t>(std::countr_zero(lost));
  uint64_t bit = uint64_t{1} << slot;
  note("joins", slot);
  Status status = co_await write_life(node, slot);
  if (!status.ok()) co_return;
  node->store->admit(slot);
  node->suspects &= ~bit;
  node->joining |= bit;
  status = co_await node->store->write_map();
  for (uint64_t stripe = 0; stripe < layout_.stripes && status.ok(); ++stripe) {
    // A whole chunk at once, or block by block.
    uint64_t slice = stripe % 2 == 0 ? layout_.shape.chunk_bytes : raid::kCheckedBlockBytes;
    status = co_await node->store->rebuild(stripe, slice);
  }
  if (status.ok()) status = co_await node->store->flush();
  if (!status.ok() || node->dead || (node->suspects & bit) != 0) {
    node->joining &= ~bit;
    co_return;
  }
  // From the moment it may be committed nothing is acknowledged without it.
  node->members |= bit;
  node->joining &= ~bit;
  committed_ |= bit;
  note("joined", slot);
}

io::Task<void> StripeWorld::worker(Node* node, Prng prng, uint64_t ops) {
  ++workers_;
  for (; ops > 0 && !node->dead && violation_.empty(); --ops) co_await one_op(node, &prng);
  --workers_;
}

io::Task<void> StripeWorld::work(Node* node, uint64_t ops) {
  io::TaskGroup workers(node->node);
  for (uint64_t count = prng_.between(1, 4); count > 0; --count) {
    workers.spawn(worker(node, prng_.fork(), ops));
  }
  if (prng_.chance(2)) workers.spawn(join(node));
  co_await workers.join();
}

io::Task<void> StripeWorld::verify(Node* node) {
  io::AlignedBuffer bytes(model_->sectors() * kSector);
  DiskModel::OpId op = model_->begin_read();
  Status status = co_await node->store->read(0, bytes.bytes());
  if (!status.ok() || node->dead) {
    model_->drop_read(op);
    if (!node->dead) fail("a read within the redundancy failed: " + status.to_string());
    co_return;
  }
  std::string problem = model_->end_read(op, 0, bytes.bytes());
  if (!problem.empty()) fail("after recovery: " + problem);
}

// From assembly to a crash at that request from now on (0: to the end).
io::Task<void> StripeWorld::whole_life(uint64_t crash_at, uint64_t ops) {
  nodes_.push_back(std::make_unique<Node>(*this, SimClock{}, prng_.fork()));
  Node* node = node_ = nodes_.back().get();
  crashed_ = false;
  crash_at_ = crash_at == 0 ? 0 : requests() + crash_at;
  Status status = co_await assemble(node);
  if (status.ok()) {
    co_await verify(node);
    co_await work(node, ops);
    if (!node->dead) co_await verify(node);
  } else if (!node->dead) {
    fail("assembly within the redundancy failed: " + status.to_string());
  }
  if (crash_at != 0 && !crashed_) crash();
  // A host outlives the crash of a node: only drives that lose power may lose what was not flushed.
  if (crashed_ && power_lost_) model_->lose_unflushed();
  co_await node->store->stop();
  crash_at_ = 0;
}

io::Task<void> StripeWorld::main() {
  uint64_t crash_at = options_.seed % kCrashPoints + 1;
  co_await whole_life(crash_at, small_ ? prng_.between(10, 40) : prng_.between(3, 12));
  for (uint64_t more = crash_prng_.below(crash_prng_.chance(4) ? 8 : 3);
       more > 0 && violation_.empty(); --more) {
    lose_members();
    co_await whole_life(crash_prng_.between(1, 60), crash_prng_.below(4));
  }
  lose_members();
  if (violation_.empty()) co_await whole_life(0, 2);
  done_ = true;
}

RunResult run_stripes(const RunOptions& options) {
  auto world = std::make_unique<StripeWorld>(options);
  RunResult result = world->run();
  if (!world->drained()) (void)world.release();  // it stands still in the middle of coroutines
  return result;
}

}  // namespace bb::sim
