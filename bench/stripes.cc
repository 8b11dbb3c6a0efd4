// SPDX-License-Identifier: Apache-2.0
// The data path of levels with parity on members in memory, one core, beside what it can be at
// best.
//   whole stripes: 1 MiB writes, of a loop in the same process that makes parity and copies the
//   same
//     bytes to the same members, and nothing else
//   parts: 4 KiB random writes and reads at a queue depth, without a journal, with one, and with
//     checksums too
// In turns, medians; this measures, it does not judge.
#include <algorithm>
#include <cstdio>

#include "base/cli11.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "measure.h"
#include "raid/stripe_store.h"

namespace {

using namespace bb;
using namespace bb::bench;
using namespace bb::raid;
using io::Task;

constexpr uint64_t kIoBytes = 1 * MiB;
constexpr uint64_t kPartBytes = 4 * KiB;
constexpr uint64_t kMapAt = 64 * KiB;
constexpr uint64_t kRingAt = 1 * MiB;
constexpr uint64_t kRingBytes = 256 * KiB;
constexpr uint64_t kDataAt = 8 * MiB;

class Members final : public StripeMembers {
 public:
  explicit Members(uint32_t count) : devices(count) {}
  io::Device* device(uint32_t slot) override { return devices[slot].get(); }
  uint64_t writable_mask() const override { return (uint64_t{1} << devices.size()) - 1; }
  uint64_t readable_mask() const override { return writable_mask(); }
  void failed(uint32_t slot, const Status& why) override {
    BB_CHECK(false, "member {}: {}", slot, why.to_string());
  }
  Task<Status> settle(uint64_t lacking_mask) override {
    BB_CHECK((lacking_mask & writable_mask()) == 0, "members {:x} lack a write", lacking_mask);
    co_return Status();
  }
  std::vector<std::unique_ptr<io::Device>> devices;
};

// All checksums in memory; of arrays that size they are in ours too.
class Sums final : public StripeSums {
 public:
  Sums(uint32_t members, uint64_t member_bytes)
      : sums_(members, std::vector<uint32_t>(member_bytes / kCheckedBlockBytes)) {}
  Task<Status> fetch(uint32_t, uint64_t, uint64_t, PinnedSums*) override { co_return Status(); }
  uint32_t recorded(uint32_t slot, uint64_t place_bytes) override {
    return sums_[slot][place_bytes / kCheckedBlockBytes];
  }
  void record(uint32_t slot, uint64_t place_bytes, std::span<const uint32_t> sums) override {
    std::ranges::copy(
        sums, sums_[slot].begin() + static_cast<ptrdiff_t>(place_bytes / kCheckedBlockBytes));
  }
  void found_wrong(uint32_t slot, uint64_t blocks) override {
    BB_CHECK(false, "member {}: {} blocks are wrong", slot, blocks);
  }
  void repaired(uint32_t) override {}

 private:
  std::vector<std::vector<uint32_t>> sums_;
};

struct Array {
  Array(io::Runtime& runtime, const Shape& shape, uint64_t stripes, bool journal, bool checked)
      : members(shape.members), sums(shape.members, (stripes + 16) * shape.chunk_bytes) {
    layout = {.array = Uuid::random(runtime.reactor().prng()),
              .shape = shape,
              .stripes = stripes,
              .rows = stripes + 16,
              .map_offset_bytes = kMapAt,
              .ring_offset_bytes = kRingAt,
              .ring_bytes = journal ? kRingBytes : 0,
              .data_offset_bytes = kDataAt};
    for (auto& device : members.devices) {
      std::string uri = fmt::format("mem:{}", kDataAt + layout.rows * shape.chunk_bytes);
      device =
          std::move(runtime.reactor().block_on(io::open_device(runtime.context(), uri)).value());
    }
    store = std::make_unique<StripeStore>(runtime.reactor(), layout, members,
                                          checked ? &sums : nullptr);
    Uuid life = Uuid::random(runtime.reactor().prng());
    Status status = runtime.reactor().block_on(store->recover(life));
    if (status.ok()) status = runtime.reactor().block_on(store->start(life));
    BB_CHECK(status.ok(), "{}", status.to_string());
  }
  Task<int> stop() {
    co_await store->stop();
    for (auto& device : members.devices) (void)co_await device->close();
    co_return 0;
  }
  StripeLayout layout;
  Members members;
  Sums sums;
  std::unique_ptr<StripeStore> store;
};

Task<Status> write_whole(StripeStore* store, ConstBytes from, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t at = i * from.size() % (store->size_bytes() / from.size() * from.size());
    BB_CO_TRY(co_await store->write(at, from, false));
  }
  co_return Status();
}

