// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/units.h"
#include "cluster/store.h"
#include "io/offload.h"
#include "io/reactor.h"
#include "io/tcp.h"

namespace bb::cluster {
namespace {

struct World {
  std::unique_ptr<io::Reactor> reactor = std::move(io::Reactor::create()).value();
  io::Offload offload;
  std::unique_ptr<io::Network> network = io::make_tcp_network(*reactor, &offload);
  io::Context context{*reactor, *network, reactor.get(), &offload};

  Result<std::unique_ptr<Store>> open(const std::string& uri) {
    return reactor->block_on(open_store(context, uri));
  }
  Status put(Store& store, std::string key, std::string value) {
    auto done =
        reactor->block_on(store.txn({.then_ops = {Op::put(std::move(key), std::move(value))}}));
    return done.status();
  }
  void close(std::unique_ptr<Store> store) { reactor->block_on(store->close()); }
};

class SqliteStore : public testing::Test {
 protected:
  std::string folder;
  std::string path;
  void SetUp() override {
    std::string pattern = testing::TempDir() + "bb-sqlite-XXXXXX";
    folder = ::mkdtemp(pattern.data());
    path = folder + "/cluster.db";
  }
  void TearDown() override {
    ::chmod(folder.c_str(), 0700);
    std::string command = "rm -rf '" + folder + "'";
    EXPECT_EQ(::system(command.c_str()), 0);
  }
  void expect_refused(const std::string& uri, Code code, const std::string& says) {
    World world;
    auto opened = world.open(uri);
    ASSERT_FALSE(opened.ok()) << uri;
    EXPECT_EQ(opened.code(), code) << opened.status().to_string();
    EXPECT_NE(opened.status().text().find(says), std::string::npos) << opened.status().to_string();
  }
  void make_store() {
    World world;
    auto store = std::move(world.open("file:" + path)).value();
    for (int i = 0; i < 50; ++i) {
      EXPECT_TRUE(world.put(*store, fmt::format("key{}", i), std::string(500, 'v')).ok());
    }
    world.close(std::move(store));
  }
  std::string content() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& bytes) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
};

TEST_F(SqliteStore, BadUris) {
  expect_refused("etcd://a:2379,b:2379", Code::k_not_supported, "no etcd client");
  expect_refused("redis:x", Code::k_invalid_argument, "no scheme \"redis\"");
  expect_refused("file:", Code::k_invalid_argument, "without a path");
  expect_refused("file:" + path + "?colour=red", Code::k_invalid_argument, "unknown URI option");
  expect_refused("file:" + folder + "/none/x.db", Code::k_not_found, "No such file");
  expect_refused("file:" + folder, Code::k_invalid_argument, "unable to open");
}

TEST_F(SqliteStore, ForeignFilesAreLeftAlone) {
  write("this is a letter, not a database; it is long enough to be looked at" +
        std::string(1000, '.'));
  std::string before = content();
  expect_refused("file:" + path, Code::k_invalid_argument, "not a database");
  EXPECT_EQ(content(), before);

  ::unlink(path.c_str());
  sqlite3* foreign = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &foreign), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(foreign, "CREATE TABLE t(x)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(foreign);
  before = content();
  expect_refused("file:" + path, Code::k_invalid_argument, "of another program");
  EXPECT_EQ(content(), before);
}

TEST_F(SqliteStore, CorruptContentIsSeen) {
  make_store();
  std::string good = content();
  size_t value = good.find("vvvvvvvv");
  ASSERT_NE(value, std::string::npos);
  std::string bad = good;
  bad[value + 3] = 'w';  // SQLite itself does not see this
  write(bad);
  expect_refused("file:" + path, Code::k_corrupt, "wrong checksum");
  bad = good;
  for (size_t i = 4096; i < 4096 + 200; ++i) bad[i] = '\xaa';
  write(bad);
  expect_refused("file:" + path, Code::k_corrupt, "cluster store file:");
  write(good.substr(0, good.size() / 2));
  expect_refused("file:" + path, Code::k_corrupt, "cluster store file:");
  write(good);
  bad = good;
  bad[63] = 9;  // user_version
  write(bad);
  expect_refused("file:" + path, Code::k_not_supported, "schema version 9");
}

TEST_F(SqliteStore, NoSpaceIsAnErrorAndNothingIsLost) {
  World world;
  auto store = std::move(world.open("file:" + path + "?max_size=256K")).value();
  ASSERT_TRUE(world.put(*store, "first", "1").ok());
  Status status;
  int stored = 0;
  while (status.ok()) {
    status = world.put(*store, fmt::format("k{}", stored), std::string(20'000, 'x'));
    if (status.ok()) ++stored;
    ASSERT_LT(stored, 100);
  }
  EXPECT_EQ(status.code(), Code::k_no_space) << status.to_string();
  EXPECT_GT(stored, 5);
  auto listed = world.reactor->block_on(store->list("k", 100));
  EXPECT_EQ(listed->entries.size(), static_cast<size_t>(stored));
  EXPECT_TRUE(world.reactor->block_on(store->txn({.then_ops = {Op::erase("k0")}})).ok());
  EXPECT_TRUE(world.put(*store, "small", "2").ok());
  world.close(std::move(store));
  store = std::move(world.open("file:" + path)).value();
  listed = world.reactor->block_on(store->list("", 100));
  EXPECT_EQ(listed->entries.size(), static_cast<size_t>(stored) + 1);
  world.close(std::move(store));
}

// Runs `child` in a process of its own, and gives what it wrote to its pipe.
template <typename Child>
pid_t in_child(int* from_child, Child child) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[0]);
    child(ends[1]);
    ::_exit(0);
  }
  ::close(ends[1]);
  *from_child = ends[0];
  return pid;
}

