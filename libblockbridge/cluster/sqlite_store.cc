// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "base/units.h"
#include "cluster/sqlite_file.h"
#include "cluster/store_backends.h"
#include "cluster/watch_hub.h"
#include "io/offload.h"

namespace bb::cluster {
namespace {

// The state in memory, every change in SQLite before anybody hears of it. One process has the file,
// so reads from memory are linearizable, and a watch needs no polling.
class SqliteStore final : public Store {
 public:
  SqliteStore(io::Context context, StoreLimits limits)
      : context_(context),
        core_(limits),
        hub_(core_),
        writing_(context.loop),
        leases_changed_(context.loop),
        gate_(context.loop),
        group_(context.loop) {}
  ~SqliteStore() override {
    BB_CHECK(group_.running() == 0, "a Store was destroyed while running: co_await close()");
  }

  io::Task<Status> open(std::string path, uint64_t size_max_bytes) {
    Status status;
    StoredState state;
    co_await context_.offload->run(context_.loop, [&] {
      file_ = std::make_unique<SqliteFile>();
      status = file_->open(path, size_max_bytes);
      if (!status.ok()) return;
      auto loaded = file_->load();
      status = loaded.status();
      if (loaded.ok()) state = std::move(*loaded);
    });
    if (status.ok()) {
      // We cannot know how long we were away: leases start anew, so none ends early.
      for (LeaseRecord& lease : state.leases) {
        lease.deadline_ns = context_.loop.now_ns() + lease.ttl_ns;
      }
      status = core_.restore(std::move(state.entries), std::move(state.leases), state.revision,
                             state.next_lease);
      if (!status.ok()) status = status.with_context("cluster store file:" + path);
    }
    if (!status.ok()) {
      co_await close_file();
      co_return status;
    }
    group_.spawn(expire_leases());
    co_return Status();
  }

  io::Task<Result<GetResult>> get(std::string key) override {
    if (!usable().ok()) co_return usable();
    co_return core_.get(key);
  }

  io::Task<Result<ListResult>> list(std::string prefix, size_t limit) override {
    if (!usable().ok()) co_return usable();
    co_return core_.list(prefix, limit);
  }

  io::Task<Result<TxnResult>> txn(Txn txn) override {
    if (!gate_.enter()) co_return usable();
    Result<TxnResult> result = co_await txn_inside(&txn);
    gate_.leave();
    co_return result;
  }

  io::Task<Result<uint64_t>> lease_grant(uint64_t ttl_ns) override {
    if (!gate_.enter()) co_return usable();
    Result<uint64_t> result = co_await grant_inside(ttl_ns);
    gate_.leave();
    co_return result;
  }

  io::Task<Status> lease_keep_alive(uint64_t lease) override {
    if (!usable().ok()) co_return usable();
    co_return core_.keep_alive(lease, context_.loop.now_ns());
  }

  io::Task<Status> lease_revoke(uint64_t lease) override {
    if (!gate_.enter()) co_return usable();
    Status status = co_await revoke_inside(lease);
    gate_.leave();
    co_return status;
  }

  io::Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                 uint64_t from_revision) override {
    if (!usable().ok()) co_return usable();
    co_return hub_.add(context_.loop, std::move(prefix), from_revision);
  }

  io::Task<void> close() override {
    closed_ = true;
    hub_.close_all();
    leases_changed_.set();
    co_await gate_.close();
    co_await group_.join();
    co_await close_file();
  }

 private:
  Status usable() const {
    if (closed_) return error(Code::k_cancelled, "cluster store: closed");
    return broken_;
  }

  io::Task<void> close_file() {
    co_await context_.offload->run(context_.loop, [this] { file_.reset(); });
  }

  io::Task<Result<TxnResult>> txn_inside(const Txn* txn) {
    auto held = co_await writing_.scoped();
    if (!usable().ok()) co_return usable();
    auto plan = core_.plan_txn(*txn);
    if (!plan.ok()) co_return plan.status();
    Status status = co_await make_durable(&plan->effects);
    if (!status.ok()) co_return status;
    co_return std::move(plan->result);
  }

