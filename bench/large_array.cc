// SPDX-License-Identifier: Apache-2.0
// What an array of many TiB takes of memory, with bitmap and checksums, and how long it takes to
// assemble: after it was created, assembled again, and written to at random until as many pages of
// checksums are in memory as may be. Members take memory where they are written to, and that is not
// counted (it is a file's, which is mapped nowhere).
//   memory: resident, beyond what it was before the array was made; the peak too
//   assemble: median of --rounds, after a clean stop, and after a crash; CPU time, which on a busy
//     machine says more, in brackets
// This measures, it does not judge; the bars it was made for: 8 MiB and 0.02 % of the array, 1 s.
#include <malloc.h>

#include <cstdio>
#include <fstream>

#include "base/cli11.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/runtime.h"
#include "io/sync.h"
#include "measure.h"
#include "raid/array.h"
#include "support/sparse_device.h"

namespace {

using namespace bb;
using namespace bb::bench;
using namespace bb::raid;
using io::Task;

constexpr uint64_t kBlockBytes = 4 * KiB;

uint64_t status_bytes(const char* field) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    uint64_t kibibytes = 0;
    if (word == field && file >> kibibytes) return kibibytes * KiB;
  }
  return 0;
}
void forget_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

struct Took {  // seconds; until end(), when it began
  double wall = wall_seconds();
  double cpu = cpu_seconds();

  void end() { *this = {wall_seconds() - wall, cpu_seconds() - cpu}; }
};

struct Bench {
  io::Runtime& runtime;
  Shape shape;
  uint64_t pages_max;
  Authority authority;
  std::vector<std::unique_ptr<SparseDevice>> drives;
  std::unique_ptr<Array> array;
  uint64_t before_bytes = 0;

  template <typename T>
  T run(Task<T> task) {
    return runtime.reactor().block_on(std::move(task));
  }
  void expect(const Status& status) { BB_CHECK(status.ok(), "{}", status.to_string()); }
  ArrayOptions options() const {
    ArrayOptions options;
    options.checksum_pages_max = pages_max;
    return options;
  }
  Took create(uint64_t array_bytes) {
    uint64_t data = array_bytes / (shape.capacity_bytes(1 * GiB) / GiB);
    uint64_t member_bytes = round_up(data + data / 200 + 64 * MiB, 1 * MiB);
    for (uint32_t i = 0; i < shape.members; ++i) {
      drives.push_back(std::make_unique<SparseDevice>(fmt::format("member{}", i), member_bytes));
    }
    forget_peak();
    before_bytes = status_bytes("VmRSS:");
    ArrayCreate what;
    what.name = "bench";
    what.assume_clean = true;
    what.level = shape.level->id;
    what.chunk_bytes = shape.chunk_bytes;
    what.options = options();
    for (auto& drive : drives) what.members.push_back(MemberDevice::borrow(*drive));
    Took took;
    auto made = run(Array::create(runtime.context(), std::move(what), &authority));
    took.end();
    expect(made.status());
    array = std::move(made).value();
    BB_CHECK(array->info().size_bytes >= array_bytes, "an array of {} bytes",
             array->info().size_bytes);
    return took;
  }
  void end(bool crash) {
    for (auto& drive : drives) drive->cut_off = crash;
    authority.reachable = !crash;
    (void)run(array->close());
    array.reset();
    authority.reachable = true;
    for (auto& drive : drives) drive->cut_off = false;
  }
  Took assemble() {
    forget_peak();
    ArrayAssemble what;
    what.options = options();
    for (auto& drive : drives) what.devices.push_back(MemberDevice::borrow(*drive));
    Took took;
    auto made = run(Array::assemble(runtime.context(), std::move(what), &authority));
    took.end();
    expect(made.status());
    array = std::move(made).value();
    return took;
  }
  Task<void> write_some(Prng prng, uint64_t* left, uint64_t length_bytes) {
    io::AlignedBuffer buffer(length_bytes);
    uint64_t places = array->info().size_bytes / length_bytes;
    while (*left > 0) {
      --*left;
      Status status = co_await array->write(prng.below(places) * length_bytes, buffer.bytes());
      BB_CHECK(status.ok(), "{}", status.to_string());
      co_await runtime.reactor().yield();
    }
  }
  Task<Took> write(uint64_t count, uint64_t length_bytes) {
    io::TaskGroup hosts(runtime.reactor());
    Took took;
    for (uint32_t i = 0; i < 32; ++i) hosts.spawn(write_some(Prng(i + 1), &count, length_bytes));
    co_await hosts.join();
    took.end();
    co_return took;
  }
  void tell(const char* when, Took took) {
    double growth = static_cast<double>(status_bytes("VmRSS:") - before_bytes);
    double peak = static_cast<double>(status_bytes("VmHWM:") - before_bytes);
    auto size = static_cast<double>(array->info().size_bytes);
    std::printf(
        "%-6s %-24s %8.3f s (%8.3f)   memory %8.1f MiB = 8 MiB + %8.5f %%   peak %8.1f MiB\n",
        shape_text(shape).c_str(), when, took.wall, took.cpu, growth / MiB,
        std::max(0.0, growth - 8.0 * MiB) / size * 100, peak / MiB);
    std::fflush(stdout);
  }
};

void measure(io::Runtime& runtime, const Shape& shape, uint64_t gibibytes, uint64_t count,
             uint64_t pages_max, uint32_t rounds) {
  Bench bench{.runtime = runtime, .shape = shape, .pages_max = pages_max};
  bench.tell("created", bench.create(gibibytes * GiB));
  auto assembled = [&](const char* when) {
    std::vector<double> wall, cpu;
    for (uint32_t i = 0; i < rounds; ++i) {
      bench.end(false);
      Took took = bench.assemble();
      wall.push_back(took.wall);
      cpu.push_back(took.cpu);
    }
    bench.tell(when, {median(wall), median(cpu)});
  };
  assembled("assembled");
  bench.tell("4 KiB writes at random", bench.run(bench.write(count, kBlockBytes)));
  if (shape.level->parity > 0) {
    uint64_t stripe = shape.chunk_bytes * shape.data_chunks();
    bench.tell("whole stripes at random", bench.run(bench.write(count / 32, stripe)));
  }
  bench.end(true);
  bench.tell("assembled after a crash", bench.assemble());
  assembled("assembled again");
  bench.end(false);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Memory and assembly of a large array.", "large_array"};
  std::vector<std::string> shapes = {"1.2", "10.4", "5.5", "6.10"};
  uint64_t gibibytes = 16 * KiB;
  uint64_t count = 300'000;
  uint64_t pages = 0;
  uint32_t rounds = 5;
  app.add_option("--shape", shapes, "LEVEL.MEMBERS")->capture_default_str();
  app.add_option("--gib", gibibytes, "of the array")->capture_default_str();
  app.add_option("--writes", count, "of 4 KiB, and a 32nd of them whole stripes")
      ->capture_default_str();
  app.add_option("--checksum-pages", pages, "in memory; 0: as by default")->capture_default_str();
  app.add_option("--rounds", rounds, "of assembly, of which the median counts")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kError);
  auto runtime = std::move(io::Runtime::create(false)).value();
  for (const std::string& text : shapes) {
    Result<Shape> shape = parse_shape(text, kChunkDefaultBytes);
    if (!shape.ok() || !shape->redundant()) {
      std::fprintf(stderr, "%s: no level with checksums\n", text.c_str());
      return 2;
    }
    measure(*runtime, *shape, gibibytes, count, pages, rounds);
  }
  return 0;
}
