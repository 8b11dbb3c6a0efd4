// SPDX-License-Identifier: Apache-2.0
// One case a misuse of the public interface, checking code and text: the C boundary trusts nobody.
#include <blockbridge/blockbridge.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <string>

namespace {

class Misuse : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(bb_runtime_open(nullptr, &runtime_), BB_OK);
    ASSERT_EQ(bb_device_open(runtime_, "mem:1M", &device_), BB_OK);
  }
  void TearDown() override {
    EXPECT_EQ(bb_device_close(&device_), BB_OK);
    bb_runtime_close(&runtime_);
  }
  bb_runtime* runtime_ = nullptr;
  bb_device* device_ = nullptr;
  char buffer_[8192] = {};
};

#define EXPECT_FAILS(call, code, text)   \
  do {                                   \
    EXPECT_EQ(call, code) << #call;      \
    EXPECT_STREQ(bb_last_error(), text); \
  } while (0)

TEST_F(Misuse, NullArguments) {
  bb_device* device = nullptr;
  EXPECT_FAILS(bb_runtime_open(nullptr, nullptr), BB_INVALID_ARGUMENT,
               "bb_runtime_open: out is NULL");
  EXPECT_FAILS(bb_device_open(nullptr, "mem:1M", &device), BB_INVALID_ARGUMENT,
               "bb_device_open: runtime is NULL");
  EXPECT_FAILS(bb_device_open(runtime_, nullptr, &device), BB_INVALID_ARGUMENT,
               "bb_device_open: uri is NULL");
  EXPECT_FAILS(bb_device_read(nullptr, 0, buffer_, 512), BB_INVALID_ARGUMENT,
               "bb_device_read: device is NULL");
  EXPECT_FAILS(bb_device_read(device_, 0, nullptr, 512), BB_INVALID_ARGUMENT,
               "bb_device_read: buffer is NULL");
  bb_discovery* discovery = nullptr;
  auto ignore = [](void* /*arg*/, const char* /*json*/) {};
  bb_discovery_options service = BB_DISCOVERY_OPTIONS_INIT;
  EXPECT_FAILS(bb_discovery_start(runtime_, &service, nullptr, nullptr, &discovery),
               BB_INVALID_ARGUMENT, "bb_discovery_start: an argument is NULL");
  EXPECT_FAILS(bb_discovery_start(runtime_, &service, ignore, nullptr, &discovery),
               BB_INVALID_ARGUMENT, "bb_discovery_start: address is NULL");
  service.address = ":1";
  EXPECT_FAILS(bb_discovery_start(runtime_, &service, ignore, nullptr, &discovery),
               BB_INVALID_ARGUMENT, "bb_discovery_start: \":1\" names no host");
  service.address = "h";
  service.tls_psk_file = "/none/psk";
  EXPECT_FAILS(bb_discovery_start(runtime_, &service, ignore, nullptr, &discovery),
               BB_INVALID_ARGUMENT,
               "bb_discovery_start: tls_psk_file is a host's: host_nqn is NULL");
  service.host_nqn = "nqn.2026-11.a:h";
  EXPECT_FAILS(bb_discovery_start(runtime_, &service, ignore, nullptr, &discovery), BB_NOT_FOUND,
               "/none/psk: No such file or directory");
  EXPECT_FAILS(bb_device_get_paths(device_, nullptr), BB_INVALID_ARGUMENT,
               "bb_device_get_paths: an argument is NULL");
  EXPECT_FAILS(bb_device_get_reservation(device_, nullptr), BB_INVALID_ARGUMENT,
               "bb_device_get_reservation: an argument is NULL");
  EXPECT_FAILS(bb_device_get_info(device_, nullptr), BB_INVALID_ARGUMENT,
               "bb_device_get_info: an argument is NULL");
  EXPECT_EQ(bb_device_close(nullptr), BB_OK);
}

