// SPDX-License-Identifier: Apache-2.0
#include "io/fault_device.h"

#include <algorithm>

#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"

namespace bb::io {

std::string_view fault_kind_name(FaultKind kind) {
  static constexpr std::string_view kNames[kFaultKinds] = {"error",      "latency",  "torn write",
                                                           "lost write", "bit flip", "stuck"};
  return kNames[static_cast<size_t>(kind)];
}

// One request on its way: what we hand to the inner device, and what we have decided about it.
// Allocated once and used again; a fault device is for tests, yet it should not be slow.
struct FaultDevice::Flight : Timer {
  FaultDevice* device = nullptr;
  IoRequest* outer = nullptr;
  struct Inner : IoRequest {
    Flight* flight = nullptr;
  } inner;
  std::vector<iovec> prefix;  // torn write: the part that lands
  AlignedBuffer copy;         // bit flip on write: the caller's memory stays as it is
  uint64_t latency_ns = 0;
  Status after;  // reported instead of success
  bool skip_inner = false;
  bool tear = false;
  bool flip = false;
  bool stuck = false;
};

FaultDevice::FaultDevice(Loop& loop, std::unique_ptr<Device> inner, uint64_t seed, std::string uri)
    : loop_(loop), inner_(std::move(inner)), prng_(seed), gate_(loop) {
  info_ = inner_->info();
  info_.uri = uri.empty() ? "fault:" + inner_->info().uri : std::move(uri);
  follow_incarnation();
  inner_->watch(*this);
  set_state(inner_->state());
}

FaultDevice::~FaultDevice() { inner_->unwatch(*this); }

namespace {

uint32_t possible_ops(FaultKind kind) {
  switch (kind) {
    case FaultKind::kTornWrite:
      return FaultRule::kWrites | FaultRule::bit(IoOp::kWriteZeroes);
    case FaultKind::kLostWrite:
      return FaultRule::kChanges;
    case FaultKind::kBitFlip:
      return FaultRule::kReads | FaultRule::kWrites;
    case FaultKind::kError:
    case FaultKind::kLatency:
    case FaultKind::kStuck:
      return FaultRule::kAll;
  }
  return 0;
}

}  // namespace

uint64_t FaultDevice::add(FaultRule rule) {
  BB_CHECK(rule.denominator > 0 && rule.numerator <= rule.denominator, "probability {}/{}",
           rule.numerator, rule.denominator);
  rule.ops &= possible_ops(rule.kind);
  rules_.push_back({++last_id_, rule});
  return last_id_;
}

bool FaultDevice::remove(uint64_t id) {
  return std::erase_if(rules_, [&](const Row& row) { return row.id == id; }) > 0;
}

void FaultDevice::clear() { rules_.clear(); }

size_t FaultDevice::stuck() const {
  return static_cast<size_t>(
      std::count_if(flights_.begin(), flights_.end(), [](const auto& f) { return f->stuck; }));
}

void FaultDevice::release_stuck() {
  std::vector<Flight*> freed;
  for (auto& flight : flights_) {
    if (flight->stuck) freed.push_back(flight.get());
  }
  for (Flight* flight : freed) {
    flight->stuck = false;
    send(*flight);
  }
}

void FaultDevice::follow_incarnation() {
  while (incarnation() < inner_->incarnation()) raise_incarnation();
}

void FaultDevice::on_device_state(Device&, DeviceState state) {
  follow_incarnation();
  if (this->state() != DeviceState::kClosed) set_state(state);
}

Task<Result<std::vector<Extent>>> FaultDevice::do_extents(uint64_t offset_bytes,
                                                          uint64_t length_bytes, uint32_t limit) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  auto found = co_await inner_->extents(offset_bytes, length_bytes, limit);
  gate_.leave();
  co_return found;
}

Task<Status> FaultDevice::close() {
  set_state(DeviceState::kClosed);
  release_stuck();
  co_await gate_.close();
  co_return co_await inner_->close();
}

bool FaultDevice::hit(FaultRule& rule, const IoRequest& request) {
  if ((rule.ops & FaultRule::bit(request.op)) == 0 || rule.times_left == 0) return false;
  bool ranged = request.op != IoOp::kFlush;
  if (ranged && (request.offset_bytes >= rule.end_bytes ||
                 request.offset_bytes + request.length_bytes <= rule.begin_bytes)) {
    return false;
  }
  if (rule.skip > 0) {
    --rule.skip;
    return false;
  }
  if (prng_.below(rule.denominator) >= rule.numerator) return false;
  --rule.times_left;
  if (rule.sticky) {
    rule.numerator = rule.denominator;
    rule.times_left = UINT64_MAX;
  }
  ++hits_[static_cast<size_t>(rule.kind)];
  return true;
}

