// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/nvme_path.h"

#include <algorithm>

#include "base/log.h"
#include "base/mutant.h"
#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kBackoffFirstNs = 10 * kNsPerMs;
constexpr uint64_t kBackoffMaxNs = 5 * kNsPerSecond;
constexpr uint64_t kBackoffFlappingNs = 50 * kNsPerMs;  // it can be reached, and does not last
constexpr uint64_t kEventPauseNs = 10 * kNsPerMs;  // a controller may not keep us busy with events
constexpr uint32_t kEvents = kEventConfigNamespace | kEventConfigAna;

}  // namespace

NvmePath::NvmePath(Context context, const NvmeOptions& options, std::string address, size_t index,
                   Owner& owner)
    : context_(context),
      options_(options.association),
      connect_timeout_ns_(options.connect_timeout_ns),
      fence_given_ns_(options.fence_ns),
      index_(index),
      owner_(owner),
      wake_(context.loop),
      run_(context.loop) {
  options_.address = std::move(address);
}

void NvmePath::tell_to_stop() {
  stopping_ = true;
  wake_.set();
  if (!live()) break_off(error(Code::k_cancelled, "{}: closed", options_.address));
}

Task<void> NvmePath::stop() {
  tell_to_stop();
  co_await run_.join();
}

uint64_t NvmePath::answer_by_ns() const {
  uint64_t limit_ns = options_.keep_alive_ns != 0 ? options_.keep_alive_ns : connect_timeout_ns_;
  return context_.loop.now_ns() + limit_ns;
}

uint64_t NvmePath::ana_transition_ns() const {
  uint64_t seconds = association_ != nullptr ? controller().ana_transition_s : 0;
  return std::max<uint64_t>(seconds, 1) * kNsPerSecond;
}

uint64_t NvmePath::settled_below() const {
  if (!live()) return 0;
  bool promised = fences_reconnect_ || BB_MUTANT(kTrustReconnect);
  return promised ? number_ : 0;
}

Task<void> NvmePath::run() {
  uint64_t backoff_ns = kBackoffFirstNs;
  while (!stopping_) {
    state_ = State::kConnecting;
    tasks_ = std::make_unique<TaskGroup>(context_.loop);
    Status status = co_await connect();
    if (status.ok() && association_->broken()) status = association_->why();
    if (status.ok() && !stopping_) {
      co_await stay();
      uint64_t lasted_ns = context_.loop.now_ns() - live_since_ns_;
      if (lasted_ns > 2 * kBackoffMaxNs) backoff_ns = kBackoffFirstNs;
      backoff_ns = std::min(backoff_ns, kBackoffFlappingNs);
    } else if (!stopping_) {
      ++failures_;
      state_ = State::kWaiting;
      bool again = why_.text() == status.text();
      if (!again) log_info("{}: {} -> trying again", options_.address, status.text());
      why_ = std::move(status);
      owner_.on_path_failed(*this);
    }
    co_await association_->close();
    co_await tasks_->join();
    association_.reset();
    state_ = State::kWaiting;
    if (stopping_) break;
    co_await rest(backoff_ns);
    backoff_ns = std::min(2 * backoff_ns, kBackoffMaxNs);
  }
  state_ = State::kClosed;
}

Task<void> NvmePath::rest(uint64_t backoff_ns) {
  uint64_t until_ns =
      context_.loop.now_ns() + backoff_ns / 2 + context_.loop.prng().below(backoff_ns);
  wake_.reset();
  while (!stopping_ && co_await wake_.wait_until(until_ns)) wake_.reset();
}

// The events are enabled before the state is read, so that no change falls in between.
Task<Status> NvmePath::connect() {
  uint64_t deadline_ns = context_.loop.now_ns() + connect_timeout_ns_;
  Association::Owner* owner = this;
  association_ = std::make_unique<Association>(context_, options_, owner);
  ++number_;
  BB_CO_TRY(co_await association_->establish_admin(deadline_ns));
  BB_CO_TRY(co_await association_->establish_io(deadline_ns));
  if ((controller().async_events & kEvents) != 0) {
    BB_CO_TRY(co_await association_->enable_events(kEvents, deadline_ns));
  }
  BB_CO_ASSIGN(ana_, co_await association_->read_ana_state(deadline_ns));
  if (association_->broken()) co_return association_->why();
  note_limits();
  Status accepted = co_await owner_.on_path_connected(this);
  if (accepted.ok() && association_->broken()) co_return association_->why();
  co_return accepted;
}