std::string read_all(int fd, size_t at_least) {
  std::string all;
  char buffer[4096];
  while (all.size() < at_least) {
    ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) break;
    all.append(buffer, static_cast<size_t>(got));
  }
  return all;
}

void tell(int fd, const std::string& text) {
  if (::write(fd, text.data(), text.size()) < 0) ::_exit(1);
}

TEST_F(SqliteStore, ReadOnlyFileIsRefused) {
  make_store();
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  int from_child = -1;
  pid_t pid = in_child(&from_child, [this](int to_parent) {
    if (::getuid() == 0 && ::setuid(65534) != 0) ::_exit(1);
    World world;
    auto opened = world.open("file:" + path);
    tell(to_parent, opened.status().to_string());
  });
  std::string said = read_all(from_child, SIZE_MAX);
  ::close(from_child);
  ::waitpid(pid, nullptr, 0);
  EXPECT_NE(said.find("[permission_denied]"), std::string::npos) << said;
}

TEST_F(SqliteStore, ASecondProcessIsRefused) {
  int from_child = -1;
  pid_t pid = in_child(&from_child, [this](int to_parent) {
    World world;
    auto store = std::move(world.open("file:" + path)).value();
    tell(to_parent, "open");
    ::pause();
  });
  ASSERT_EQ(read_all(from_child, 4), "open");
  expect_refused("file:" + path, Code::k_busy, "another process has it open");
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ::close(from_child);
  World world;
  world.close(std::move(world.open("file:" + path)).value());
}

// A child that commits and reports; killed at any moment; whatever it reported is there.
TEST_F(SqliteStore, WhatWasReportedSurvivesKill) {
  uint64_t reported = 0;
  for (int round = 0; round < 8; ++round) {
    int from_child = -1;
    pid_t pid = in_child(&from_child, [this, reported](int to_parent) {
      World world;
      auto store = std::move(world.open("file:" + path)).value();
      for (uint64_t n = reported + 1;; ++n) {
        std::string number = fmt::format("{:08}", n);
        if (!world.put(*store, "n" + number, std::string(1000, 'x')).ok()) ::_exit(1);
        tell(to_parent, number);
      }
    });
    std::string said = read_all(from_child, static_cast<size_t>(8 * (5 + 17 * round)));
    ::kill(pid, SIGKILL);
    said += read_all(from_child, SIZE_MAX);
    ::close(from_child);
    ::waitpid(pid, nullptr, 0);
    ASSERT_GE(said.size(), 8u);
    ASSERT_EQ(said.size() % 8, 0u);
    reported = std::stoull(said.substr(said.size() - 8));

    World world;
    auto store = std::move(world.open("file:" + path)).value();
    auto listed = world.reactor->block_on(store->list("n", 4096));
    ASSERT_TRUE(listed.ok());
    // One more may be there: committed, and killed before the report.
    EXPECT_GE(listed->entries.size(), reported);
    EXPECT_LE(listed->entries.size(), reported + 1);
    for (uint64_t n = 0; n < listed->entries.size(); ++n) {
      EXPECT_EQ(listed->entries[n].key, fmt::format("n{:08}", n + 1));
    }
    reported = listed->entries.size();
    world.close(std::move(store));
  }
  EXPECT_GT(reported, 100u);
}

}  // namespace
}  // namespace bb::cluster