void FaultDevice::apply(const FaultRule& rule, Flight& flight) {
  const IoRequest& request = *flight.outer;
  auto failure = [&] {
    return error(rule.code, "{}: {} of {} bytes at {}: injected {}", info_.uri,
                 io_op_name(request.op), request.length_bytes, request.offset_bytes,
                 fault_kind_name(rule.kind));
  };
  switch (rule.kind) {
    case FaultKind::kError:
      flight.skip_inner = true;
      flight.after = failure();
      return;
    case FaultKind::kLatency:
      flight.latency_ns += rule.latency_ns;
      return;
    case FaultKind::kTornWrite:
      flight.tear = true;
      if (!rule.acknowledge) flight.after = failure();
      return;
    case FaultKind::kLostWrite:
      flight.skip_inner = true;
      return;
    case FaultKind::kBitFlip:
      flight.flip = true;
      return;
    case FaultKind::kStuck:
      flight.stuck = true;
      return;
  }
}

FaultDevice::Flight& FaultDevice::take(IoRequest& request) {
  if (free_.empty()) {
    flights_.push_back(std::make_unique<Flight>());
    free_.push_back(flights_.back().get());
  }
  Flight& flight = *free_.back();
  free_.pop_back();
  flight.device = this;
  flight.outer = &request;
  flight.inner.flight = &flight;
  flight.inner.op = request.op;
  flight.inner.fua = request.fua;
  flight.inner.may_discard = request.may_discard;
  flight.inner.fast_only = request.fast_only;
  flight.inner.offset_bytes = request.offset_bytes;
  flight.inner.length_bytes = request.length_bytes;
  flight.inner.iov = request.iov;
  flight.inner.iov_count = request.iov_count;
  flight.inner.done = [](IoRequest* inner, Status status) {
    Flight& done = *static_cast<Flight::Inner*>(inner)->flight;
    done.device->finish(done, std::move(status));
  };
  flight.latency_ns = 0;
  flight.after = Status();
  flight.skip_inner = flight.tear = flight.flip = flight.stuck = false;
  return flight;
}

void FaultDevice::do_submit(IoRequest& request) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  Flight& flight = take(request);
  for (Row& row : rules_) {
    if (hit(row.rule, request)) apply(row.rule, flight);
  }
  launch(flight);
}

void FaultDevice::launch(Flight& flight) {
  if (flight.latency_ns == 0) {
    if (!flight.stuck) send(flight);
    return;
  }
  flight.fire = [](Timer* timer) {
    auto* late = static_cast<Flight*>(timer);
    if (!late->stuck) late->device->send(*late);
  };
  loop_.arm(flight, loop_.now_ns() + flight.latency_ns);
}

void FaultDevice::send(Flight& flight) {
  if (flight.armed()) return;  // released while its latency runs: it goes when that ends
  IoRequest& request = *flight.outer;
  if (flight.skip_inner || (flight.tear && !keep_prefix(flight))) {
    Status status = flight.after;
    return finish(flight, std::move(status));
  }
  if (flight.flip && request.op == IoOp::kWrite) flip_bit_of_copy(flight);
  inner_->submit(flight.inner);
}

// Cuts the write to a random number of blocks, none included; false when nothing is left.
bool FaultDevice::keep_prefix(Flight& flight) {
  IoRequest& inner = flight.inner;
  if (inner.op != IoOp::kWrite && inner.op != IoOp::kWriteZeroes) return true;
  uint64_t blocks = inner.length_bytes / info_.block_size_bytes;
  inner.length_bytes = prng_.below(blocks) * info_.block_size_bytes;
  if (inner.length_bytes == 0) return false;
  if (inner.op == IoOp::kWriteZeroes) return true;
  flight.prefix.clear();
  uint64_t left = inner.length_bytes;
  for (uint32_t i = 0; left > 0; ++i) {
    uint64_t length = std::min<uint64_t>(inner.iov[i].iov_len, left);
    flight.prefix.push_back({.iov_base = inner.iov[i].iov_base, .iov_len = length});
    left -= length;
  }
  inner.iov = flight.prefix.data();
  inner.iov_count = static_cast<uint32_t>(flight.prefix.size());
  return true;
}

void FaultDevice::flip_bit_of_copy(Flight& flight) {
  IoRequest& inner = flight.inner;
  if (flight.copy.size() < inner.length_bytes) flight.copy = AlignedBuffer(inner.length_bytes);
  iov_gather(inner.iov, inner.iov_count, 0, flight.copy.bytes().first(inner.length_bytes));
  uint64_t bit = prng_.below(inner.length_bytes * 8);
  flight.copy.bytes()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  flight.prefix.assign(1, {.iov_base = flight.copy.data(), .iov_len = inner.length_bytes});
  inner.iov = flight.prefix.data();
  inner.iov_count = 1;
}

void FaultDevice::flip_bit_of_read(IoRequest& request) {
  uint64_t bit = prng_.below(request.length_bytes * 8);
  std::byte one{};
  iov_gather(request.iov, request.iov_count, bit / 8, {&one, 1});
  one ^= static_cast<std::byte>(1u << (bit % 8));
  iov_scatter(request.iov, request.iov_count, bit / 8, {&one, 1});
}

