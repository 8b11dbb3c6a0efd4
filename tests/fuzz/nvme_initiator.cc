// SPDX-License-Identifier: Apache-2.0
// InitiatorQueue against a target that does what the input says: submits, sends, and either raw
// bytes or PDUs with right digests and real command ids but any fields. Whatever comes, a command
// completes once, its memory stays within its bounds, and is not given back while it is being sent.
#include <algorithm>
#include <array>
#include <memory>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "input.h"
#include "io/nvme/initiator_queue.h"

namespace bb {
namespace {

using namespace io::nvme;
using fuzz::Input;

constexpr std::byte kGuard{0xa5};
constexpr size_t kCommands = 8;
constexpr int kStepsMax = 64;
constexpr uint32_t kDataMax = 20 * 1024;
constexpr std::array<uint32_t, 4> kLengths = {0, 512, 8192, 20000};

struct Command : HostCommand {
  std::unique_ptr<std::byte[]> memory;
  size_t memory_bytes = 0;
  iovec pieces[3] = {};
  bool busy = false;
  bool sending = false;

  void prepare(uint32_t length, bool to_target) {
    memory_bytes = length + 2;
    memory.reset(new std::byte[memory_bytes]);  // not cleared: it costs more than the queue
    memory[0] = memory[length + 1] = kGuard;
    std::byte* data = memory.get() + 1;
    uint32_t some = length / 16;  // and one long piece, which is received in place
    pieces[0] = {.iov_base = data, .iov_len = some};
    pieces[1] = {.iov_base = data + some, .iov_len = some};
    pieces[2] = {.iov_base = data + 2 * some, .iov_len = length - 2 * some};
    iov = pieces;
    iov_count = 3;
    length_bytes = length;
    to_controller = to_target;
    busy = true;
  }
  void check_guards() const {
    BB_CHECK(memory[0] == kGuard && memory[memory_bytes - 1] == kGuard,
             "written beyond the memory");
  }
};

class Session {
 public:
  explicit Session(uint8_t bits)
      : digests_{.header = (bits & 1) != 0, .data = (bits & 2) != 0},
        in_place_((bits & 8) != 0),
        queue_({.digests = digests_, .depth = kCommands, .capsule_data_max_bytes = 4096}) {
    queue_.start();
    BB_CHECK(queue_.fill(batch_), "no ICReq");
    queue_.sent(batch_);
    if ((bits & 4) != 0) return;  // the input sends the ICResp itself
    std::vector<std::byte> hello(kIcBytes);
    IcResp{.digests = digests_, .h2c_data_max_bytes = 4096}.encode(hello);
    feed(hello);
  }

  void run(Input& input) {
    for (int i = 0; i < kStepsMax && !input.empty() && !ended_; ++i) step(input);
    if (in_flight_) sent();
    if (!ended_) collect();
    while (HostCommand* command = queue_.take_lost()) give_back(command);
    for (Command& command : commands_) BB_CHECK(!command.busy, "a command never came back");
  }

