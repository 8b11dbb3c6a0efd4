// SPDX-License-Identifier: Apache-2.0
// What every backend of cluster::Store must do. A new backend is one row in kBackends.
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/units.h"
#include "cluster/store.h"
#include "io/offload.h"
#include "io/reactor.h"
#include "io/sync.h"
#include "io/tcp.h"

namespace bb::cluster {
namespace {

struct Backend {
  const char* name;
  bool keeps;  // its content is there again when opened again
};
constexpr Backend kBackends[] = {{"model", false}, {"file", true}};

class StoreConformance : public testing::TestWithParam<Backend> {
 protected:
  std::unique_ptr<io::Reactor> reactor = std::move(io::Reactor::create()).value();
  io::Offload offload;
  std::unique_ptr<io::Network> network = io::make_tcp_network(*reactor, &offload);
  io::Context context{*reactor, *network, reactor.get(), &offload};
  std::string path = fmt::format("{}bb-store-{}.db", testing::TempDir(), ::getpid());
  StoreLimits limits;
  std::unique_ptr<Store> store;

  void SetUp() override {
    remove_files();
    open();
  }
  void TearDown() override {
    close();
    remove_files();
  }
  void remove_files() {
    for (const char* end : {"", "-wal", "-shm"}) ::unlink((path + end).c_str());
  }
  void open() {
    std::string uri = GetParam().keeps ? "file:" + path : "model:";
    auto opened = reactor->block_on(open_store(context, uri, limits));
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    store = std::move(opened).value();
  }
  void close() {
    if (store != nullptr) reactor->block_on(store->close());
    store.reset();
  }

