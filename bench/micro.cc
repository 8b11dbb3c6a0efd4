// SPDX-License-Identifier: Apache-2.0
// The small things that happen with every I/O: checksums, awaits, headers.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/crc32c.h"
#include "base/prng.h"
#include "io/device_uri.h"
#include "io/nbd/export_info.h"
#include "io/nvme/command.h"
#include "io/nvme/pdu.h"
#include "io/runtime.h"

namespace {

using namespace bb;
using namespace bb::io;

void crc32c_of(benchmark::State& state) {
  std::vector<std::byte> data(static_cast<size_t>(state.range(0)));
  Prng(1).fill(data);
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(data));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(crc32c_of)->Arg(72)->Arg(4096)->Arg(131072);

Task<int> instant() { co_return 1; }
Task<int> await_many(int64_t count) {
  int sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += co_await instant();
  co_return sum;
}
void await_of_a_task(benchmark::State& state) {
  auto runtime = std::move(Runtime::create(false)).value();
  constexpr int64_t kBatch = 1000;
  for (auto _ : state) {
    benchmark::DoNotOptimize(runtime->reactor().block_on(await_many(kBatch)));
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(await_of_a_task);

Task<Status> read_many(Context context, int64_t count) {
  BB_CO_ASSIGN(auto device, co_await open_device(context, "mem:1M"));
  std::vector<std::byte> block(4096);
  for (int64_t i = 0; i < count; ++i) BB_CO_TRY(co_await device->read(0, block));
  co_return co_await device->close();
}
void read_4k_of_memory(benchmark::State& state) {
  auto runtime = std::move(Runtime::create(false)).value();
  constexpr int64_t kBatch = 1000;
  for (auto _ : state) {
    Status status = runtime->reactor().block_on(read_many(runtime->context(), kBatch));
    if (!status.ok()) state.SkipWithError(status.text().c_str());
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(read_4k_of_memory);

void nbd_request(benchmark::State& state) {
  nbd::ExportInfo device{.name = "d", .size_bytes = 1 << 30};
  std::byte bytes[nbd::kRequestBytes];
  nbd::encode_request({.command = nbd::Command::kRead, .offset_bytes = 4096, .length_bytes = 4096},
                      bytes);
  std::byte reply[nbd::kReplyHeaderMax];
  for (auto _ : state) {
    auto request = nbd::decode_request(bytes);
    auto verdict = nbd::judge(device, {.framing = nbd::Framing::kStructured}, *request);
    benchmark::DoNotOptimize(verdict);
    benchmark::DoNotOptimize(nbd::encode_data_header(reply, *request, nbd::Framing::kStructured));
  }
}
BENCHMARK(nbd_request);

void nvme_capsule(benchmark::State& state) {
  bool digests = state.range(0) != 0;
  nvme::PduFormat format{.digests = {digests, digests}};
  std::byte entry[nvme::kSqeBytes] = {};
  std::byte head[nvme::kHeaderRoomBytes];
  for (auto _ : state) {
    benchmark::DoNotOptimize(nvme::encode_capsule_cmd(head, entry, 0, format));
    benchmark::ClobberMemory();
  }
}
BENCHMARK(nvme_capsule)->Arg(0)->Arg(1);

}  // namespace

BENCHMARK_MAIN();