void NvmePath::note_limits() {
  queue_in_flight_.assign(association_->queues().size(), 0);
  load_.capacity =
      uint32_t{association_->queue_depth()} * static_cast<uint32_t>(association_->queues().size());
  load_.in_flight = 0;
  load_.latency_ns = 0;
  fences_reconnect_ = controller().fences_reconnect;
  uint64_t granularity_ns = uint64_t{controller().keep_alive_granularity_ms} * kNsPerMs;
  uint64_t kept_ns = options_.keep_alive_ns;
  if (granularity_ns != 0) kept_ns = round_up(kept_ns, granularity_ns);
  fence_after_ns_ = nvme::fence_after_ns(
      {.keep_alive_ns = kept_ns,
       .traffic_keeps_alive = (controller().attributes & kCtrattTrafficKeepsAlive) != 0,
       .quiesce_ns = uint64_t{controller().quiesce_ms} * kNsPerMs});
  if (fence_given_ns_ != 0) fence_after_ns_ = fence_given_ns_;
}

Task<void> NvmePath::stay() {
  live_since_ns_ = context_.loop.now_ns();
  last_answer_ns_ = live_since_ns_;
  state_ = State::kLive;
  ++connects_;
  set_ana(ana_);
  owner_.on_path_live(*this);
  if ((controller().async_events & kEvents) != 0) tasks_->spawn(follow_events());
  uint64_t keep_alive_ns = options_.keep_alive_ns;
  uint64_t pause_ns = keep_alive_ns == 0 ? 3600 * kNsPerSecond : keep_alive_ns / 2;
  uint64_t due_ns = live_since_ns_ + pause_ns;
  while (live() && !stopping_) {
    uint64_t until_ns = due_ns;
    if (in_transition()) {
      until_ns = std::min(until_ns, transition_since_ns_ + ana_transition_ns() + 1);
    }
    co_await wake_.wait_until(until_ns);
    wake_.reset();
    uint64_t now_ns = context_.loop.now_ns();
    if (!live() || stopping_) break;
    if (in_transition() && now_ns - transition_since_ns_ > ana_transition_ns()) {
      break_off(error(Code::k_timed_out, "{}: the ANA state is change for more than {} s",
                      options_.address, ana_transition_ns() / kNsPerSecond));
      break;
    }
    if (std::exchange(look_, false)) {
      Status looked = co_await take_event(kEventAnaChanged);
      if (!looked.ok() && live()) break_off(looked.with_context(options_.address));
      continue;
    }
    bool asked = std::exchange(ping_, false);
    if (now_ns < due_ns && !asked) continue;
    due_ns = now_ns + pause_ns;
    if (keep_alive_ns == 0 && !asked) continue;
    Status kept = co_await association_->keep_alive(answer_by_ns());
    if (kept.ok()) {
      last_answer_ns_ = std::max(last_answer_ns_, now_ns);
      owner_.on_path_answered(*this);
    } else {
      association_->break_off(kept.with_context("keep alive"));
    }
  }
  if (live()) break_off(error(Code::k_cancelled, "{}: closed", options_.address));
}

void NvmePath::on_association_broken(Association& association) {
  wake_.set();
  if (&association != association_.get() || !live()) return;  // not in use yet
  state_ = State::kWaiting;
  cut_ns_ = context_.loop.now_ns();
  why_ = association.why();
  load_.usable = false;
  owner_.on_path_lost(*this);
}

void NvmePath::break_off(Status why) {
  if (association_ != nullptr) association_->break_off(std::move(why));
}

void NvmePath::prove_alive() {
  ping_ = true;
  wake_.set();
}

void NvmePath::look_again() {
  if (!live() || !controller().ana) return;
  look_ = true;
  wake_.set();
}

void NvmePath::set_ana(AnaState state) {
  if (state == AnaState::kChange && ana_ != state) transition_since_ns_ = context_.loop.now_ns();
  ana_ = state;
  load_.usable = usable();
  load_.optimized = ana_ == AnaState::kOptimized;
  wake_.set();
}