  io::Task<Result<uint64_t>> grant_inside(uint64_t ttl_ns) {
    auto held = co_await writing_.scoped();
    if (!usable().ok()) co_return usable();
    auto effects = core_.plan_grant(ttl_ns, context_.loop.now_ns());
    if (!effects.ok()) co_return effects.status();
    Status status = co_await make_durable(&*effects);
    if (!status.ok()) co_return status;
    leases_changed_.set();
    co_return effects->granted->id;
  }

  io::Task<Status> revoke_inside(uint64_t lease) {
    auto held = co_await writing_.scoped();
    if (!usable().ok()) co_return usable();
    auto effects = core_.plan_revoke(lease);
    if (!effects.ok()) co_return effects.status();
    co_return co_await make_durable(&*effects);
  }

  // With writing_ held.
  io::Task<Status> make_durable(Effects* effects) {
    if (effects->nothing()) co_return Status();
    uint64_t next_lease =
        effects->granted.has_value() ? effects->granted->id + 1 : core_.next_lease();
    Status status;
    bool unknown = false;
    co_await context_.offload->run(context_.loop,
                                   [&] { status = file_->commit(*effects, next_lease, &unknown); });
    if (status.ok()) {
      core_.apply(*effects);
      hub_.wake();
      co_return Status();
    }
    if (unknown) {
      broken_ = error(Code::k_unavailable,
                      "{}; whether it was stored is unknown until the store is opened again",
                      status.text());
      log_error("{} -> cluster store out of service", broken_.to_string());
      co_return broken_;
    }
    co_return status;
  }

  io::Task<void> expire_leases() {
    while (!closed_ && broken_.ok()) {
      auto ended = core_.expired_lease(context_.loop.now_ns());
      leases_changed_.reset();
      uint64_t next = core_.next_expiry_ns().value_or(UINT64_MAX);
      if (ended.has_value()) {
        Status status = co_await expire(*ended);
        if (status.ok()) continue;
        log_warn("lease {} has ended: {} -> trying again in 1 s", *ended, status.to_string());
        next = context_.loop.now_ns() + kNsPerSecond;
      }
      if (closed_) break;
      if (next == UINT64_MAX) {
        co_await leases_changed_.wait();
      } else {
        (void)co_await leases_changed_.wait_until(next);
      }
    }
  }

  // Kept alive at the last moment, it lives on: asked again once the lock is ours.
  io::Task<Status> expire(uint64_t lease) {
    auto held = co_await writing_.scoped();
    if (!usable().ok()) co_return usable();
    if (core_.expired_lease(context_.loop.now_ns()) != lease) co_return Status();
    auto effects = core_.plan_revoke(lease);
    if (!effects.ok()) co_return effects.status();
    co_return co_await make_durable(&*effects);
  }

  io::Context context_;
  KvCore core_;
  WatchHub hub_;
  std::unique_ptr<SqliteFile> file_;  // used on the offload thread only
  io::Mutex writing_;
  io::Event leases_changed_;
  Status broken_;
  bool closed_ = false;
  io::Gate gate_;
  io::TaskGroup group_;
};

}  // namespace

io::Task<Result<std::unique_ptr<Store>>> open_sqlite_store(io::Context context, Uri uri,
                                                           StoreLimits limits) {
  if (context.offload == nullptr) {
    co_return error(Code::k_not_supported, "cluster store file:{}: no files in the simulator",
                    uri.rest);
  }
  auto size_max = uri.take_size("max_size", 0);
  if (!size_max.ok()) co_return size_max.status();
  Status known = uri.reject_unknown();
  if (!known.ok()) co_return known;
  if (uri.rest.empty()) {
    co_return error(Code::k_invalid_argument, "cluster store file: without a path");
  }
  auto store = std::make_unique<SqliteStore>(context, limits);
  Status opened = co_await store->open(uri.rest, *size_max);
  if (!opened.ok()) co_return opened;
  co_return std::unique_ptr<Store>(std::move(store));
}

}  // namespace bb::cluster
