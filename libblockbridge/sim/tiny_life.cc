// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_life.h"

namespace bb::sim {
namespace {

constexpr uint64_t kFarNs = uint64_t{1} << 50;

}  // namespace

TinyLife::TinyLife(const TinyConfig& config, TinyStart start)
    : config_(config),
      shape_(*raid::parse_shape(config.shape, kTinyChunkBytes)),
      world_(start.record ? start.record->epoch : 0),  // lives differ in what they draw
      net_(world_, {}, Prng(1)),
      port_(net_.attach("dataplane", world_)),
      authority_(world_, std::move(start.record)) {
  for (size_t slot = 0; slot < start.images.size(); ++slot) {
    devices_.push_back(
        std::make_unique<TinyDevice>(std::to_string(slot), std::move(start.images[slot])));
  }
}

TinyLife::~TinyLife() {
  if (array_ != nullptr) crash();
}

raid::ArrayOptions TinyLife::options() const {
  raid::ArrayOptions options;
  options.epoch = authority_.record() ? authority_.record()->epoch + 1 : 1;
  options.resync_busy_bytes_per_second = options.resync_bytes_per_second;
  options.clean_delay_ns = config_.clean_after_ns != 0 ? config_.clean_after_ns : kFarNs;
  return options;
}

void TinyLife::run_ready() {
  uint64_t before = 0;
  do {
    before = world_.steps();
    world_.run_once(false);
  } while (world_.steps() != before);
}

void TinyLife::pass(uint64_t duration_ns) {
  world_.run_for(duration_ns);
  run_ready();
}

bool TinyLife::tick() {
  uint64_t before = world_.steps();
  world_.run_once(true);
  run_ready();
  return world_.steps() != before;
}

// Held drives are served one after the other, each in the order in which it was asked.
bool TinyLife::answer_one() {
  for (auto& device : devices_) {
    if (device->pending().empty()) continue;
    device->complete(device->pending().front().number);
    return true;
  }
  if (authority_.asked()) {
    authority_.decide();
    return true;
  }
  if (!authority_.decided()) return false;
  authority_.answer();
  return true;
}

bool TinyLife::go_on() {
  if (at_step_) at_step_();
  bool went_on = answer_one() || tick();
  run_ready();
  return went_on;
}

// Timers fire when nothing else goes on.
template <typename T>
T TinyLife::finish(io::Task<T> task) {
  std::optional<T> result;
  auto keep = [](io::Task<T> work, std::optional<T>* into) -> io::Task<void> {
    into->emplace(co_await std::move(work));
  };
  io::TaskGroup waiting(world_);
  waiting.spawn(keep(std::move(task), &result));
  for (run_ready(); !result; run_ready()) {
    if (at_step_) at_step_();
    if (!answer_one()) BB_CHECK(tick(), "something waits for ever");
  }
  return std::move(*result);
}

Status TinyLife::create() {
  raid::ArrayCreate what;
  what.name = "tiny";
  what.level = shape_.level->id;
  what.copies = shape_.copies;
  what.chunk_bytes = shape_.chunk_bytes;
  what.assume_clean = true;
  what.integrity = raid::Integrity::kNone;
  what.options = options();
  for (auto& device : devices_) what.members.push_back(raid::MemberDevice::borrow(*device));
  io::Context context{.loop = world_, .network = *port_};
  auto array = finish(raid::Array::create(context, std::move(what), &authority_));
  if (array.ok()) array_ = std::move(*array);
  return array.status();
}

Status TinyLife::assemble(uint64_t without_mask) {
  raid::ArrayAssemble what;
  what.uuid = authority_.record()->array;
  what.options = options();
  for (size_t slot = 0; slot < devices_.size(); ++slot) {
    if ((without_mask >> slot & 1) != 0) continue;
    what.devices.push_back(raid::MemberDevice::borrow(*devices_[slot]));
  }
  io::Context context{.loop = world_, .network = *port_};
  auto array = finish(raid::Array::assemble(context, std::move(what), &authority_));
  if (array.ok()) array_ = std::move(*array);
  return array.status();
}

void TinyLife::hold() {
  run_ready();
  authority_.hold();
  for (auto& device : devices_) device->hold();
}

std::vector<TinyRemains> TinyLife::remains() const {
  std::vector<TinyRemains> drives;
  drives.reserve(devices_.size());
  for (const auto& device : devices_) drives.push_back(device->remains());
  return drives;
}

Status TinyLife::read(Bytes into) {
  auto task = [](raid::Array* array, Bytes to) -> io::Task<Status> {
    co_return co_await array->read(0, to);
  };
  return finish(task(array_.get(), into));
}

Status TinyLife::write(uint64_t offset_bytes, ConstBytes from) {
  auto task = [](raid::Array* array, uint64_t at, ConstBytes bytes) -> io::Task<Status> {
    co_return co_await array->write(at, bytes, true);
  };
  return finish(task(array_.get(), offset_bytes, from));
}

Status TinyLife::close() {
  Status status = finish(array_->close());
  array_.reset();
  return status;
}

void TinyLife::crash() {
  at_step_ = nullptr;
  authority_.cut();
  for (auto& device : devices_) device->fail(TinyTrouble::kGone);
  run_ready();
  if (array_ != nullptr) (void)close();
}

}  // namespace bb::sim
