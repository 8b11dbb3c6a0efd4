// SPDX-License-Identifier: Apache-2.0
// What the array's tests stand on: drives that fail, an authority, a reactor.
#pragma once

#include <gtest/gtest.h>

#include "fakes.h"
#include "io/sync.h"
#include "raid/array.h"
#include "raid/superblock_io.h"

namespace bb::raid {
namespace {

using io::Task;
constexpr uint64_t kDriveBytes = 8 * MiB;
constexpr uint64_t kRegion = 64 * KiB;

struct World {
  std::unique_ptr<io::Reactor> reactor = std::move(io::Reactor::create()).value();
  std::unique_ptr<io::Network> network = io::make_tcp_network(*reactor, nullptr);
  io::Context context{.loop = *reactor, .network = *network, .reactor = reactor.get()};
  FakeAuthority authority;
  MembershipAuthority* decides = &authority;
  std::vector<std::unique_ptr<FakeDrive>> drives;
  std::unique_ptr<Array> array;
  ArrayOptions options;
  Shape shape = *parse_shape("1.2", 0);  // of what is created
  std::optional<Integrity> integrity = Integrity::kNone;

  explicit World(size_t count = 2) {
    for (size_t i = 0; i < count; ++i) add_drive();
    options.clean_delay_ns = 5 * kNsPerMs;
    options.commit_wait_ns = 1 * kNsPerSecond;
    options.commit_retry_ns = 5 * kNsPerMs;
    options.readmit_delay_ns = 5 * kNsPerMs;
  }
  World(const char* raid, uint64_t chunk_bytes) : World(parse_shape(raid, chunk_bytes)->members) {
    shape = *parse_shape(raid, chunk_bytes);
  }
  ~World() { (void)stop(); }
  FakeDrive& add_drive(uint64_t size = kDriveBytes, uint32_t block = 512) {
    drives.push_back(
        std::make_unique<FakeDrive>(*reactor, fmt::format("drive{}", drives.size()), size, block));
    return *drives.back();
  }
  template <typename T>
  T run(Task<T> task) {
    return reactor->block_on(std::move(task));
  }
  ArrayCreate plan(bool clean = true) {
    ArrayCreate what;
    what.name = "db";
    what.level = shape.level->id;
    if (shape.chunk_bytes != 0) what.copies = shape.copies;
    what.chunk_bytes = shape.chunk_bytes;
    what.integrity = integrity;
    what.assume_clean = clean;
    what.options = options;
    for (auto& drive : drives) what.members.push_back(MemberDevice::borrow(*drive));
    return what;
  }
  Status create(bool clean = true) {
    auto made = run(Array::create(context, plan(clean), decides));
    if (!made.ok()) return made.status();
    array = std::move(made).value();
    return {};
  }
  Status assemble(std::vector<size_t> which) {
    ArrayAssemble what;
    what.options = options;
    for (size_t i : which) what.devices.push_back(MemberDevice::borrow(*drives[i]));
    auto made = run(Array::assemble(context, std::move(what), decides));
    if (!made.ok()) return made.status();
    array = std::move(made).value();
    return {};
  }
  Status stop() {
    if (!array) return {};
    Status status = run(array->close());
    array.reset();
    return status;
  }
  // The dataplane dies: from now on nothing of it reaches a drive or the authority.
  void crash(bool power_cut) {
    for (auto& drive : drives) {
      drive->fault = [](const io::IoRequest&) { return error(Code::k_io_error, "crashed"); };
    }
    authority.unreachable = true;
    (void)stop();
    authority.unreachable = false;
    for (auto& drive : drives) {
      drive->fault = nullptr;
      if (power_cut) drive->power_cycle();
    }
  }
  Status write(uint64_t offset, size_t length, int value, bool fua = false) {
    std::vector<std::byte> data(length, static_cast<std::byte>(value));
    return run(write_task(array.get(), offset, &data, fua));
  }
  static Task<Status> write_task(Array* to, uint64_t offset, std::vector<std::byte>* data,
                                 bool fua) {
    co_return co_await to->write(offset, *data, fua);
  }
  static Task<Status> read_task(Array* from, uint64_t offset, std::vector<std::byte>* data) {
    co_return co_await from->read(offset, *data);
  }
  static Task<Status> flush_task(Array* to) { co_return co_await to->flush(); }
  Status flush() { return run(flush_task(array.get())); }
  // The one value of the range, -1 for a mixture, -2 for an error.
  int read(uint64_t offset, size_t length) {
    std::vector<std::byte> data(length);
    if (!run(read_task(array.get(), offset, &data)).ok()) return -2;
    for (std::byte b : data) {
      if (b != data[0]) return -1;
    }
    return static_cast<int>(data[0]);
  }
  Status in_sync() { return run(array->wait_in_sync(reactor->now_ns() + 5 * kNsPerSecond)); }
  static Task<void> nap_task(io::Loop* loop, uint64_t ns) { co_await loop->sleep_for(ns); }
  void nap_ms(uint64_t ms) { run(nap_task(reactor.get(), ms * kNsPerMs)); }
  // Dirty regions, once the cleaner has had all the time it may need on a busy machine.
  uint64_t dirty_at_last() {
    for (int i = 0; i < 1000 && array->describe().dirty_regions != 0; ++i) nap_ms(5);
    nap_ms(20);  // the page is written after the bit is gone from memory
    return array->describe().dirty_regions;
  }
  int on_drive(size_t i, uint64_t offset) {
    return static_cast<int>(drives[i]->seen()[kDataOffsetBytes + offset]);
  }
  void put_on_drive(size_t i, uint64_t offset, size_t length, int value) {
    auto at = static_cast<ptrdiff_t>(kDataOffsetBytes + offset);
    auto n = static_cast<ptrdiff_t>(length);
    for (Bytes bytes : {drives[i]->seen(), drives[i]->platter()}) {
      std::fill(bytes.begin() + at, bytes.begin() + at + n, static_cast<std::byte>(value));
    }
  }
  Uuid member(size_t slot) { return array->describe().members.at(slot).uuid; }
  MemberState state(size_t slot) { return array->describe().members.at(slot).state; }
};

#define ASSERT_OK(expression)                               \
  do {                                                      \
    Status ok_status_ = (expression);                       \
    ASSERT_TRUE(ok_status_.ok()) << ok_status_.to_string(); \
  } while (0)

}  // namespace
}  // namespace bb::raid