TEST_F(Misuse, ReservationCommands) {
  EXPECT_FAILS(bb_device_reserve(device_, nullptr), BB_INVALID_ARGUMENT,
               "bb_device_reserve: an argument is NULL");
  bb_reservation_command command = BB_RESERVATION_COMMAND_INIT;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_INVALID_ARGUMENT,
               "bb_device_reserve: action 0: there is none of this number");
  command.action = BB_RESERVATION_ACQUIRE;
  command.type = 7;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_INVALID_ARGUMENT,
               "bb_device_reserve: type 7: it is not 1 to 6");
  command.type = BB_RESERVATION_WRITE_EXCLUSIVE;
  command.flags = BB_RESERVATION_PERSIST;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_INVALID_ARGUMENT,
               "bb_device_reserve: flags 2: of registrations only");
  command.action = BB_RESERVATION_REGISTER;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_INVALID_ARGUMENT,
               "bb_device_reserve: type 1: it takes none");
  command.type = 0;
  command.flags = BB_RESERVATION_PERSIST | BB_RESERVATION_FORGET;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_INVALID_ARGUMENT,
               "bb_device_reserve: flags 6: to persist and to forget exclude each other");
  command.flags = 8;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_INVALID_ARGUMENT,
               "bb_device_reserve: flags 8: some are not known");
  command.flags = 0;
  EXPECT_FAILS(bb_device_reserve(device_, &command), BB_NOT_SUPPORTED,
               "mem:1M: only nvme-tcp devices can be reserved");
  char* json = nullptr;
  EXPECT_FAILS(bb_device_get_reservation(device_, &json), BB_NOT_SUPPORTED,
               "mem:1M: only nvme-tcp devices can be reserved");
  EXPECT_EQ(json, nullptr);
}

TEST_F(Misuse, StatisticsOfNothing) {
  bb_io_counters counters = BB_IO_COUNTERS_INIT;
  char* text = nullptr;
  EXPECT_FAILS(bb_device_get_counters(nullptr, &counters), BB_INVALID_ARGUMENT,
               "bb_device_get_counters: an argument is NULL");
  EXPECT_FAILS(bb_device_get_stats(device_, nullptr), BB_INVALID_ARGUMENT,
               "bb_device_get_stats: an argument is NULL");
  EXPECT_FAILS(bb_export_get_counters(nullptr, &counters), BB_INVALID_ARGUMENT,
               "bb_export_get_counters: an argument is NULL");
  EXPECT_FAILS(bb_export_get_stats(nullptr, &text), BB_INVALID_ARGUMENT,
               "bb_export_get_stats: an argument is NULL");
  EXPECT_FAILS(bb_runtime_get_metrics(runtime_, nullptr), BB_INVALID_ARGUMENT,
               "bb_runtime_get_metrics: an argument is NULL");
  counters.struct_size = 0;
  EXPECT_FAILS(bb_device_get_counters(device_, &counters), BB_INVALID_ARGUMENT,
               "bb_device_get_counters: struct_size is 0: use BB_IO_COUNTERS_INIT");
}

TEST_F(Misuse, WrongUris) {
  struct Case {
    const char* uri;
    int code;
    const char* text;
  };
  const Case kCases[] = {
      {"", BB_INVALID_ARGUMENT,
       "\"\" is not a device URI: expected scheme:name, for example file:/path or mem:1G"},
      {"mem", BB_INVALID_ARGUMENT,
       "\"mem\" is not a device URI: expected scheme:name, for example file:/path or mem:1G"},
      {"mem:1G?colour=red", BB_INVALID_ARGUMENT, "mem: unknown URI option \"colour\""},
      {"mem:lots", BB_INVALID_ARGUMENT,
       "\"lots\" is not a size: no number in front; write for example 4096, 64KiB or 400GB"},
      {"mem:1000", BB_INVALID_ARGUMENT,
       "mem:1000: size 1000 is not a multiple of the block size 512"},
      {"file:/nonexistent/disk.img", BB_NOT_FOUND,
       "/nonexistent/disk.img: No such file or directory (errno 2)"},
      {"file:/dev", BB_INVALID_ARGUMENT, nullptr},
  };
  for (const Case& c : kCases) {
    bb_device* device = nullptr;
    EXPECT_EQ(bb_device_open(runtime_, c.uri, &device), c.code) << c.uri << ": " << bb_last_error();
    if (c.text != nullptr) EXPECT_STREQ(bb_last_error(), c.text);
    EXPECT_EQ(device, nullptr);
  }
}