void FaultDevice::finish(Flight& flight, Status status) {
  IoRequest& request = *flight.outer;
  if (status.ok() && !flight.after.ok()) status = flight.after;
  if (status.ok() && flight.flip && request.op == IoOp::kRead) flip_bit_of_read(request);
  flight.outer = nullptr;
  free_.push_back(&flight);
  request.done(&request, std::move(status));
  gate_.leave();
}

namespace {

struct Chance {
  uint64_t numerator = 0;
  uint64_t denominator = 1;
};

Result<Chance> take_chance(Uri& uri, std::string_view key, std::string_view otherwise = "0") {
  std::string text = uri.take(key, otherwise);
  size_t slash = text.find('/');
  auto numerator = parse_u64(std::string_view(text).substr(0, slash), UINT32_MAX);
  Result<uint64_t> denominator = uint64_t{1};
  if (slash != std::string::npos) {
    denominator = parse_u64(std::string_view(text).substr(slash + 1), UINT32_MAX);
  }
  if (!numerator.ok() || !denominator.ok() || *denominator == 0 || *numerator > *denominator) {
    return error(
        Code::k_invalid_argument,
        "URI option {}: \"{}\" is not a probability: write 0, 1 or N/M, for example 1/1000", key,
        text.substr(0, 64));
  }
  return Chance{*numerator, *denominator};
}

Status take_range(Uri& uri, FaultRule& base) {
  std::string text = uri.take("range");
  if (text.empty()) return {};
  size_t dash = text.find('-');
  auto begin = parse_size_bytes(std::string_view(text).substr(0, dash));
  auto end = parse_size_bytes(dash == std::string::npos ? std::string_view()
                                                        : std::string_view(text).substr(dash + 1));
  if (!begin.ok() || !end.ok() || *begin >= *end) {
    return error(Code::k_invalid_argument,
                 "URI option range: \"{}\": expected OFFSET-END, for example 0-1M", text);
  }
  base.begin_bytes = *begin;
  base.end_bytes = *end;
  return {};
}

Result<std::vector<FaultRule>> take_rules(Uri& uri) {
  FaultRule base;
  BB_TRY(take_range(uri, base));
  BB_ASSIGN(base.times_left, uri.take_u64("count", UINT64_MAX));
  BB_ASSIGN(base.skip, uri.take_u64("after", 0));
  BB_ASSIGN(bool sticky, uri.take_bool("sticky", false));
  BB_ASSIGN(bool torn_ok, uri.take_bool("torn_ok", false));
  BB_ASSIGN(uint64_t latency_ns, uri.take_duration_ns("latency", 0));
  struct Kind {
    std::string_view key;
    FaultKind kind;
    uint32_t ops;
  };
  static constexpr Kind kKinds[] = {
      {"read_error", FaultKind::kError, FaultRule::kReads},
      {"write_error", FaultKind::kError, FaultRule::kChanges},
      {"flush_error", FaultKind::kError, FaultRule::kFlushes},
      {"torn_write", FaultKind::kTornWrite, FaultRule::kWrites},
      {"lost_write", FaultKind::kLostWrite, FaultRule::kChanges},
      {"bit_flip", FaultKind::kBitFlip, FaultRule::kReads},
      {"bit_flip_write", FaultKind::kBitFlip, FaultRule::kWrites},
      {"stuck", FaultKind::kStuck, FaultRule::kAll},
      {"latency_chance", FaultKind::kLatency, FaultRule::kAll},
  };
  std::vector<FaultRule> rules;
  for (const Kind& kind : kKinds) {
    bool latency = kind.kind == FaultKind::kLatency;
    BB_ASSIGN(Chance chance, take_chance(uri, kind.key, latency && latency_ns != 0 ? "1" : "0"));
    if (chance.numerator == 0) continue;
    FaultRule rule = base;
    rule.kind = kind.kind;
    rule.ops = kind.ops;
    rule.numerator = static_cast<uint32_t>(chance.numerator);
    rule.denominator = static_cast<uint32_t>(chance.denominator);
    rule.sticky = sticky && kind.kind == FaultKind::kError;
    rule.acknowledge = torn_ok;
    rule.latency_ns = latency_ns;
    rules.push_back(rule);
  }
  return rules;
}

}  // namespace

Task<Result<std::unique_ptr<Device>>> open_fault_device(Context context, Uri uri,
                                                        std::string text) {
  BB_CO_ASSIGN(uint64_t seed, uri.take_u64("seed", 1));
  auto rules = take_rules(uri);
  if (!rules.ok()) co_return rules.status().with_context(text);
  BB_CO_TRY(uri.reject_unknown());
  auto inner = co_await open_device(context, uri.rest);
  if (!inner.ok()) co_return inner.status().with_context(text);
  auto device = std::make_unique<FaultDevice>(context.loop, std::move(inner).value(), seed, text);
  for (const FaultRule& rule : *rules) device->add(rule);
  co_return std::unique_ptr<Device>(std::move(device));
}

}  // namespace bb::io
