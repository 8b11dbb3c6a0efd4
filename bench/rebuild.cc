// SPDX-License-Identifier: Apache-2.0
// A member is replaced, on members in memory, one core, checksums on.
//   idle: bytes a second, of a loop in the same process that reads the same blocks, compares their
//     checksums, works out what is lost and writes it, and nothing else
//   beside a host: 4 KiB random I/O, 70 % reads, as many at once as --depth; its p99 alone and
//     during the rebuild, and the rebuild's rate of what it is when idle
// Medians of rounds in turns; this measures, it does not judge.
#include <algorithm>
#include <cstdio>

#include "base/cli11.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "io/sync.h"
#include "measure.h"
#include "raid/array.h"
#include "raid/parity.h"

namespace {

using namespace bb;
using namespace bb::bench;
using namespace bb::raid;
using io::Task;

constexpr uint64_t kBlockBytes = 4 * KiB;
constexpr uint64_t kAloneNs = 400 * kNsPerMs;

struct Bench {
  io::Runtime& runtime;
  Shape shape;
  uint64_t member_bytes;
  uint64_t latency_us;
  Authority authority;
  std::unique_ptr<Array> array;
  bool stop = false;
  std::vector<double> micros;  // of the host's requests

  template <typename T>
  T run(Task<T> task) {
    return runtime.reactor().block_on(std::move(task));
  }
  std::string uri() const {
    std::string memory = fmt::format("mem:{}", member_bytes + 4 * MiB);
    return latency_us == 0 ? memory : fmt::format("fault:{}?latency={}us", memory, latency_us);
  }
  std::unique_ptr<io::Device> open_memory() {
    return std::move(run(io::open_device(runtime.context(), uri())).value());
  }
  void create() {
    ArrayCreate what;
    what.name = "bench";
    what.assume_clean = true;
    what.level = shape.level->id;
    what.chunk_bytes = shape.chunk_bytes;
    what.options.resync_bytes_per_second = 0;  // no limit
    for (uint32_t i = 0; i < shape.members; ++i) {
      what.members.push_back(MemberDevice::own(open_memory()));
    }
    auto made = run(Array::create(runtime.context(), std::move(what), &authority));
    BB_CHECK(made.ok(), "{}", made.status().to_string());
    array = std::move(made).value();
    Status filled = run(fill(array.get()));
    BB_CHECK(filled.ok(), "{}", filled.to_string());
  }
  Task<Status> fill(io::Device* device) {
    io::AlignedBuffer buffer(1 * MiB);
    Prng(1).fill(buffer.bytes());
    for (uint64_t at = 0; at + buffer.size() <= device->info().size_bytes; at += buffer.size()) {
      BB_CO_TRY(co_await device->write(at, buffer.bytes()));
    }
    co_return Status();
  }
  Task<void> host(Prng prng) {
    io::AlignedBuffer buffer(kBlockBytes);
    uint64_t blocks = array->info().size_bytes / kBlockBytes;
    while (!stop) {
      uint64_t at = prng.below(blocks) * kBlockBytes;
      double start = wall_seconds();
      co_await runtime.reactor().yield();  // members in memory answer at once
      Status status = prng.below(10) < 7 ? co_await array->read(at, buffer.bytes())
                                         : co_await array->write(at, buffer.bytes());
      BB_CHECK(status.ok(), "{}", status.to_string());
      micros.push_back((wall_seconds() - start) * 1e6);
    }
  }
  double p99() {
    BB_CHECK(!micros.empty(), "the host did nothing");
    auto at = micros.begin() + static_cast<ptrdiff_t>(micros.size() * 99 / 100);
    std::ranges::nth_element(micros, at);
    double found = *at;
    micros.clear();
    return found;
  }
  std::unique_ptr<io::Device> make_fresh() {
    std::unique_ptr<io::Device> fresh = open_memory();
    Status filled = run(fill(fresh.get()));  // its memory is there, like a drive's
    BB_CHECK(filled.ok(), "{}", filled.to_string());
    return fresh;
  }
  // Seconds from the replacement on until it counts.
  Task<double> rebuild(std::unique_ptr<io::Device> fresh) {
    Uuid old = array->describe().members.back().uuid;
    for (const ArrayMemberInfo& member : array->describe().members) {
      if (member.state == MemberState::kInSync && member.slot == 0) old = member.uuid;
    }
    Status status = co_await array->replace_member(old, MemberDevice::own(std::move(fresh)));
    BB_CHECK(status.ok(), "{}", status.to_string());
    double start = wall_seconds();
    status = co_await array->wait_in_sync(UINT64_MAX);
    BB_CHECK(status.ok(), "{}", status.to_string());
    co_return wall_seconds() - start;
  }
  struct Beside {
    double seconds, alone_us, beside_us;
  };
  Task<Beside> beside(uint32_t depth, std::unique_ptr<io::Device> fresh) {
    Beside found{};
    io::TaskGroup hosts(runtime.reactor());
    stop = false;
    for (uint32_t i = 0; i < depth; ++i) hosts.spawn(host(Prng(i + 1)));
    co_await runtime.reactor().sleep_for(kAloneNs);
    found.alone_us = p99();
    found.seconds = co_await rebuild(std::move(fresh));
    found.beside_us = p99();
    stop = true;
    co_await hosts.join();
    micros.clear();
    co_return found;
  }
  Task<int> close() {
    (void)co_await array->close();
    co_return 0;
  }
};

// One core's: each block that is needed read, compared, the lost one worked out and written.
double loop_seconds(const Shape& shape, uint64_t member_bytes) {
  uint64_t chunk = shape.chunk_bytes != 0 ? shape.chunk_bytes : 64 * KiB;
  uint32_t sources = shape.level->parity > 0 ? shape.data_chunks() : 1;
  io::AlignedBuffer members(sources * member_bytes);
  io::AlignedBuffer target(member_bytes);
  io::AlignedBuffer buffer((sources + 1) * chunk);
  Prng(3).fill(members.bytes());
  std::vector<std::byte*> blocks(sources + 1);
  for (uint32_t i = 0; i <= sources; ++i) blocks[i] = buffer.data() + i * chunk;
  std::memset(target.data(), 1, target.size());
  ParityCode code(sources, 1);
  uint32_t sums = 0;
  double start = wall_seconds();
  for (uint64_t at = 0; at + chunk <= member_bytes; at += chunk) {
    for (uint32_t i = 0; i < sources; ++i) {
      std::memcpy(blocks[i], members.data() + i * member_bytes + at, chunk);
      for (uint64_t in = 0; in < chunk; in += kCheckedBlockBytes) {
        sums += block_checksum({blocks[i] + in, kCheckedBlockBytes});
      }
    }
    if (sources > 1) code.encode(blocks.data(), &blocks[sources], chunk);
    for (uint64_t in = 0; in < chunk; in += kCheckedBlockBytes) {
      sums += block_checksum({blocks[sources > 1 ? sources : 0] + in, kCheckedBlockBytes});
    }
    std::memcpy(target.data() + at, blocks[sources > 1 ? sources : 0], chunk);
  }
  double seconds = wall_seconds() - start;
  std::memcpy(target.data(), &sums, sizeof(sums));  // it is used
  return seconds;
}

void measure(io::Runtime& runtime, const Shape& shape, uint64_t megabytes, uint64_t latency_us,
             uint32_t depth, uint32_t rounds) {
  Bench bench{.runtime = runtime,
              .shape = shape,
              .member_bytes = megabytes * MiB,
              .latency_us = latency_us};
  bench.create();
  std::vector<double> loop, idle, busy, alone, beside, growth;
  for (uint32_t i = 0; i < rounds; ++i) {
    loop.push_back(loop_seconds(shape, megabytes * MiB));
    idle.push_back(bench.run(bench.rebuild(bench.make_fresh())));
    Bench::Beside found = bench.run(bench.beside(depth, bench.make_fresh()));
    busy.push_back(found.seconds);
    alone.push_back(found.alone_us);
    beside.push_back(found.beside_us);
    growth.push_back(found.beside_us / found.alone_us);
  }
  double bytes = static_cast<double>(megabytes * MiB);
  std::printf("%-6s idle  loop %6.2f GB/s   rebuild %6.2f GB/s   %3.0f %%\n",
              shape_text(shape).c_str(), bytes / median(loop) * 1e-9, bytes / median(idle) * 1e-9,
              100 * median(loop) / median(idle));
  std::printf(
      "%-6s beside a host of depth %u: its p99 alone %7.1f us   beside %7.1f us   x %.2f   rebuild "
      "%6.2f GB/s, %3.0f %% of idle\n",
      shape_text(shape).c_str(), depth, median(alone), median(beside), median(growth),
      bytes / median(busy) * 1e-9, 100 * median(idle) / median(busy));
  bench.run(bench.close());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What a rebuild costs, on members in memory, one core.", "rebuild"};
  std::vector<std::string> shapes = {"1.2", "5.5", "6.10"};
  uint64_t megabytes = 512;
  uint64_t latency_us = 0;
  uint32_t depth = 32;
  uint32_t rounds = 5;
  app.add_option("--shape", shapes, "LEVEL.MEMBERS")->capture_default_str();
  app.add_option("--mib", megabytes, "of each member")->capture_default_str();
  app.add_option("--latency", latency_us, "of the members' answers, in us")->capture_default_str();
  app.add_option("--depth", depth, "of the host's requests")->capture_default_str();
  app.add_option("--rounds", rounds, "of which the median counts")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kWarn);
  auto runtime = std::move(io::Runtime::create(false)).value();
  for (const std::string& text : shapes) {
    Result<Shape> shape = parse_shape(text, kChunkDefaultBytes);
    if (!shape.ok()) {
      std::fprintf(stderr, "%s\n", shape.status().to_string().c_str());
      return 2;
    }
    measure(*runtime, *shape, megabytes, latency_us, depth, rounds);
  }
  return 0;
}