TEST_F(Misuse, WrongRanges) {
  EXPECT_FAILS(bb_device_read(device_, 100, buffer_, 512), BB_INVALID_ARGUMENT,
               "mem:1M: read of 512 bytes at 100: not a multiple of the block size of 512");
  EXPECT_FAILS(bb_device_read(device_, 0, buffer_, 0), BB_INVALID_ARGUMENT,
               "mem:1M: read of 0 bytes at 0: no length");
  EXPECT_FAILS(bb_device_write(device_, (1u << 20) - 512, buffer_, 1024), BB_INVALID_ARGUMENT,
               "mem:1M: write of 1024 bytes at 1048064: beyond the end of the device at 1048576");
  EXPECT_FAILS(
      bb_device_read(device_, UINT64_MAX - 511, buffer_, 512), BB_INVALID_ARGUMENT,
      "mem:1M: read of 512 bytes at 18446744073709551104: beyond the end of the device at 1048576");
}

TEST_F(Misuse, WrongStructs) {
  bb_device_info info = BB_DEVICE_INFO_INIT;
  info.struct_size = 0;
  EXPECT_FAILS(bb_device_get_info(device_, &info), BB_INVALID_ARGUMENT,
               "bb_device_get_info: struct_size is 0: use BB_DEVICE_INFO_INIT");
  bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
  options.struct_size = 1;
  bb_runtime* runtime = nullptr;
  EXPECT_FAILS(bb_runtime_open(&options, &runtime), BB_INVALID_ARGUMENT,
               "bb_runtime_open: struct_size is 1: use the _INIT macro");
}

struct Outcome {
  int code;
  std::string text;
};

Outcome submit(bb_device* device, bb_io io) {
  std::promise<Outcome> promise;
  io.arg = &promise;
  io.done = [](void* arg, int code, const char* text) {
    static_cast<std::promise<Outcome>*>(arg)->set_value({code, text});
  };
  bb_device_submit(device, &io);
  return promise.get_future().get();
}

TEST_F(Misuse, SubmittedErrorsArriveInDone) {
  bb_io io = BB_IO_INIT;
  io.op = 99;
  EXPECT_EQ(submit(device_, io).text, "bb_device_submit: no operation 99");
  io = BB_IO_INIT;
  io.flags = 8;
  EXPECT_EQ(submit(device_, io).text, "bb_device_submit: unknown flags 0x8");
  io = BB_IO_INIT;
  EXPECT_EQ(submit(device_, io).text, "bb_device_submit: 0 iovecs; allowed are 1 to 1024");
  io = BB_IO_INIT;
  io.struct_size = 5;
  EXPECT_EQ(submit(device_, io).code, BB_INVALID_ARGUMENT);
  EXPECT_EQ(submit(nullptr, BB_IO_INIT).text, "bb_device_submit: device is NULL");
}

// A blocking call inside a callback would wait for itself.
TEST_F(Misuse, BlockingInsideACallback) {
  struct Context {
    bb_device* device;
    std::promise<Outcome> promise;
  } context{device_, {}};
  bb_io io = BB_IO_INIT;
  io.op = BB_IO_FLUSH;
  io.arg = &context;
  io.done = [](void* arg, int, const char*) {
    auto* c = static_cast<Context*>(arg);
    int code = bb_device_flush(c->device);
    c->promise.set_value({code, bb_last_error()});
  };
  bb_device_submit(device_, &io);
  Outcome outcome = context.promise.get_future().get();
  EXPECT_EQ(outcome.code, BB_BAD_STATE);
  EXPECT_EQ(outcome.text,
            "a blocking call from within a callback would wait for itself: use the _async call");
}

// The same where the host drives the loop: it would be entered twice, and hand out twice what it
// is handing out.
TEST(MisuseOfHostDriven, BlockingOrPollingInsideACallback) {
  bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
  options.host_driven = 1;
  struct Context {
    bb_runtime* runtime = nullptr;
    bb_device* device = nullptr;
    Outcome flush{-1, ""};
    Outcome poll{-1, ""};
  } context;
  ASSERT_EQ(bb_runtime_open(&options, &context.runtime), BB_OK);
  std::string uri = "file:" + testing::TempDir() + "/bb-misuse.img?create=1&size=1M";
  ASSERT_EQ(bb_device_open(context.runtime, uri.c_str(), &context.device), BB_OK);
  bb_io io = BB_IO_INIT;
  io.op = BB_IO_FLUSH;
  io.arg = &context;
  io.done = [](void* arg, int, const char*) {
    auto* c = static_cast<Context*>(arg);
    c->flush.code = bb_device_flush(c->device);
    c->flush.text = bb_last_error();
    c->poll.code = bb_runtime_poll(c->runtime);
    c->poll.text = bb_last_error();
  };
  bb_device_submit(context.device, &io);
  for (int i = 0; i < 5000 && context.poll.code < 0; ++i) {
    ASSERT_EQ(bb_runtime_poll(context.runtime), BB_OK);
    usleep(1000);
  }
  EXPECT_EQ(context.flush.code, BB_BAD_STATE);
  EXPECT_EQ(context.flush.text,
            "a blocking call from within a callback would wait for itself: use the _async call");
  EXPECT_EQ(context.poll.code, BB_BAD_STATE);
  EXPECT_EQ(context.poll.text, "bb_runtime_poll: called from within a callback");
  EXPECT_EQ(bb_device_close(&context.device), BB_OK);
  bb_runtime_close(&context.runtime);
}

