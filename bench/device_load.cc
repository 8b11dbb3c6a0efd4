// SPDX-License-Identifier: Apache-2.0
// Random blocks on a device named by URI, `depth` of them in flight: our initiator's speed.
#include "base/cli11.h"
#include "base/prng.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "load_report.h"

namespace {

using namespace bb;
using namespace bb::io;

struct Options {
  std::string uri;
  std::string op = "read";
  size_t depth = 32;
  uint32_t block_bytes = 4096;
  double seconds = 1;
};

// Keeps `depth` leaves in flight: no coroutine between two I/Os, so that the device is measured.
class Load {
 public:
  Load(Loop& loop, Device& device, const Options& options)
      : loop_(loop),
        done_(loop),
        device_(device),
        op_(options.op == "write" ? IoOp::kWrite : IoOp::kRead),
        block_bytes_(options.block_bytes),
        report_(options.seconds),
        slots_(options.depth) {}

  Task<Status> run() {
    for (Slot& slot : slots_) {
      slot.load = this;
      slot.buffer = AlignedBuffer(block_bytes_);
      slot.iov = slot.buffer.as_iovec();
      slot.io.slot = &slot;
      slot.again.slot = &slot;
      slot.again.run = [](Work* work) {
        Slot* self = static_cast<Again*>(work)->slot;
        self->load->submit(*self);
      };
      ++in_flight_;
      submit(slot);
    }
    co_await done_.wait();
    if (first_error_.ok()) report_.print();
    co_return first_error_;
  }

 private:
  struct Slot;
  struct Io final : IoRequest {
    Slot* slot = nullptr;
  };
  struct Again final : Work {
    Slot* slot = nullptr;
  };
  struct Slot {
    Load* load = nullptr;
    AlignedBuffer buffer;
    struct iovec iov{};
    Io io;
    Again again;
    uint64_t sent_ns = 0;
  };

  void submit(Slot& slot) {
    slot.sent_ns = bench::now_ns();
    slot.io.op = op_;
    slot.io.offset_bytes =
        prng_.below(device_.info().size_bytes / block_bytes_) * uint64_t{block_bytes_};
    slot.io.length_bytes = block_bytes_;
    slot.io.iov = &slot.iov;
    slot.io.iov_count = 1;
    slot.io.done = [](IoRequest* io, Status status) {
      Slot* self = static_cast<Io*>(io)->slot;
      self->load->on_done(*self, std::move(status));
    };
    device_.submit(slot.io);
  }

  void on_done(Slot& slot, Status status) {
    uint64_t now = bench::now_ns();
    if (!status.ok() && first_error_.ok()) first_error_ = std::move(status);
    if (first_error_.ok()) report_.add(now, now - slot.sent_ns);
    if (report_.over() || !first_error_.ok()) {
      if (--in_flight_ == 0) done_.set();
      return;
    }
    // Not from within the completion: a device in memory would recurse without end.
    loop_.post(slot.again);
  }

  Loop& loop_;
  Event done_;
  Device& device_;
  IoOp op_;
  uint32_t block_bytes_;
  bench::LoadReport report_;
  std::vector<Slot> slots_;
  Prng prng_{1};
  size_t in_flight_ = 0;
  Status first_error_;
};

Task<Status> run(Context context, const Options* options) {
  BB_CO_ASSIGN(auto device, co_await open_device(context, options->uri));
  Status status;
  {
    Load load(context.loop, *device, *options);
    status = co_await load.run();
  }
  Status closed = co_await device->close();
  co_return status.ok() ? closed : status;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Random blocks on a device", "device_load");
  app.add_option("--device", options.uri, "URI")->required();
  app.add_option("--op", options.op, "read or write");
  app.add_option("--depth", options.depth);
  app.add_option("--block-bytes", options.block_bytes);
  app.add_option("--seconds", options.seconds);
  std::string engine = "auto";
  app.add_option("--engine", engine)->check(CLI::IsMember({"auto", "io_uring", "epoll"}));
  bool no_spin = false;
  app.add_flag("--no-spin", no_spin);
  CLI11_PARSE(app, argc, argv);
  auto runtime = Runtime::create(false, {.engine = *parse_engine(engine), .spin = !no_spin});
  if (!runtime.ok()) return 1;
  Status status = (*runtime)->reactor().block_on(run((*runtime)->context(), &options));
  if (!status.ok()) std::fprintf(stderr, "device_load: %s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