size_t NvmePath::take_queue() {
  size_t count = association_->queues().size();
  uint32_t depth = association_->queue_depth();
  for (size_t step = 0; step < count; ++step) {
    next_queue_ = (next_queue_ + 1) % count;
    if (queue_in_flight_[next_queue_] < depth) break;
  }
  BB_CHECK(queue_in_flight_[next_queue_] < depth, "{}: no room", options_.address);
  ++queue_in_flight_[next_queue_];
  ++load_.in_flight;
  return next_queue_;
}

void NvmePath::issue(NvmeRequest& request, uint64_t now_ns) {
  size_t queue = take_queue();
  request.path = index_;
  request.queue = static_cast<uint16_t>(queue);
  request.issued_ns = now_ns;
  request.aborting = false;
  association_->queues()[queue]->submit(request);
}

// Among the tasks of the association, which go before it does.
Task<Status> NvmePath::run(SyncCommand* command, uint64_t deadline_ns) {
  Event ended(context_.loop);
  Status status;
  tasks_->spawn(run_on_queue(command, deadline_ns, &status, &ended));
  co_await ended.wait();
  co_return status;
}

Task<void> NvmePath::run_on_queue(SyncCommand* command, uint64_t deadline_ns, Status* status,
                                  Event* ended) {
  size_t queue = take_queue();
  *status = co_await association_->queues()[queue]->run(command, deadline_ns);
  --queue_in_flight_[queue];
  --load_.in_flight;
  ended->set();
}

void NvmePath::ended(const NvmeRequest& request, bool answered) {
  --queue_in_flight_[request.queue];
  --load_.in_flight;
  if (!answered) return;
  last_answer_ns_ = std::max(last_answer_ns_, request.issued_ns);
  // One in eight is enough to see a trend by, and spares the others a look at the clock.
  if ((answers_++ & 7) == 0) load_.note_latency(context_.loop.now_ns() - request.issued_ns);
}

void NvmePath::abort(const NvmeRequest& request) {
  if (aborting_ || !live()) return;  // one at a time: the next look at the clock asks again
  aborting_ = true;
  tasks_->spawn(abort_command(static_cast<uint16_t>(request.queue + 1), request.sqe.command_id));
}

Task<void> NvmePath::abort_command(uint16_t queue_id, uint16_t command_id) {
  auto taken = co_await association_->abort(queue_id, command_id, answer_by_ns());
  aborting_ = false;
  if (taken.ok() && *taken) co_return;  // its completion says so
  break_off(error(Code::k_timed_out, "{}: no answer to command {} in time -> connection reset{}",
                  options_.address, command_id, taken.ok() ? ", since it cannot be aborted" : ""));
}

Task<void> NvmePath::follow_events() {
  while (live()) {
    auto event = co_await association_->next_event();
    if (!event.ok() || !live()) co_return;
    Status taken = co_await take_event(*event);
    if (!taken.ok()) {
      if (live()) break_off(taken.with_context(options_.address));
      co_return;
    }
    co_await context_.loop.sleep_for(kEventPauseNs);
  }
}

// Reading the log page is what arms the event again (NVMe base 2.0, 5.2).
Task<Status> NvmePath::take_event(uint32_t event) {
  auto page = static_cast<LogId>((event >> 16) & 0xff);
  if (page == LogId::kAsymmetricAccess) {
    BB_CO_ASSIGN(AnaState state, co_await association_->read_ana_state(answer_by_ns()));
    if (!live() || state == ana_) co_return Status();
    log_info("{}: ANA state {} -> {}", options_.address, ana_state_name(ana_),
             ana_state_name(state));
    set_ana(state);
    owner_.on_path_changed(*this);
    co_return Status();
  }
  if (page != LogId::kChangedNamespaces) co_return Status();
  auto list = co_await association_->get_log_page(page, 0, 4096, answer_by_ns());
  if (!list.ok()) co_return list.status();
  BB_CO_TRY(co_await association_->read_namespace(answer_by_ns()));
  if (!live()) co_return Status();
  co_return owner_.on_namespace_changed(*this);
}

std::string_view path_state_name(const NvmePath& path) {
  switch (path.state()) {
    case NvmePath::State::kConnecting:
      return "connecting";
    case NvmePath::State::kLive:
      return "live";
    case NvmePath::State::kWaiting:
      return "lost";
    case NvmePath::State::kClosed:
      return "closed";
  }
  return "?";
}

}  // namespace bb::io::nvme
