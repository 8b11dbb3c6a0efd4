// SPDX-License-Identifier: Apache-2.0
// A member is away for a short time while a host writes 4 KiB blocks anywhere, and comes back: how
// many bytes are copied onto it. Three ways: the array stays up; its process dies before the member
// is back; it is stopped and assembled elsewhere from the same members.
//   dirtied: the regions that were written to meanwhile, times the size of a region, which is what
//     the bitmap can know; what is copied is compared with that, and with what the host wrote
//   others: bytes written to the members that had been there, which resync may have to make equal
// Members are of the size that --member-gib says and take memory where they are written to. Nothing
// is timed: the same numbers each run.
#include <cstdio>
#include <set>

#include "base/cli11.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/runtime.h"
#include "measure.h"
#include "raid/array.h"
#include "raid/stripe_layout.h"
#include "support/sparse_device.h"

namespace {

using namespace bb;
using namespace bb::bench;
using namespace bb::raid;
using io::Task;

constexpr uint64_t kBlockBytes = 4 * KiB;
constexpr uint64_t kNeverNs = UINT64_MAX;

enum class Meanwhile : uint8_t { kNothing, kCrash, kMove };
constexpr const char* kMeanwhileText[] = {"stays up", "crashed", "moved"};

struct Bench {
  io::Runtime& runtime;
  Shape shape;
  Authority authority;
  std::vector<std::unique_ptr<SparseDevice>> drives;
  std::unique_ptr<Array> array;
  std::set<uint64_t> regions;  // written to while the member is away
  uint64_t epoch = 1;