  Result<TxnResult> txn(Txn t) { return reactor->block_on(store->txn(std::move(t))); }
  uint64_t put(std::string key, std::string value, uint64_t lease = 0) {
    auto result = txn({.then_ops = {Op::put(std::move(key), std::move(value), lease)}});
    EXPECT_TRUE(result.ok()) << result.status().to_string();
    return result.ok() ? result->revision : 0;
  }
  std::optional<KeyValue> get(std::string key) {
    auto result = reactor->block_on(store->get(std::move(key)));
    EXPECT_TRUE(result.ok()) << result.status().to_string();
    return result.ok() ? result->entry : std::nullopt;
  }
  std::vector<std::string> keys(std::string prefix, size_t limit = 100) {
    auto result = reactor->block_on(store->list(std::move(prefix), limit));
    EXPECT_TRUE(result.ok()) << result.status().to_string();
    std::vector<std::string> names;
    if (result.ok()) {
      for (const KeyValue& entry : result->entries) names.push_back(entry.key);
    }
    return names;
  }
  std::unique_ptr<Watch> watch(std::string prefix, uint64_t from) {
    return std::move(reactor->block_on(store->watch(std::move(prefix), from))).value();
  }
  bool gone_within(const std::string& key, uint64_t ns) {
    uint64_t until = reactor->now_ns() + ns;
    while (get(key).has_value()) {
      if (reactor->now_ns() > until) return false;
      reactor->block_on(pause());
    }
    return true;
  }
  // Keeps a lease of `ttl` alive for twice as long. nullopt: the machine stood still for longer
  // than the lease lasts, so it may have ended rightly, and the caller takes a longer one.
  std::optional<uint64_t> kept_lease(uint64_t ttl) {
    uint64_t started = reactor->now_ns();
    uint64_t kept = started;
    uint64_t lease = *reactor->block_on(store->lease_grant(ttl));
    bool ok = txn({.then_ops = {Op::put("leased", "1", lease)}}).ok() &&
              txn({.then_ops = {Op::put("freed", "1", lease)}}).ok() &&
              txn({.then_ops = {Op::put("freed", "2")}}).ok();  // without the lease: freed of it
    while (ok && reactor->now_ns() - started < 2 * ttl) {
      reactor->block_on(pause());
      uint64_t asked = reactor->now_ns();
      ok = reactor->block_on(store->lease_keep_alive(lease)).ok();
      if (ok) kept = asked;
    }
    ok = ok && get("leased").has_value();
    if (ok) return lease;
    EXPECT_GE(reactor->now_ns() - kept, ttl) << "a lease ended before its time";
    return std::nullopt;
  }
  io::Task<void> pause() { co_await reactor->sleep_for(5 * kNsPerMs); }
};

TEST_P(StoreConformance, RevisionsAreThoseOfEtcd) {
  EXPECT_FALSE(get("a").has_value());
  uint64_t first = put("a", "1");
  EXPECT_EQ(*get("a"), (KeyValue{"a", "1", first, first, 1, 0}));
  uint64_t second = put("a", std::string("\0\xff", 2));
  EXPECT_EQ(second, first + 1);
  EXPECT_EQ(*get("a"), (KeyValue{"a", std::string("\0\xff", 2), first, second, 2, 0}));
  EXPECT_EQ(txn({.then_ops = {Op::erase("nothing")}})->revision, second);
  EXPECT_EQ(txn({.then_ops = {Op::erase("a")}})->revision, second + 1);
  EXPECT_EQ(put("a", ""), second + 2);
  EXPECT_EQ(get("a")->version, 1u);
  EXPECT_EQ(get("a")->create_revision, second + 2);
}

TEST_P(StoreConformance, CompareAndSet) {
  auto created = txn({.compares = {Compare::absent("k")}, .then_ops = {Op::put("k", "1")}});
  EXPECT_TRUE(created->succeeded);
  auto again = txn({.compares = {Compare::absent("k")},
                    .then_ops = {Op::put("k", "2")},
                    .else_reads = {"k", "other"}});
  EXPECT_FALSE(again->succeeded);
  EXPECT_EQ(again->revision, created->revision);
  ASSERT_EQ(again->reads.size(), 2u);
  EXPECT_EQ(again->reads[0]->value, "1");
  EXPECT_FALSE(again->reads[1].has_value());

  uint64_t revision = get("k")->mod_revision;
  Txn step{.compares = {Compare::unchanged("k", revision), Compare::equals("k", "1")},
           .then_ops = {Op::put("k", "2"), Op::put("l", "3"), Op::erase("m")}};
  EXPECT_TRUE(txn(step)->succeeded);
  EXPECT_FALSE(txn(step)->succeeded);
  EXPECT_EQ(get("k")->mod_revision, get("l")->mod_revision);
  EXPECT_FALSE(txn({.compares = {Compare::equals("none", "")}})->succeeded);
}

TEST_P(StoreConformance, ListsByPrefixInOrder) {
  for (const char* key : {"/b/2", "/a", "/b/1", "/b", "/b/10", "/c"}) put(key, "x");
  EXPECT_EQ(keys("/b/"), (std::vector<std::string>{"/b/1", "/b/10", "/b/2"}));
  EXPECT_EQ(keys("").size(), 6u);
  EXPECT_TRUE(keys("/d").empty());
  auto some = reactor->block_on(store->list("/b", 2));
  EXPECT_EQ(some->entries.size(), 2u);
  EXPECT_TRUE(some->more);
}

TEST_P(StoreConformance, RefusesBadCallsAndChangesNothing) {
  uint64_t before = put("a", "1");
  Txn many;
  for (size_t i = 0; i <= limits.operations_max; ++i) {
    many.then_ops.push_back(Op::put(fmt::format("k{}", i), ""));
  }
  const Txn bad[] = {
      {.then_ops = {Op::put("", "x")}},
      {.then_ops = {Op::put(std::string(limits.key_bytes_max + 1, 'k'), "x")}},
      {.then_ops = {Op::put("b", std::string(limits.value_bytes_max + 1, 'v'))}},
      {.then_ops = {Op::put("b", "1"), Op::erase("b")}},
      {.compares = {Compare::absent("")}},
      many,
  };
  for (const Txn& t : bad) EXPECT_EQ(txn(t).code(), Code::k_invalid_argument);
  EXPECT_EQ(txn({.then_ops = {Op::put("b", "1"), Op::put("c", "1", 99)}}).code(),
            Code::k_not_found);
  EXPECT_EQ(reactor->block_on(store->list("", 0)).code(), Code::k_invalid_argument);
  EXPECT_EQ(keys(""), (std::vector<std::string>{"a"}));
  EXPECT_EQ(put("z", ""), before + 1);
}

TEST_P(StoreConformance, AFullStoreTakesNoMoreButStillShrinks) {
  close();
  remove_files();
  limits.keys_max = 3;
  limits.total_bytes_max = 100;
  open();
  put("a", "1");
  put("b", std::string(90, 'b'));
  EXPECT_EQ(txn({.then_ops = {Op::put("c", std::string(20, 'c'))}}).code(), Code::k_no_space);
  put("c", "");
  EXPECT_EQ(txn({.then_ops = {Op::put("d", "")}}).code(), Code::k_no_space);
  EXPECT_TRUE(txn({.then_ops = {Op::erase("b")}}).ok());
  put("d", "1");
  EXPECT_EQ(keys(""), (std::vector<std::string>{"a", "c", "d"}));
}

TEST_P(StoreConformance, LeasesEndAndTakeTheirKeys) {
  put("kept", "1");
  std::optional<uint64_t> kept;
  for (uint64_t ttl = 100 * kNsPerMs; !kept && ttl < 20 * kNsPerSecond && !HasFailure(); ttl *= 4) {
    kept = kept_lease(ttl);
  }
  ASSERT_TRUE(kept.has_value());
  uint64_t lease = *kept;
  EXPECT_TRUE(gone_within("leased", 30 * kNsPerSecond));
  EXPECT_EQ(keys(""), (std::vector<std::string>{"freed", "kept"}));
  EXPECT_EQ(reactor->block_on(store->lease_keep_alive(lease)).code(), Code::k_not_found);
  EXPECT_EQ(reactor->block_on(store->lease_grant(0)).code(), Code::k_invalid_argument);

  uint64_t other = *reactor->block_on(store->lease_grant(3600 * kNsPerSecond));
  EXPECT_NE(other, lease);
  put("x", "1", other);
  EXPECT_TRUE(reactor->block_on(store->lease_revoke(other)).ok());
  EXPECT_FALSE(get("x").has_value());
  EXPECT_EQ(reactor->block_on(store->lease_revoke(other)).code(), Code::k_not_found);
}

TEST_P(StoreConformance, WatchesSeeEveryChangeOnce) {
  uint64_t start = put("/w/a", "1");
  auto from_start = watch("/w/", start);
  auto from_now = watch("/w/", 0);
  put("/x", "no");
  uint64_t both = txn({.then_ops = {Op::put("/w/b", "2"), Op::erase("/w/a")}})->revision;
  auto seen = reactor->block_on(from_start->next());
  ASSERT_EQ(seen->size(), 3u);
  EXPECT_EQ((*seen)[0].entry.value, "1");
  EXPECT_EQ((*seen)[2].kind, WatchEvent::Kind::kDelete);
  EXPECT_EQ((*seen)[2].entry.mod_revision, both);
  EXPECT_EQ(reactor->block_on(from_now->next())->size(), 2u);
  from_now->cancel();
  EXPECT_EQ(reactor->block_on(from_now->next()).code(), Code::k_cancelled);
}

io::Task<void> collect(Watch* watch, size_t wanted, std::vector<std::string>* values) {
  while (values->size() < wanted) {
    auto events = co_await watch->next();
    if (!events.ok()) break;
    for (const WatchEvent& event : *events) values->push_back(event.entry.value);
  }
}

io::Task<void> put_while_watched(io::Loop* loop, Store* store, std::vector<std::string>* values) {
  auto watch = co_await store->watch("n", 0);
  io::TaskGroup group(*loop);
  group.spawn(collect(watch->get(), 20, values));
  for (int i = 0; i < 20; ++i) {
    auto done = co_await store->txn({.then_ops = {Op::put("n", std::to_string(i))}});
    EXPECT_TRUE(done.ok());
  }
  co_await group.join();
}

TEST_P(StoreConformance, AWaitingWatchIsWoken) {
  std::vector<std::string> values;
  reactor->block_on(put_while_watched(reactor.get(), store.get(), &values));
  ASSERT_EQ(values.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], std::to_string(i));
}

TEST_P(StoreConformance, AWatchThatLagsTooFarMustListAgain) {
  close();
  remove_files();
  limits.history_events_max = 4;
  open();
  uint64_t start = put("k", "0");
  auto late = watch("k", start);
  auto elsewhere = watch("other", start);
  for (int i = 1; i <= 3; ++i) put("k", std::to_string(i));
  EXPECT_EQ(reactor->block_on(late->next())->size(), 4u);
  for (int i = 0; i < 5; ++i) put("k", "x");
  auto lost = reactor->block_on(late->next());
  EXPECT_EQ(lost.code(), Code::k_bad_state);
  EXPECT_NE(lost.status().text().find("list again"), std::string::npos);
  EXPECT_EQ(reactor->block_on(elsewhere->next()).code(), Code::k_bad_state);
}

// Many writers of one counter: every increment that was acknowledged is counted, none twice.
io::Task<void> increment(Store* store, int times, int* failed_compares) {
  while (times > 0) {
    auto read = co_await store->get("counter");
    std::string value = read->entry.has_value() ? read->entry->value : "0";
    uint64_t revision = read->entry.has_value() ? read->entry->mod_revision : 0;
    auto done = co_await store->txn(
        {.compares = {Compare::unchanged("counter", revision)},
         .then_ops = {Op::put("counter", std::to_string(std::stoi(value) + 1))}});
    if (done->succeeded) {
      --times;
    } else {
      ++*failed_compares;
    }
  }
}

io::Task<void> increment_from_many(io::Loop* loop, Store* store, int* failed_compares) {
  io::TaskGroup group(*loop);
  for (int i = 0; i < 8; ++i) group.spawn(increment(store, 10, failed_compares));
  co_await group.join();
}

TEST_P(StoreConformance, ConcurrentCompareAndSetLosesNothing) {
  int failed_compares = 0;
  reactor->block_on(increment_from_many(reactor.get(), store.get(), &failed_compares));
  EXPECT_EQ(get("counter")->value, "80");
  EXPECT_EQ(get("counter")->version, 80u);
}

TEST_P(StoreConformance, OpenedAgainItHasEverything) {
  if (!GetParam().keeps) GTEST_SKIP() << "skipped: this backend keeps nothing";
  uint64_t lease = *reactor->block_on(store->lease_grant(3600 * kNsPerSecond));
  put("a", "1");
  put("b", std::string(100'000, 'b'), lease);
  put("c", "");
  EXPECT_TRUE(txn({.then_ops = {Op::erase("c")}}).ok());
  auto before = reactor->block_on(store->list("", 10));
  close();
  open();
  auto after = reactor->block_on(store->list("", 10));
  EXPECT_EQ(after->entries, before->entries);
  EXPECT_EQ(after->revision, before->revision);
  EXPECT_TRUE(reactor->block_on(store->lease_keep_alive(lease)).ok());
  EXPECT_GT(*reactor->block_on(store->lease_grant(kNsPerSecond)), lease);
  auto old = watch("a", before->revision);
  EXPECT_EQ(reactor->block_on(old->next()).code(), Code::k_bad_state);
}

TEST_P(StoreConformance, AClosedStoreSaysSo) {
  auto open_watch = watch("", 0);
  reactor->block_on(store->close());
  EXPECT_EQ(reactor->block_on(open_watch->next()).code(), Code::k_cancelled);
  EXPECT_EQ(reactor->block_on(store->get("a")).code(), Code::k_cancelled);
  EXPECT_EQ(txn({.then_ops = {Op::put("a", "1")}}).code(), Code::k_cancelled);
  open_watch.reset();
  store.reset();
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreConformance, testing::ValuesIn(kBackends),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace bb::cluster
