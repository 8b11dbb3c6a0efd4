// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "support/world.h"

namespace bb::io::nvme {
namespace {

const Uuid kNamespace = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();

ReservationState state_of(uint32_t generation) {
  ReservationState state{.generation = generation,
                         .persistent = true,
                         .type = ReservationType::kExclusiveAccess,
                         .holder = kNamespace};
  state.registrants = {{kNamespace, 1}};
  return state;
}

class ReservationFileTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bb-reservation-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  Result<ReservationState> found() {
    ReservationFile fresh(world_.context, folder_, kNamespace);
    return world_.run(fresh.load());
  }
  std::string path() const { return folder_ + "/" + kNamespace.to_string() + ".reservation"; }

  test::World world_;
  std::string folder_;
};

TEST_F(ReservationFileTest, SavesAndLoads) {
  ReservationFile file(world_.context, folder_, kNamespace);
  auto none = world_.run(file.load());
  ASSERT_TRUE(none.ok()) << none.status().to_string();
  EXPECT_EQ(*none, ReservationState());
  for (uint32_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(world_.run(file.save(state_of(i))).ok());
    EXPECT_EQ(*found(), state_of(i));
  }
  EXPECT_EQ(file.path(), path());
}

TEST_F(ReservationFileTest, AFailedSaveLeavesTheOldOne) {
  ReservationFile file(world_.context, folder_, kNamespace);
  ASSERT_TRUE(world_.run(file.load()).ok());
  ASSERT_TRUE(world_.run(file.save(state_of(1))).ok());
  // A folder in the way of the new file, then a file that may not grow.
  std::filesystem::create_directory(path() + ".new");
  EXPECT_FALSE(world_.run(file.save(state_of(2))).ok());
  EXPECT_EQ(*found(), state_of(1));
  std::filesystem::remove(path() + ".new");
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small{.rlim_cur = 1000, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_EQ(world_.run(file.save(state_of(2))).code(), Code::k_no_space);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(*found(), state_of(1));
  EXPECT_TRUE(world_.run(file.save(state_of(3))).ok());
  EXPECT_EQ(*found(), state_of(3));
}

TEST_F(ReservationFileTest, DamageIsNotTakenForNothing) {
  ReservationFile file(world_.context, folder_, kNamespace);
  ASSERT_TRUE(world_.run(file.load()).ok());
  ASSERT_TRUE(world_.run(file.save(state_of(1))).ok());
  std::filesystem::resize_file(path(), 4000);
  EXPECT_EQ(found().code(), Code::k_corrupt);
  std::filesystem::resize_file(path(), 4097);
  EXPECT_EQ(found().code(), Code::k_corrupt);
  std::filesystem::resize_file(path(), 0);
  EXPECT_EQ(found().code(), Code::k_corrupt);
  std::ofstream(path()) << std::string(4096, '\0');
  EXPECT_EQ(found().code(), Code::k_corrupt);
  std::filesystem::remove(path());
  EXPECT_EQ(*found(), ReservationState());
  ReservationFile nowhere(world_.context, folder_ + "/missing", kNamespace);
  EXPECT_EQ(world_.run(nowhere.load()).code(), Code::k_not_found);
}

// A process that only ever saves is killed somewhere; what it had answered is there, or newer.
TEST_F(ReservationFileTest, SurvivesKill) {
  for (int round = 0; round < 8; ++round) {
    int answered[2];
    ASSERT_EQ(pipe(answered), 0);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      test::World own;
      ReservationFile file(own.context, folder_, kNamespace);
      auto now = own.run(file.load());
      if (!now.ok()) _exit(1);
      for (uint32_t next = now->generation + 1;; ++next) {
        if (!own.run(file.save(state_of(next))).ok()) _exit(2);
        if (write(answered[1], &next, sizeof(next)) != sizeof(next)) _exit(3);
      }
    }
    close(answered[1]);
    uint32_t last = 0;
    for (int i = 0; i < 3 + 5 * round; ++i) {
      ASSERT_EQ(read(answered[0], &last, sizeof(last)), static_cast<ssize_t>(sizeof(last)));
    }
    kill(child, SIGKILL);
    while (read(answered[0], &last, sizeof(last)) == static_cast<ssize_t>(sizeof(last))) continue;
    close(answered[0]);
    int how = 0;
    waitpid(child, &how, 0);
    EXPECT_TRUE(WIFSIGNALED(how)) << how;
    auto after = found();
    ASSERT_TRUE(after.ok()) << after.status().to_string();
    EXPECT_TRUE(after->generation == last || after->generation == last + 1)
        << after->generation << " after " << last;
  }
}

}  // namespace
}  // namespace bb::io::nvme