Task<void> work(StripeStore* store, bool writes, Prng prng, uint64_t count) {
  io::AlignedBuffer buffer(kPartBytes);
  prng.fill(buffer.bytes());
  for (; count > 0; --count) {
    uint64_t at = prng.below(store->size_bytes() / kPartBytes) * kPartBytes;
    Status status = writes ? co_await store->write(at, buffer.bytes(), false)
                           : co_await store->read(at, buffer.bytes());
    BB_CHECK(status.ok(), "{}", status.to_string());
  }
}

Task<int> work_at_depth(io::Loop* loop, StripeStore* store, bool writes, uint32_t depth,
                        uint64_t count) {
  io::TaskGroup group(*loop);
  for (uint32_t i = 0; i < depth; ++i) {
    group.spawn(work(store, writes, Prng(i + 1), count / depth));
  }
  co_await group.join();
  co_return 0;
}

// Parity of each stripe, and every chunk copied to where a member of the same size has it; and a
// checksum of each block.
double ceiling_seconds(const Shape& shape, ConstBytes from, uint64_t count, Bytes members,
                       Bytes parity, bool checked) {
  ParityCode code(shape.data_chunks(), shape.level->parity);
  uint64_t chunk = shape.chunk_bytes;
  uint64_t stripe = chunk * shape.data_chunks();
  size_t member_bytes = members.size() / shape.members;
  std::vector<std::byte*> blocks(shape.members);
  uint32_t sums = 0;
  double start = cpu_seconds();
  uint64_t row = 0;
  for (uint64_t i = 0; i < count; ++i) {
    for (uint64_t at = 0; at + stripe <= from.size(); at += stripe, ++row) {
      for (uint32_t b = 0; b < shape.members; ++b) {
        bool data = b < shape.data_chunks();
        blocks[b] = data ? const_cast<std::byte*>(from.data()) + at + b * chunk
                         : parity.data() + (b - shape.data_chunks()) * chunk;
      }
      code.encode(blocks.data(), blocks.data() + shape.data_chunks(), chunk);
      for (uint32_t b = 0; b < shape.members; ++b) {
        for (uint64_t in = 0; checked && in < chunk; in += kCheckedBlockBytes) {
          sums += block_checksum({blocks[b] + in, kCheckedBlockBytes});
        }
        size_t to = b * member_bytes + row * chunk % (member_bytes / chunk * chunk);
        std::memcpy(members.data() + to, blocks[b], chunk);
      }
    }
  }
  double seconds = cpu_seconds() - start;
  std::memcpy(parity.data(), &sums, sizeof(sums));  // it is used
  return seconds;
}