 private:
  // One for all inputs: its arena costs more than all the rest. sent() empties it.
  static SendBatch& cleared_batch() {
    static SendBatch batch;
    BB_CHECK(batch.empty(), "the input before left something to send");
    return batch;
  }
  void step(Input& input) {
    uint8_t action = input.byte();
    Command& command = commands_[(action >> 3) % kCommands];
    switch (action & 7) {
      case 0:
        return submit(command, input.byte());
      case 1:
        return in_flight_ ? sent() : send();
      case 2:
        return feed(input.raw(input.byte()));
      case 3:
        return respond(command, input);
      case 4:
      case 5:
        return data(command, input);
      case 6:
        return ask(command, input);
      default:
        if (in_flight_) sent();
        return send();
    }
  }
  void submit(Command& command, uint8_t how) {
    if (!queue_.ready() || command.busy) return;
    command.prepare(kLengths[how & 3], (how & 4) != 0);
    queue_.submit(command);
  }
  void send() {
    if (in_flight_) return;
    in_flight_ = queue_.fill(batch_);
    for (Command& command : commands_) {
      for (uint32_t i = 0; i < batch_.iov_count(); ++i) {
        const auto* at = static_cast<const std::byte*>(batch_.iov()[i].iov_base);
        command.sending |= command.busy && at >= command.memory.get() &&
                           at < command.memory.get() + command.memory_bytes;
      }
    }
  }
  void sent() {
    for (Command& command : commands_) command.sending = false;
    in_flight_ = false;
    queue_.sent(batch_);
    collect();
  }
  void feed(ConstBytes bytes) {
    while (!ended_ && !bytes.empty()) {
      Bytes place = in_place_ ? queue_.direct_target() : Bytes{};
      ConstBytes part =
          bytes.first(std::min(bytes.size(), place.empty() ? SIZE_MAX : place.size()));
      bytes = bytes.subspan(part.size());
      if (!place.empty()) {
        std::memcpy(place.data(), part.data(), part.size());
        part = place.first(part.size());
      }
      Status status = queue_.receive(part);
      collect();
      if (!status.ok()) end(status);
    }
  }
  void end(const Status& status) {
    ended_ = true;
    BB_CHECK(!status.text().empty(), "an end for no reason");
    if (in_flight_) sent();
    send();  // the termination request, if there is one
    if (in_flight_) sent();
  }
  void respond(Command& command, Input& input) {
    std::byte cqe[kCqeBytes];
    Cqe{.command_id = command.sqe.command_id, .status = static_cast<NvmeStatus>(input.take(2))}
        .encode(cqe);
    std::byte out[kHeaderRoomBytes];
    feed(ConstBytes(out).first(encode_capsule_resp(out, cqe, format())));
  }
  void data(Command& command, Input& input) {
    uint8_t flags = input.byte();
    std::vector<std::byte> bytes(1 + input.take(2) % kDataMax, std::byte{flags});
    DataHeader header{.command_id = command.sqe.command_id,
                      .offset_bytes = input.take(2) * 4,
                      .length_bytes = static_cast<uint32_t>(bytes.size()),
                      .last = (flags & 1) != 0,
                      .success = (flags & 2) != 0};
    std::vector<std::byte> out(kHeaderRoomBytes);
    out.resize(encode_c2h_data(out, header, format()));
    out.insert(out.end(), bytes.begin(), bytes.end());
    if (digests_.data) {
      out.resize(out.size() + kDigestBytes);
      store_digest(&out[out.size() - kDigestBytes], crc32c(bytes) ^ ((flags & 4) != 0 ? 1 : 0));
    }
    if ((flags & 8) == 0) return feed(out);
    for (size_t at = 0; at < out.size(); at += 333) {  // cut, and long parts placed directly
      ConstBytes part = ConstBytes(out).subspan(at, std::min<size_t>(333, out.size() - at));
      if (!ended_) feed(part);
    }
  }
  void ask(Command& command, Input& input) {
    R2t r2t{.command_id = command.sqe.command_id,
            .transfer_tag = static_cast<uint16_t>(input.byte()),
            .offset_bytes = input.take(2),
            .length_bytes = input.take(2)};
    std::byte out[kHeaderRoomBytes];
    feed(ConstBytes(out).first(r2t.encode(out, format())));
  }
  void collect() {
    while (HostCommand* command = queue_.take_completed()) give_back(command);
  }
  void give_back(HostCommand* host_command) {
    auto& command = *static_cast<Command*>(host_command);
    BB_CHECK(command.busy, "a command came back twice");
    BB_CHECK(!command.sending, "a command came back while its memory is being sent");
    command.busy = false;
    command.check_guards();
  }
  PduFormat format() const { return {.digests = digests_}; }

  Digests digests_;
  bool in_place_;
  InitiatorQueue queue_;
  SendBatch& batch_ = cleared_batch();
  bool in_flight_ = false;
  bool ended_ = false;
  std::array<Command, kCommands> commands_;
};

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  auto bytes = [](std::initializer_list<int> values) {
    std::vector<std::byte> out;
    for (int value : values) out.push_back(static_cast<std::byte>(value));
    return out;
  };
  return {
      // command 0: read 512, sent; data with success
      {"read", bytes({3, 0, 1, 1, 1, 4, 3, 0xff, 1, 0, 0})},
      // command 0: read 20000, sent; its data, received in place; response
      {"long", bytes({11, 0, 3, 1, 1, 4, 9, 0x1f, 0x4e, 0, 0, 3, 0, 0})},
      // command 1: write 20000, sent; R2T of 16384, sent; response with an error
      {"write", bytes({3, 8, 7, 1, 1, 14, 5, 0, 0, 0, 0x40, 1, 1, 11, 0x80, 2})},
      // command 2: small write within the capsule, answered before it is sent
      {"overtaken", bytes({1, 16, 5, 1, 19, 0, 0, 1})},
      {"damaged", bytes({2, 0, 1, 1, 1, 4, 7, 0xff, 1, 0, 0})},
      {"raw", bytes({4, 2, 8, 1, 0, 128, 0, 128, 0, 0, 0})},
  };
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 2) return 0;
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), data, size);
  Input input{ConstBytes(bytes).subspan(1)};
  auto session = std::make_unique<Session>(data[0]);
  session->run(input);
  return 0;
}
