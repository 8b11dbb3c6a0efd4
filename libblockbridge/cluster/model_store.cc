// SPDX-License-Identifier: Apache-2.0
#include "cluster/model_store.h"

#include "cluster/store_backends.h"

namespace bb::cluster {

ModelCluster::ModelCluster(io::Loop& loop, Prng prng, StoreLimits limits)
    : loop_(loop), prng_(prng), core_(limits), hub_(core_), leases_changed_(loop), group_(loop) {
  group_.spawn(expire_leases());
}

ModelCluster::~ModelCluster() {
  BB_CHECK(group_.running() == 0, "a ModelCluster was destroyed while running: co_await close()");
}

void ModelCluster::set_partitioned(const std::string& node, bool partitioned) {
  links_[node].cut_off = partitioned;
  hub_.wake();
}

io::Task<void> ModelCluster::expire_leases() {
  while (!stopping_) {
    auto ended = core_.expired_lease(loop_.now_ns());
    if (ended.has_value()) {
      core_.apply(*core_.plan_revoke(*ended));
      hub_.wake();
      continue;
    }
    leases_changed_.reset();
    auto next = core_.next_expiry_ns();
    if (next.has_value()) {
      (void)co_await leases_changed_.wait_until(*next);
    } else {
      co_await leases_changed_.wait();
    }
  }
}

io::Task<void> ModelCluster::apply_late(Change change, uint64_t delay_ns) {
  co_await loop_.sleep_for(delay_ns);
  if (!stopping_) change();
}

ModelCluster::Outcome ModelCluster::draw_outcome() {
  if (forced_.has_value()) return *std::exchange(forced_, std::nullopt);
  return static_cast<Outcome>(prng_.below(3));
}

io::Task<void> ModelCluster::close() {
  stopping_ = true;
  hub_.close_all();
  leases_changed_.set();
  co_await group_.join();
}

class ModelStore final : public Store {
 public:
  ModelStore(io::Context context, ModelCluster& cluster, std::string node)
      : context_(context),
        cluster_(cluster),
        node_(std::move(node)),
        link_(cluster.links_[node_]),
        gate_(context.loop) {}

  io::Task<Result<GetResult>> get(std::string key) override {
    Status reached = co_await travel();
    if (!reached.ok()) co_return reached;
    Result<GetResult> result = cluster_.core_.get(key);
    co_return result;
  }

  io::Task<Result<ListResult>> list(std::string prefix, size_t limit) override {
    Status reached = co_await travel();
    if (!reached.ok()) co_return reached;
    co_return cluster_.core_.list(prefix, limit);
  }

  io::Task<Result<TxnResult>> txn(Txn txn) override {
    ModelCluster* cluster = &cluster_;
    auto result = std::make_shared<Result<TxnResult>>(TxnResult{});
    Status reached = co_await change([cluster, result, txn = std::move(txn)] {
      auto plan = cluster->core_.plan_txn(txn);
      if (!plan.ok()) {
        *result = plan.status();
        return;
      }
      cluster->core_.apply(plan->effects);
      *result = std::move(plan->result);
      cluster->hub_.wake();
    });
    if (!reached.ok()) co_return reached;
    co_return std::move(*result);
  }

  io::Task<Result<uint64_t>> lease_grant(uint64_t ttl_ns) override {
    ModelCluster* cluster = &cluster_;
    auto result = std::make_shared<Result<uint64_t>>(uint64_t{0});
    Status reached = co_await change([cluster, result, ttl_ns] {
      auto effects = cluster->core_.plan_grant(ttl_ns, cluster->loop_.now_ns());
      if (!effects.ok()) {
        *result = effects.status();
        return;
      }
      cluster->core_.apply(*effects);
      cluster->leases_changed_.set();
      *result = effects->granted->id;
    });
    if (!reached.ok()) co_return reached;
    co_return std::move(*result);
  }

  io::Task<Status> lease_keep_alive(uint64_t lease) override {
    ModelCluster* cluster = &cluster_;
    auto result = std::make_shared<Status>();
    Status reached = co_await change([cluster, result, lease] {
      *result = cluster->core_.keep_alive(lease, cluster->loop_.now_ns());
    });
    if (!reached.ok()) co_return reached;
    co_return *result;
  }