TEST(MisuseOfHostDriven, ClosingARuntimeWhileADeviceOpens) {
  bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
  options.host_driven = 1;
  bb_runtime* runtime = nullptr;
  ASSERT_EQ(bb_runtime_open(&options, &runtime), BB_OK);
  bb_device* device = nullptr;
  auto opened = [](void* arg, int, const char*, bb_device* made) {
    *static_cast<bb_device**>(arg) = made;
  };
  bb_device_open_async(runtime, "mem:1M", opened, &device);
  EXPECT_EQ(bb_runtime_close(&runtime), BB_BAD_STATE);
  for (int i = 0; i < 5000 && device == nullptr; ++i) ASSERT_EQ(bb_runtime_poll(runtime), BB_OK);
  EXPECT_EQ(bb_device_close(&device), BB_OK);
  EXPECT_EQ(bb_runtime_close(&runtime), BB_OK);
}

TEST_F(Misuse, ClosingWhatIsInUse) {
  EXPECT_FAILS(bb_runtime_close(&runtime_), BB_BAD_STATE,
               "bb_runtime_close: 1 objects still live in the runtime: close them first");
  ASSERT_NE(runtime_, nullptr);
  bb_export* exported = nullptr;
  bb_export_options options = BB_EXPORT_OPTIONS_INIT;
  options.kind = BB_EXPORT_NBD;
  options.listen = "127.0.0.1:0";
  options.name = "disk";
  ASSERT_EQ(bb_export_start(device_, &options, &exported), BB_OK) << bb_last_error();
  EXPECT_FAILS(bb_device_close(&device_), BB_BAD_STATE,
               "bb_device_close: 1 arrays or exports use mem:1M");
  ASSERT_NE(device_, nullptr);
  EXPECT_EQ(bb_export_close(&exported), BB_OK);
}

TEST_F(Misuse, WrongExports) {
  bb_export* exported = nullptr;
  bb_export_options options = BB_EXPORT_OPTIONS_INIT;
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: options.listen is NULL");
  options.listen = "127.0.0.1:0";
  options.kind = 7;
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: no kind 7");
  EXPECT_FAILS(bb_export_start(nullptr, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: device is NULL");
  options.kind = BB_EXPORT_UBLK;
  options.listen = "-1";
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: listen \"-1\" is neither \"any\" nor the N of /dev/ublkbN");
  options.listen = "127.0.0.1:0";
  options.kind = BB_EXPORT_NVME_TCP;
  options.nbd_exclusive = 1;
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: options whose names begin with nbd_ are for NBD");
  options.kind = BB_EXPORT_NBD;
  options.tls = 3;
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: no tls 3");
  options.tls = BB_EXPORT_TLS_REQUIRED;
  options.nbd_tls_key_file = "/k";
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: tls needs nbd_tls_certificate_file and nbd_tls_key_file");
  options.nbd_tls_certificate_file = "/none/certificate";
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_NOT_FOUND,
               "/none/certificate: No such file or directory");
  options.tls = BB_EXPORT_TLS_OFF;
  EXPECT_FAILS(bb_export_start(device_, &options, &exported), BB_INVALID_ARGUMENT,
               "bb_export_start: certificates, but tls is off");
}

