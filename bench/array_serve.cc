// SPDX-License-Identifier: Apache-2.0
// An array of devices named by URI as a block device of this machine (ublk), until SIGTERM: what
// raid_guest.py compares with the kernel's. The array is made anew; nobody keeps its record.
#include <cstdio>

#include "base/cli11.h"
#include "base/log.h"
#include "base/units.h"
#include "common/stop_signals.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "io/ublk/attachment.h"
#include "measure.h"
#include "raid/array.h"

namespace {

using namespace bb;
using namespace bb::raid;
using io::Task;

struct Options {
  std::vector<std::string> uris;
  std::string shape;
  uint64_t chunk_kib = kChunkDefaultBytes / KiB;
  bool checksums = false;
};

Task<Result<std::unique_ptr<Array>>> make(io::Context context, const Options* options, Shape shape,
                                          MembershipAuthority* authority) {
  ArrayCreate what;
  what.name = "bench";
  what.level = shape.level->id;
  what.chunk_bytes = shape.chunk_bytes;
  what.assume_clean = true;
  what.force = true;
  what.integrity = options->checksums ? Integrity::kCrc32c : Integrity::kNone;
  for (const std::string& uri : options->uris) {
    BB_CO_ASSIGN(auto device, co_await io::open_device(context, uri));
    what.members.push_back(MemberDevice::own(std::move(device)));
  }
  co_return co_await Array::create(context, std::move(what), authority);
}

Task<Status> serve(io::Runtime* runtime, const Options* options, Shape shape,
                   MembershipAuthority* authority, io::Event* stop) {
  BB_CO_ASSIGN(auto array, co_await make(runtime->context(), options, shape, authority));
  auto attached = co_await io::ublk::Attachment::start(runtime->context(), array.get(), {});
  Status status = attached.status();
  if (status.ok()) {
    std::printf("export ublk %s\nready\n", (*attached)->path().c_str());
    std::fflush(stdout);
    co_await stop->wait();
    status = co_await (*attached)->stop();
    if (!status.ok()) co_await (*attached)->leave();
  }
  Status closed = co_await array->close();
  co_return status.ok() ? closed : status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"An array as a block device of this machine.", "array_serve"};
  Options options;
  app.add_option("--shape", options.shape, "LEVEL.MEMBERS")->required();
  app.add_option("--device", options.uris, "URI of each member")->required();
  app.add_option("--chunk-kib", options.chunk_kib, "of the levels that have chunks")
      ->capture_default_str();
  app.add_flag("--checksums", options.checksums, "of every block");
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kWarn);
  Result<Shape> shape = parse_shape(options.shape, options.chunk_kib * KiB);
  if (!shape.ok() || options.uris.size() != shape->members) {
    std::fprintf(stderr, "%zu devices are no array %s\n", options.uris.size(),
                 options.shape.c_str());
    return 2;
  }
  auto runtime = io::Runtime::create(false);
  if (!runtime.ok()) {
    std::fprintf(stderr, "%s\n", runtime.status().to_string().c_str());
    return 1;
  }
  program::StopSignals signals((*runtime)->reactor());
  bench::Authority authority;
  Status status = (*runtime)->reactor().block_on(
      serve(runtime->get(), &options, *shape, &authority, &signals.stop()));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return 1;
}