  io::Task<Status> lease_revoke(uint64_t lease) override {
    ModelCluster* cluster = &cluster_;
    auto result = std::make_shared<Status>();
    Status reached = co_await change([cluster, result, lease] {
      auto effects = cluster->core_.plan_revoke(lease);
      *result = effects.status();
      if (!effects.ok()) return;
      cluster->core_.apply(*effects);
      cluster->hub_.wake();
    });
    if (!reached.ok()) co_return reached;
    co_return *result;
  }

  io::Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                 uint64_t from_revision) override {
    Status reached = co_await travel();
    if (!reached.ok()) co_return reached;
    co_return cluster_.hub_.add(context_.loop, std::move(prefix), from_revision, &link_.cut_off);
  }

  io::Task<void> close() override {
    co_await gate_.close();
    if (own_ != nullptr) co_await own_->close();
  }

  void own(std::unique_ptr<ModelCluster> cluster) { own_ = std::move(cluster); }

 private:
  Status timed_out() const { return error(Code::k_timed_out, "cluster store: no answer in time"); }

  // To the cluster: with the error of a call that certainly did nothing.
  io::Task<Status> travel() {
    if (!gate_.enter()) co_return error(Code::k_cancelled, "cluster store: closed");
    Status status = co_await travel_inside();
    gate_.leave();
    co_return status;
  }

  io::Task<Status> travel_inside() {
    const ModelFaults& faults = cluster_.faults_;
    if (faults.latency_max_ns > 0) {
      co_await context_.loop.sleep_for(cluster_.prng_.below(faults.latency_max_ns));
    }
    if (faults.unavailable_one_in != 0 && cluster_.prng_.chance(faults.unavailable_one_in)) {
      co_return error(Code::k_unavailable, "cluster store: not reachable");
    }
    if (link_.cut_off) {
      co_await context_.loop.sleep_for(faults.timeout_ns);
      co_return timed_out();
    }
    co_return Status();
  }

  io::Task<Status> change(ModelCluster::Change change) {
    Status reached = co_await travel();
    if (!reached.ok()) co_return reached;
    if (!gate_.enter()) co_return error(Code::k_cancelled, "cluster store: closed");
    const ModelFaults& faults = cluster_.faults_;
    bool unknown = cluster_.forced_.has_value() ||
                   (faults.unknown_one_in != 0 && cluster_.prng_.chance(faults.unknown_one_in));
    if (!unknown) {
      change();
      gate_.leave();
      co_return Status();
    }
    switch (cluster_.draw_outcome()) {
      case ModelCluster::Outcome::kHappened:
        change();
        break;
      case ModelCluster::Outcome::kHappensLater:
        cluster_.group_.spawn(cluster_.apply_late(
            std::move(change), faults.timeout_ns + cluster_.prng_.below(faults.late_max_ns)));
        break;
      case ModelCluster::Outcome::kNever:
        break;
    }
    co_await context_.loop.sleep_for(faults.timeout_ns);
    gate_.leave();
    co_return timed_out();
  }

  io::Context context_;
  ModelCluster& cluster_;
  std::string node_;
  ModelCluster::Link& link_;
  io::Gate gate_;
  std::unique_ptr<ModelCluster> own_;
};

std::unique_ptr<Store> ModelCluster::connect(io::Context context, std::string node) {
  return std::make_unique<ModelStore>(context, *this, std::move(node));
}

io::Task<Result<std::unique_ptr<Store>>> open_model_store(io::Context context, Uri uri,
                                                          StoreLimits limits) {
  Status known = uri.reject_unknown();
  if (!known.ok()) co_return known;
  auto cluster = std::make_unique<ModelCluster>(context.loop, context.loop.prng().fork(), limits);
  auto store = std::make_unique<ModelStore>(context, *cluster, "local");
  store->own(std::move(cluster));
  co_return std::unique_ptr<Store>(std::move(store));
}

}  // namespace bb::cluster