void whole(io::Runtime& runtime, const Shape& shape, uint64_t megabytes, uint32_t rounds,
           bool checked) {
  uint64_t stripe = shape.chunk_bytes * shape.data_chunks();
  uint64_t stripes = megabytes * MiB / stripe;
  Array array(runtime, shape, stripes, true, checked);
  io::AlignedBuffer from(kIoBytes);
  Prng(1).fill(from.bytes());
  io::AlignedBuffer members(shape.members * (stripes + 16) * shape.chunk_bytes);
  io::AlignedBuffer parity(kParityMax * shape.chunk_bytes);
  std::vector<double> best, ours, share;
  for (uint32_t i = 0; i <= rounds; ++i) {
    double loop =
        ceiling_seconds(shape, from.bytes(), megabytes, members.bytes(), parity.bytes(), checked);
    double start = cpu_seconds();
    Status status =
        runtime.reactor().block_on(write_whole(array.store.get(), from.bytes(), megabytes));
    double store = cpu_seconds() - start;
    BB_CHECK(status.ok(), "{}", status.to_string());
    if (i == 0) continue;  // pages are touched for the first time
    double bytes = static_cast<double>(megabytes * MiB);
    best.push_back(bytes / loop * 1e-9);
    ours.push_back(bytes / store * 1e-9);
    share.push_back(loop / store);
  }
  std::printf("%-6s 1 MiB whole stripes, %-9s loop %6.2f GB/s   store %6.2f GB/s   %3.0f %%\n",
              shape_text(shape).c_str(), checked ? "checked" : "unchecked", median(best),
              median(ours), 100 * median(share));
  (void)runtime.reactor().block_on(array.stop());
}

// CPU time of a request, in turns: of each of `arrays`.
std::vector<double> in_turns(io::Runtime& runtime, std::span<Array* const> arrays, bool writes,
                             uint32_t depth, uint32_t rounds) {
  constexpr uint64_t kCount = 20'000;
  std::vector<std::vector<double>> micros(arrays.size());
  for (uint32_t round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < arrays.size(); ++i) {
      double start = cpu_seconds();
      (void)runtime.reactor().block_on(
          work_at_depth(&runtime.reactor(), arrays[i]->store.get(), writes, depth, kCount));
      if (round > 0) micros[i].push_back((cpu_seconds() - start) / kCount * 1e6);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& of : micros) medians.push_back(median(of));
  return medians;
}

void parts(io::Runtime& runtime, const Shape& shape, uint32_t depth, uint32_t rounds) {
  uint64_t stripes = 64 * MiB / (shape.chunk_bytes * shape.data_chunks());
  Array open(runtime, shape, stripes, false, false);
  Array closed(runtime, shape, stripes, true, false);
  Array checked(runtime, shape, stripes, true, true);
  Array* all[] = {&open, &closed, &checked};
  for (bool writes : {true, false}) {
    std::vector<double> us = in_turns(runtime, all, writes, depth, rounds);
    std::printf(
        "%-6s 4 KiB %-6s depth %-2u  open %6.2f us   closed %6.2f us %+4.0f %%   "
        "checked %6.2f us %+4.0f %%\n",
        shape_text(shape).c_str(), writes ? "writes" : "reads", depth, us[0], us[1],
        100 * (us[1] / us[0] - 1), us[2], 100 * (us[2] / us[1] - 1));
  }
  for (Array* array : all) (void)runtime.reactor().block_on(array->stop());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What arrays with parity cost, on members in memory, one core.", "stripes"};
  std::vector<std::string> shapes = {"6.10", "5.5"};
  uint64_t megabytes = 256;
  uint32_t rounds = 5;
  std::vector<uint32_t> depths = {1, 32};
  app.add_option("--depth", depths, "of 4 KiB requests")->capture_default_str();
  app.add_option("--shape", shapes, "LEVEL.MEMBERS")->capture_default_str();
  app.add_option("--mib", megabytes, "of whole stripes, written once a round")
      ->capture_default_str();
  app.add_option("--rounds", rounds, "of which the median counts")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kWarn);
  auto runtime = std::move(io::Runtime::create(false)).value();
  for (const std::string& text : shapes) {
    Result<Shape> shape = parse_shape(text, kChunkDefaultBytes);
    if (!shape.ok() || shape->level->parity == 0) {
      std::fprintf(stderr, "%s: no level with parity\n", text.c_str());
      return 2;
    }
    for (bool checked : {false, true}) whole(*runtime, *shape, megabytes, rounds, checked);
    for (uint32_t depth : depths) parts(*runtime, *shape, depth, rounds);
  }
  return 0;
}
