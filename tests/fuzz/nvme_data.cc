// SPDX-License-Identifier: Apache-2.0
// What NVMe commands carry: Connect data, Identify data, the discovery log. Input: one byte that
// says which, then fields: two bytes of place, one of length, and the bytes that stand there. All
// between them is zero or what a good one has, so that a short input reaches every field.
#include <algorithm>

#include "base/check.h"
#include "fuzz.h"
#include "input.h"
#include "io/nvme/ana.h"
#include "io/nvme/command.h"
#include "io/nvme/health.h"
#include "io/nvme/identify.h"
#include "io/nvme/log_page.h"

namespace bb {
namespace {

using namespace io::nvme;
using Block = std::vector<std::byte>;

const Block& good_connect() {
  static const Block block = [] {
    Block made(kConnectDataBytes);
    ConnectData{.host = {.host_nqn = "nqn.2026-11.a:h"}, .subsystem_nqn = "nqn.2026-11.a:s"}.encode(
        made);
    return made;
  }();
  return block;
}

const Block& good_discovery() {
  static const Block block = encode_discovery_log(
      7, {{.subsystem_nqn = "nqn.2026-11.a:s", .address = "127.0.0.1", .port = "4420"},
          {.subsystem_nqn = "nqn.2026-11.a:t", .address = "::1", .port = "1", .ipv6 = true}});
  return block;
}

void try_connect(ConstBytes data) {
  auto connect = ConnectData::decode(data);
  if (!connect.ok()) return;
  BB_CHECK(check_nqn(connect->subsystem_nqn).ok() && check_nqn(connect->host.host_nqn).ok(),
           "a name that is none");
  Block again(kConnectDataBytes);
  connect->encode(again);
  auto twice = ConnectData::decode(again);
  BB_CHECK(twice.ok() && twice->host == connect->host &&
               twice->subsystem_nqn == connect->subsystem_nqn &&
               twice->controller_id == connect->controller_id,
           "it changed by being written");
}

void try_discovery(ConstBytes data) {
  auto log = decode_discovery_log(data);
  BB_CHECK(log.ok() == (data.size() >= kDiscoveryEntryBytes), "{}", log.status().to_string());
  if (!log.ok()) return;
  BB_CHECK(log->entries.size() <= data.size() / kDiscoveryEntryBytes, "entries that are not there");
  for (const DiscoveryEntry& entry : log->entries) {
    BB_CHECK(
        entry.subsystem_nqn.size() <= 256 && entry.address.size() <= 256 && entry.port.size() <= 32,
        "a field beyond its place");
  }
}

void try_identify(ConstBytes data) {
  auto controller = ControllerInfo::decode(data);
  BB_CHECK(controller.ok() || !controller.status().text().empty(), "refused for no reason");
  auto space = NamespaceInfo::decode(data);
  BB_CHECK(space.ok() || !space.status().text().empty(), "refused for no reason");
  (void)NamespaceDescriptors::decode(data);
  auto formats = lba_formats(data);
  BB_CHECK(!formats.ok() || (!formats->empty() && formats->size() <= 64), "formats beyond 64");
  auto health = Health::decode(data);
  BB_CHECK(health.ok() == (data.size() >= kHealthLogBytes), "{}", health.status().to_string());
  if (health.ok()) (void)critical_warnings(health->critical_warning);
  auto access = find_ana_state(data, 1, 1);
  BB_CHECK(access.ok() || !access.status().text().empty(), "refused for no reason");
  BB_CHECK(decode_namespace_list(data).size() <= data.size() / 4, "a list longer than its data");
}

void try_small(ConstBytes data) {
  Sqe sqe = Sqe::decode(data.first(kSqeBytes));
  std::byte again[kSqeBytes];
  sqe.encode(again);
  ConnectCommand command = ConnectCommand::decode(sqe);
  command.encode(sqe);
  BB_CHECK(ConnectCommand::decode(sqe).queue_id == command.queue_id, "another queue");
  Capabilities cap = Capabilities::decode(load_le<uint64_t>(data.data()));
  (void)Capabilities::decode(cap.encode());
  (void)code_of(Cqe::decode(data.first(kCqeBytes)).status);
}

Block block_of(unsigned kind) {
  if (kind == 0) return good_connect();
  if (kind == 1) return good_discovery();
  return Block(kIdentifyBytes);
}

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  auto field = [](unsigned kind, unsigned at, std::string_view bytes) {
    Block input{static_cast<std::byte>(kind), static_cast<std::byte>(at & 0xff),
                static_cast<std::byte>(at >> 8), static_cast<std::byte>(bytes.size())};
    input.insert(input.end(), as_bytes(bytes).begin(), as_bytes(bytes).end());
    return input;
  };
  return {{"connect", field(0, kConnectDataHostAt, "nqn.2026-11.b")},
          {"discovery", field(1, 8, "\xff")},
          {"discovery-cut", field(1 + 4 * 9, 8, "\x03")},
          {"identify", field(2, 77, "\x05")},
          {"namespace", field(2, 128, std::string_view("\0\0\x09\0", 4))},
          {"descriptors", field(2, 0, std::string_view("\x03\x10\0\0abcdefghijklmnop", 20))},
          {"access", field(2, 8,
                           std::string_view("\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0"
                                            "\0\0\0\0\0\0\0\0\x02",
                                            25))},
          {"command", field(3, 0, "\x7f\x40")}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  unsigned kind = data[0] & 3;
  Block block = block_of(kind);
  fuzz::Input input({reinterpret_cast<const std::byte*>(data + 1), size - 1});
  while (!input.empty()) {
    size_t at = input.take(2) % block.size();
    ConstBytes bytes = input.raw(input.byte());
    std::copy_n(bytes.begin(), std::min(bytes.size(), block.size() - at), block.data() + at);
  }
  size_t cut = size_t{data[0]} >> 2;  // a shorter answer, of an exact size
  if (cut > 0 && kind != 3) block = Block(block.begin(), block.end() - ptrdiff_t(cut * 15));
  if (kind == 0) try_connect(block);
  if (kind == 1) try_discovery(block);
  if (kind == 2) try_identify(block);
  if (kind == 3) try_small(block);
  return 0;
}