TEST_F(Misuse, WrongSecretsOfExports) {
  bb_export* exported = nullptr;
  bb_export_options options = BB_EXPORT_OPTIONS_INIT;
  options.listen = "127.0.0.1:0";
  auto fails = [&](const char* text, bb_code code = BB_INVALID_ARGUMENT) {
    EXPECT_FAILS(bb_export_start(device_, &options, &exported), code, text);
  };
  options.host_secret_count = 1;
  fails("bb_export_start: options.host_secrets is NULL");
  bb_host_secret secrets[2] = {{nullptr, nullptr, nullptr}, {nullptr, nullptr, nullptr}};
  options.host_secrets = secrets;
  fails("bb_export_start: a host secret's host_nqn: an NQN of 0 bytes, allowed are 1 to 223");
  secrets[0].host_nqn = "nqn.2026-11.a:h";
  fails(
      "bb_export_start: host nqn.2026-11.a:h: neither dhchap_secret_file nor tls_psk_file is "
      "given");
  secrets[0].tls_psk_file = "/none/psk";
  fails("/none/psk: No such file or directory", BB_NOT_FOUND);
  options.host_secret_count = 0;
  options.tls = BB_EXPORT_TLS_REQUIRED;
  fails("bb_export_start: tls and the tls_psk_file of a host go together");
  options.tls = BB_EXPORT_TLS_OFF;
  options.ctrl_secret_file = "/none/secret";
  fails("bb_export_start: ctrl_secret_file: no host has a dhchap_secret_file");
  options.kind = BB_EXPORT_NBD;
  fails(
      "bb_export_start: NBD knows no host names: allowed_hosts, host_secrets and ctrl_secret_file "
      "are for NVMe/TCP");
  options.kind = BB_EXPORT_UBLK;
  options.ctrl_secret_file = nullptr;
  options.tls = BB_EXPORT_TLS_ALLOWED;
  fails("bb_export_start: tls is for NVMe/TCP and NBD");
}

TEST_F(Misuse, WrongExtents) {
  bb_extent extents[4];
  size_t count = 4;
  EXPECT_FAILS(bb_device_get_extents(nullptr, 0, 512, extents, &count), BB_INVALID_ARGUMENT,
               "bb_device_get_extents: device is NULL");
  EXPECT_FAILS(bb_device_get_extents(device_, 0, 512, nullptr, &count), BB_INVALID_ARGUMENT,
               "bb_device_get_extents: extents or extent_count is NULL");
  EXPECT_FAILS(bb_device_get_extents(device_, 0, 512, extents, nullptr), BB_INVALID_ARGUMENT,
               "bb_device_get_extents: extents or extent_count is NULL");
  EXPECT_FAILS(bb_device_get_extents(device_, 1, 512, extents, &count), BB_INVALID_ARGUMENT,
               "mem:1M: extents of 512 bytes at 1: not a multiple of the block size of 512");
  count = 0;
  EXPECT_FAILS(bb_device_get_extents(device_, 0, 512, extents, &count), BB_INVALID_ARGUMENT,
               "mem:1M: extents of 512 bytes at 0: no extent asked for");
  count = 4;
  ASSERT_EQ(bb_device_get_extents(device_, 0, 1 << 20, extents, &count), BB_OK);
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(extents[0].length_bytes, 1u << 20);
  EXPECT_EQ(extents[0].flags, BB_EXTENT_HOLE | BB_EXTENT_ZERO);
}

TEST_F(Misuse, LocalDrives) {
  EXPECT_FAILS(bb_local_drive_list(nullptr), BB_INVALID_ARGUMENT,
               "bb_local_drive_list: json is NULL");
  char* json = nullptr;
  ASSERT_EQ(bb_local_drive_list(&json), BB_OK) << bb_last_error();
  EXPECT_EQ(json[0], '[') << json;
  bb_string_free(json);
}

TEST_F(Misuse, WrongArrays) {
  bb_array* array = nullptr;
  bb_array_options options = BB_ARRAY_OPTIONS_INIT;
  bb_device* members[] = {device_, nullptr};
  EXPECT_FAILS(bb_array_create(runtime_, members, 2, &options, &array), BB_INVALID_ARGUMENT,
               "bb_array_create: options.store is NULL");
  options.store = "file:/nonexistent/cluster.db";
  EXPECT_FAILS(bb_array_create(runtime_, members, 2, &options, &array), BB_INVALID_ARGUMENT,
               "bb_array_create: member 1 is NULL");
  EXPECT_FAILS(bb_array_create(runtime_, nullptr, 0, &options, &array), BB_INVALID_ARGUMENT,
               "bb_array_create: needs a runtime and 1 to 256 members, got 0");
}

}  // namespace
