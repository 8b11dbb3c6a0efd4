// SPDX-License-Identifier: Apache-2.0
// The NBD client against a server that does what the input says: the handshake on raw bytes, then
// commands, sends, and either raw bytes or replies with real cookies but any fields. Whatever
// comes, a command completes once, its memory stays within its bounds, a read that succeeds has
// had all its bytes, and memory is not given back while it is being sent.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "fuzz.h"
#include "input.h"
#include "io/nbd/client_handshake.h"
#include "io/nbd/client_queue.h"

namespace bb {
namespace {

using namespace io;
using namespace io::nbd;
using fuzz::Input;

constexpr std::byte kGuard{0xa5};
constexpr std::byte kUntouched{0xee};
constexpr size_t kCommands = 8;
constexpr int kStepsMax = 64;
constexpr uint32_t kContext = 5;
constexpr std::array<uint32_t, 4> kLengths = {512, 1024, 8192, 40'000};

struct Probe : ClientCommand {
  std::unique_ptr<std::byte[]> memory;
  size_t memory_bytes = 0;
  iovec pieces[3] = {};
  bool busy = false;
  bool sending = false;

  void prepare(Command what, uint32_t length) {
    request = {.command = what, .offset_bytes = 4096, .length_bytes = length};
    memory_bytes = length + 2;
    memory.reset(new std::byte[memory_bytes]);
    std::memset(memory.get(), static_cast<int>(kUntouched), memory_bytes);
    memory[0] = memory[length + 1] = kGuard;
    std::byte* data = memory.get() + 1;
    uint32_t some = length / 16;  // and one long piece, which is received in place
    pieces[0] = {.iov_base = data, .iov_len = some};
    pieces[1] = {.iov_base = data + some, .iov_len = 0};
    pieces[2] = {.iov_base = data + some, .iov_len = length - some};
    iov = pieces;
    iov_count = 3;
    busy = true;
  }
  void check() const {
    BB_CHECK(memory[0] == kGuard && memory[memory_bytes - 1] == kGuard,
             "written beyond the memory");
    if (request.command != Command::kRead || error != Errno::kNone) return;
    // The server of this test never sends a byte like this one.
    bool whole = std::find(memory.get(), memory.get() + memory_bytes, kUntouched) ==
                 memory.get() + memory_bytes;
    BB_CHECK(whole, "a read succeeded without all its data");
  }
};

class Session {
 public:
  explicit Session(uint8_t bits)
      : framing_(static_cast<Framing>(bits % 3)),
        in_place_((bits & 16) != 0),
        queue_({.framing = framing_, .depth = kCommands, .context_id = kContext}) {}

  void run(Input& input) {
    for (int i = 0; i < kStepsMax && !input.empty() && !ended_; ++i) step(input);
    if (in_flight_) sent();
    if (!ended_) collect();
    while (ClientCommand* command = queue_.take_lost()) give_back(command, true);
    for (Probe& probe : probes_) BB_CHECK(!probe.busy, "a command never came back");
  }

 private:
  void step(Input& input) {
    uint8_t action = input.byte();
    Probe& probe = probes_[(action >> 3) % kCommands];
    switch (action & 7) {
      case 0:
        return submit(probe, input.byte());
      case 1:
        return in_flight_ ? sent() : send();
      case 2:
        return feed(input.raw(input.byte()));
      case 3:
        return simple(probe, input);
      case 4:
        return data(probe, input);
      case 5:
        return chunk(probe, input);
      case 6:
        return states(probe, input);
      default:
        if (in_flight_) sent();
        return send();
    }
  }
  void submit(Probe& probe, uint8_t how) {
    if (probe.busy) return;
    constexpr Command kKinds[] = {Command::kRead, Command::kWrite, Command::kBlockStatus,
                                  Command::kFlush};
    probe.prepare(kKinds[(how >> 2) & 3], kLengths[how & 3]);
    queue_.submit(probe);
  }
  void send() {
    if (in_flight_) return;
    in_flight_ = queue_.fill(batch_);
    for (Probe& probe : probes_) {
      for (uint32_t i = 0; i < batch_.iov_count(); ++i) {
        const auto* at = static_cast<const std::byte*>(batch_.iov()[i].iov_base);
        probe.sending |=
            probe.busy && at >= probe.memory.get() && at < probe.memory.get() + probe.memory_bytes;
      }
    }
  }
  void sent() {
    for (Probe& probe : probes_) probe.sending = false;
    in_flight_ = false;
    queue_.sent(batch_);
    collect();
  }
  void feed(ConstBytes bytes) {
    std::vector<std::byte> clean(bytes.begin(), bytes.end());
    std::replace(clean.begin(), clean.end(), kUntouched, std::byte{0xef});
    bytes = clean;
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
      if (status.ok()) continue;
      BB_CHECK(!status.text().empty(), "an end for no reason");
      ended_ = true;
    }
  }
  void simple(Probe& probe, Input& input) {
    std::vector<std::byte> out;
    Writer(out).be(kSimpleReplyMagic).be(uint32_t{input.byte()}).be(probe.request.cookie);
    bool follows = (input.byte() & 1) != 0;
    if (follows) out.resize(out.size() + probe.request.length_bytes, std::byte{1});
    feed(out);
  }
  void header(std::vector<std::byte>& out, const Probe& probe, uint16_t flags, uint16_t type,
              uint64_t length) {
    Writer writer(out);
    bool extended = framing_ == Framing::kExtended;
    writer.be(extended ? kExtendedChunkMagic : kChunkMagic)
        .be(flags)
        .be(type)
        .be(probe.request.cookie);
    if (extended) {
      writer.be(probe.request.offset_bytes).be(length);
    } else {
      writer.be(static_cast<uint32_t>(length));
    }
  }
  void data(Probe& probe, Input& input) {
    uint8_t how = input.byte();
    uint64_t skip = input.take(2);
    uint64_t length = (how & 2) != 0 ? probe.request.length_bytes - skip : input.take(2);
    std::vector<std::byte> out;
    length = std::min<uint64_t>(length, 50'000);
    header(out, probe, how & 1, static_cast<uint16_t>(ChunkType::kOffsetData), length + 8);
    Writer(out).be(probe.request.offset_bytes + skip);
    out.resize(out.size() + length, std::byte{2});
    if ((how & 4) == 0) return feed(out);
    for (size_t at = 0; at < out.size(); at += 333) {
      feed(ConstBytes(out).subspan(at, std::min<size_t>(333, out.size() - at)));
    }
  }
  void chunk(Probe& probe, Input& input) {
    constexpr ChunkType kTypes[] = {ChunkType::kNone,  ChunkType::kOffsetHole,
                                    ChunkType::kError, ChunkType::kErrorOffset,
                                    ChunkType{0x9000}, ChunkType{77}};
    uint8_t how = input.byte();
    auto type = kTypes[(how >> 1) % 6];
    std::vector<std::byte> payload;
    Writer writer(payload);
    if (type == ChunkType::kOffsetHole) {
      writer.be(probe.request.offset_bytes + input.take(2)).be(uint32_t{input.take(2)});
    } else if (type != ChunkType::kNone) {
      ConstBytes text = input.raw(input.byte() & 15);
      writer.be(uint32_t{input.byte()})
          .be(static_cast<uint16_t>(text.size() + (how >> 6)))
          .text(as_text(text));
    }
    std::vector<std::byte> out;
    header(out, probe, how & 1, static_cast<uint16_t>(type), payload.size());
    out.insert(out.end(), payload.begin(), payload.end());
    feed(out);
  }
  void states(Probe& probe, Input& input) {
    uint8_t how = input.byte();
    bool wide = (framing_ == Framing::kExtended) != ((how & 128) != 0);
    std::vector<std::byte> payload;
    Writer writer(payload);
    uint32_t count = (how >> 2) & 7;
    writer.be(kContext + ((how >> 5) & 1));
    if (wide) writer.be(count);
    for (uint32_t i = 0; i < count; ++i) {
      uint32_t length = input.take(2);
      uint32_t flags = input.byte();
      if (wide) {
        writer.be(uint64_t{length}).be(uint64_t{flags});
      } else {
        writer.be(length).be(flags);
      }
    }
    std::vector<std::byte> out;
    auto type = wide ? ChunkType::kBlockStatusExtended : ChunkType::kBlockStatus;
    header(out, probe, how & 1, static_cast<uint16_t>(type), payload.size());
    out.insert(out.end(), payload.begin(), payload.end());
    feed(out);
  }
  void collect() {
    while (ClientCommand* command = queue_.take_completed()) give_back(command, false);
  }
  void give_back(ClientCommand* command, bool lost) {
    auto& probe = *static_cast<Probe*>(command);
    BB_CHECK(probe.busy, "a command came back twice");
    BB_CHECK(!probe.sending, "a command came back while its memory is being sent");
    probe.busy = false;
    if (!lost) probe.check();
    uint64_t told = 0;
    for (const BlockState& each : probe.states) told += each.length_bytes;
    BB_CHECK(told <= probe.request.length_bytes, "states of {} bytes", told);
  }

  Framing framing_;
  bool in_place_;
  ClientQueue queue_;
  ClientQueue::Batch batch_;
  bool in_flight_ = false;
  bool ended_ = false;
  std::array<Probe, kCommands> probes_;
};

// Whole and in pieces: both must end alike.
struct Haggled {
  ClientHandshake::State state;
  std::vector<std::byte> sent;
};
Haggled haggle(uint8_t bits, ConstBytes stream, size_t step) {
  ClientHandshake handshake({.export_name = "disk",
                             .tls = (bits & 4) == 0   ? TlsPolicy::kOff
                                    : (bits & 1) == 0 ? TlsPolicy::kRequired
                                                      : TlsPolicy::kAllowed,
                             .extended = (bits & 8) == 0,
                             .structured = (bits & 32) == 0});
  std::vector<std::byte> out;
  std::vector<std::byte> pending;
  for (size_t at = 0; at < stream.size(); at += step) {
    ConstBytes more = stream.subspan(at, std::min(step, stream.size() - at));
    pending.insert(pending.end(), more.begin(), more.end());
    size_t used = handshake.feed(pending, out);
    while (handshake.state() == ClientHandshake::State::kStartTls) {
      handshake.secured(out);
      used += handshake.feed(ConstBytes(pending).subspan(used), out);
    }
    pending.erase(pending.begin(), pending.begin() + static_cast<ptrdiff_t>(used));
    if (handshake.state() != ClientHandshake::State::kHaggling) break;
    BB_CHECK(pending.size() < ClientHandshake::kUnitMax, "{} bytes wait", pending.size());
  }
  bool failed = handshake.state() == ClientHandshake::State::kFailed;
  BB_CHECK(failed == !handshake.why().ok(), "failed for no reason");
  return {handshake.state(), out};
}

void reply(std::vector<std::byte>& to, Option option, OptionReply type, std::string_view data) {
  Writer(to)
      .be(kOptionReplyMagic)
      .be(static_cast<uint32_t>(option))
      .be(static_cast<uint32_t>(type))
      .be(static_cast<uint32_t>(data.size()))
      .text(data);
}

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  auto bytes = [](std::initializer_list<int> values) {
    std::vector<std::byte> out;
    for (int value : values) out.push_back(static_cast<std::byte>(value));
    return out;
  };
  Seeds all = {
      // command 0: read 512, sent; simple reply with data
      {"simple", bytes({0, 0, 0, 7, 3, 0, 1})},
      // command 0: read 40000, sent; its data in place, in two chunks, the second first
      {"chunks", bytes({17, 0, 3, 7, 4, 2, 0, 8, 4, 1, 0, 0, 0, 8})},
      {"hole", bytes({1, 0, 0, 7, 5, 3, 0, 0, 0, 2})},
      // command 1: write 8192, being sent; error before it is
      {"overtaken", bytes({1, 8, 6, 1, 13, 5, 3, 1, 2, 3, 28, 1})},
      {"states", bytes({2, 16, 8, 7, 22, 8 | 1, 0, 1, 3, 0, 1, 0})},
      {"states-32", bytes({1, 16, 8, 7, 22, 8 | 1, 0, 1, 3, 0, 1, 0})},
  };
  for (int bits : {0x40, 0x44, 0x48, 0x60}) {
    std::vector<std::byte> talk = bytes({bits});
    Writer(talk).be(kGreetingMagic).be(kOptionMagic).be(uint16_t{3});
    if ((bits & 4) != 0) reply(talk, Option::kStartTls, OptionReply::kAck, "");
    if ((bits & 8) == 0) {
      reply(talk, Option::kExtendedHeaders,
            (bits & 4) != 0 ? OptionReply::kAck : OptionReply::kErrUnsupported, "no");
    }
    if ((bits & 36) == 0) reply(talk, Option::kStructuredReply, OptionReply::kAck, "");
    if ((bits & 32) == 0) {
      reply(talk, Option::kSetMetaContext, OptionReply::kMetaContext,
            std::string_view("\0\0\0\5base:allocation", 19));
      reply(talk, Option::kSetMetaContext, OptionReply::kAck, "");
    }
    reply(talk, Option::kGo, OptionReply::kInfo,
          std::string_view("\0\0\0\0\0\0\0\x10\0\0\1\xcd", 12));
    reply(talk, Option::kGo, OptionReply::kInfo,
          std::string_view("\0\3\0\0\2\0\0\0\x10\0\2\0\0\0", 14));
    reply(talk, Option::kGo, OptionReply::kAck, "");
    all.emplace_back("handshake-" + std::to_string(bits), talk);
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 2) return 0;
  ConstBytes stream(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  if ((data[0] & 64) != 0) {
    Haggled whole = haggle(data[0], stream, stream.size());
    for (size_t step : {size_t{1}, size_t{61}}) {
      Haggled pieces = haggle(data[0], stream, step);
      BB_CHECK(pieces.state == whole.state && pieces.sent == whole.sent,
               "pieces of {} gave another end", step);
    }
    return 0;
  }
  Input input{stream};
  auto session = std::make_unique<Session>(data[0]);
  session->run(input);
  return 0;
}