  template <typename T>
  T run(Task<T> task) {
    return runtime.reactor().block_on(std::move(task));
  }
  void expect(const Status& status) { BB_CHECK(status.ok(), "{}", status.to_string()); }
  ArrayOptions options() const {
    ArrayOptions options;
    options.epoch = epoch;
    options.resync_bytes_per_second = 0;  // no limit
    options.clean_delay_ns = 5 * kNsPerMs;
    return options;
  }
  void create(uint64_t member_bytes) {
    ArrayCreate what;
    what.name = "bench";
    what.assume_clean = true;
    what.level = shape.level->id;
    what.chunk_bytes = shape.chunk_bytes;
    what.options = options();
    for (uint32_t i = 0; i < shape.members; ++i) {
      drives.push_back(std::make_unique<SparseDevice>(fmt::format("member{}", i), member_bytes));
      what.members.push_back(MemberDevice::borrow(*drives.back()));
    }
    auto made = run(Array::create(runtime.context(), std::move(what), &authority));
    expect(made.status());
    array = std::move(made).value();
    // Of what is counted: data, and neither bitmap nor map, journal and checksums.
    Geometry geometry = authority.record().geometry();
    uint64_t extent = geometry.member_bytes;
    if (shape.level->parity > 0) {
      extent = stripe_rows(geometry.shape, geometry.member_bytes) * geometry.shape.chunk_bytes;
    }
    for (auto& drive : drives) {
      drive->counted_from_bytes = geometry.data_offset_bytes;
      drive->counted_to_bytes = geometry.data_offset_bytes + extent;
    }
  }
  // Of the array in this process; the drives stay as they are.
  void end(bool crash) {
    for (auto& drive : drives) drive->cut_off = crash;
    authority.reachable = !crash;
    (void)run(array->close());
    array.reset();
    authority.reachable = true;
    for (auto& drive : drives) drive->cut_off = false;
  }
  void assemble() {
    ArrayAssemble what;
    what.options = options();
    for (auto& drive : drives) what.devices.push_back(MemberDevice::borrow(*drive));
    auto made = run(Array::assemble(runtime.context(), std::move(what), &authority));
    expect(made.status());
    array = std::move(made).value();
  }
  Task<Status> write(Prng* prng, uint64_t count) {
    io::AlignedBuffer buffer(kBlockBytes);
    uint64_t blocks = array->info().size_bytes / kBlockBytes;
    Geometry geometry = authority.record().geometry();
    for (uint64_t i = 0; i < count; ++i) {
      uint64_t at = prng->below(blocks) * kBlockBytes;
      prng->fill(buffer.bytes());
      BB_CO_TRY(co_await array->write(at, buffer.bytes()));
      RegionRange range = geometry.range_of(at, kBlockBytes);
      for (uint64_t r = 0; r < range.count; ++r) regions.insert(range.first + r);
    }
    co_return co_await array->flush();
  }
  Task<int> until_clean() {
    while (array->describe().dirty_regions != 0) {
      co_await runtime.reactor().sleep_for(5 * kNsPerMs);
    }
    co_await runtime.reactor().sleep_for(50 * kNsPerMs);  // the page is written after that
    co_return 0;
  }
};

void measure(io::Runtime& runtime, const Shape& shape, uint64_t gibibytes, uint64_t count,
             Meanwhile meanwhile) {
  Bench bench{.runtime = runtime, .shape = shape};
  bench.create(gibibytes * GiB);
  Prng prng(7);
  bench.expect(bench.run(bench.write(&prng, count)));
  bench.run(bench.until_clean());
  bench.regions.clear();
  Uuid away = bench.array->describe().members[1].uuid;
  bench.expect(bench.run(bench.array->fail_member(away, "a short loss")));
  bench.expect(bench.run(bench.write(&prng, count)));
  for (auto& drive : bench.drives) drive->written_bytes = 0;
  if (meanwhile != Meanwhile::kNothing) {
    bench.end(meanwhile == Meanwhile::kCrash);
    if (meanwhile == Meanwhile::kMove) ++bench.epoch;
    bench.assemble();
  }
  bench.expect(bench.run(bench.array->readmit_member(away)));
  bench.expect(bench.run(bench.array->wait_in_sync(kNeverNs)));
  uint64_t region_bytes = bench.array->describe().region_size_bytes;
  uint64_t dirtied = bench.regions.size() * region_bytes;
  uint64_t copied = bench.drives[1]->written_bytes;
  uint64_t others = 0;
  for (auto& drive : bench.drives) others += drive->written_bytes;
  others -= copied;
  auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / MiB; };
  std::printf(
      "%-6s members of %4llu GiB, regions of %5llu KiB, %-8s  host %6.1f MiB   dirtied %8.1f MiB   "
      "copied %8.1f MiB   of dirtied x %5.3f   of the host's x %6.1f   others %.1f MiB\n",
      shape_text(shape).c_str(), static_cast<unsigned long long>(gibibytes),
      static_cast<unsigned long long>(region_bytes / KiB),
      kMeanwhileText[static_cast<size_t>(meanwhile)], mib(count * kBlockBytes), mib(dirtied),
      mib(copied), mib(copied) / mib(dirtied), mib(copied) / mib(count * kBlockBytes), mib(others));
  bench.end(false);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What is copied onto a member that was away for a short time.", "short_loss"};
  std::vector<std::string> shapes = {"1.2", "10.4", "5.5", "6.10"};
  std::vector<uint64_t> gibibytes = {8, 256};
  uint64_t count = 200;
  app.add_option("--shape", shapes, "LEVEL.MEMBERS")->capture_default_str();
  app.add_option("--member-gib", gibibytes, "of each member")->capture_default_str();
  app.add_option("--writes", count, "while the member is away")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kError);
  auto runtime = std::move(io::Runtime::create(false)).value();
  for (const std::string& text : shapes) {
    Result<Shape> shape = parse_shape(text, kChunkDefaultBytes);
    if (!shape.ok() || !shape->redundant()) {
      std::fprintf(stderr, "%s: no level that can lose a member\n", text.c_str());
      return 2;
    }
    for (uint64_t size : gibibytes) {
      for (Meanwhile meanwhile : {Meanwhile::kNothing, Meanwhile::kCrash, Meanwhile::kMove}) {
        measure(*runtime, *shape, size, count, meanwhile);
      }
    }
  }
  return 0;
}
