// SPDX-License-Identifier: Apache-2.0
// The NBD handshake and the requests behind it. Input: one byte of options, then what a client
// sends. It is fed whole and in pieces; both must give the same answers.
#include <algorithm>

#include "base/check.h"
#include "fuzz.h"
#include "io/nbd/handshake.h"

namespace bb {
namespace {

using namespace io;
using namespace io::nbd;

constexpr uint64_t kSize = 1 << 20;

std::vector<ExportInfo> exports_of(uint8_t bits) {
  std::vector<ExportInfo> list = {{.name = "disk",
                                   .description = "first",
                                   .size_bytes = kSize,
                                   .read_only = (bits & 1) != 0,
                                   .trim = (bits & 2) != 0}};
  if ((bits & 4) != 0) list.push_back({.name = "b", .size_bytes = kSize, .block_min_bytes = 4096});
  return list;
}

// A servable request never reaches beyond the device, and only writes carry a payload.
void check_servable(const ExportInfo& device, const Request& request, const Verdict& verdict) {
  BB_CHECK(verdict.payload_bytes <= kSkippedPayloadMax, "{} bytes to skip", verdict.payload_bytes);
  if (verdict.action != Verdict::Action::kServe) return;
  BB_CHECK(verdict.payload_bytes == (request.command == Command::kWrite ? request.length_bytes : 0),
           "a payload of {} is served", verdict.payload_bytes);
  BB_CHECK(request.command <= Command::kBlockStatus, "command {} is served",
           static_cast<uint16_t>(request.command));
  if (request.command == Command::kFlush) return;
  BB_CHECK(request.length_bytes > 0 && request.length_bytes <= device.size_bytes &&
               request.offset_bytes <= device.size_bytes - request.length_bytes,
           "{} bytes at {} are served", request.length_bytes, request.offset_bytes);
  BB_CHECK((request.offset_bytes | request.length_bytes) % device.block_min_bytes == 0,
           "unaligned {} at {}", request.length_bytes, request.offset_bytes);
  bool changes = request.command == Command::kWrite || request.command == Command::kTrim ||
                 request.command == Command::kWriteZeroes;
  BB_CHECK(!device.read_only || !changes, "a change of a read-only device");
  BB_CHECK(request.command != Command::kRead || request.length_bytes <= kPayloadMax, "a big read");
}

void answer(const Request& request, const Verdict& verdict, Framing framing,
            std::vector<std::byte>& out) {
  if (verdict.action == Verdict::Action::kRefuse) {
    return encode_error(out, request, framing, verdict.error, verdict.reason);
  }
  if (request.command == Command::kBlockStatus) {
    return encode_block_status(out, request, framing, {{.length_bytes = request.length_bytes}});
  }
  std::byte header[kReplyHeaderMax];
  size_t length = request.command == Command::kRead ? encode_data_header(header, request, framing)
                                                    : encode_success(header, request, framing);
  out.insert(out.end(), header, header + length);
}

// All that a server would send, reads answered without their data.
std::vector<std::byte> converse(const std::vector<ExportInfo>& exports, TlsPolicy tls,
                                ConstBytes stream, size_t step) {
  Handshake handshake(tls);
  std::vector<std::byte> out;
  std::vector<std::byte> pending;
  uint64_t skip = 0;
  for (size_t at = 0; at < stream.size(); at += step) {
    ConstBytes more = stream.subspan(at, std::min(step, stream.size() - at));
    pending.insert(pending.end(), more.begin(), more.end());
    size_t used = handshake.feed(pending, exports, out);
    while (handshake.state() == Handshake::State::kStartTls) {  // as if it had been established
      handshake.secured();
      used += handshake.feed(ConstBytes(pending).subspan(used), exports, out);
    }
    if (handshake.state() == Handshake::State::kClosed) {
      BB_CHECK(!handshake.reason().empty(), "closed for no reason");
      return out;
    }
    while (handshake.state() == Handshake::State::kTransmission) {
      size_t skipped = std::min<size_t>(skip, pending.size() - used);
      skip -= skipped;
      used += skipped;
      Framing framing = handshake.agreed().framing;
      size_t length = request_bytes(framing);
      if (skip > 0 || pending.size() - used < length) break;
      auto request = decode_request(ConstBytes(pending).subspan(used, length), framing);
      if (!request) return out;
      auto found = std::find_if(exports.begin(), exports.end(), [&](const ExportInfo& each) {
        return each.name == handshake.chosen();
      });
      BB_CHECK(found != exports.end(), "chose what was not offered");
      Verdict verdict = judge(*found, handshake.agreed(), *request);
      check_servable(*found, *request, verdict);
      if (verdict.action == Verdict::Action::kDrop) return out;
      if (verdict.action == Verdict::Action::kDisconnect) return out;
      answer(*request, verdict, framing, out);
      used += length;
      skip = verdict.payload_bytes;
    }
    pending.erase(pending.begin(), pending.begin() + static_cast<ptrdiff_t>(used));
    BB_CHECK(
        handshake.state() != Handshake::State::kHaggling || pending.size() < Handshake::kUnitMax,
        "{} bytes wait for more", pending.size());
  }
  return out;
}

void option(std::vector<std::byte>& to, Option what, std::string_view data) {
  Writer(to)
      .be(kOptionMagic)
      .be(static_cast<uint32_t>(what))
      .be(static_cast<uint32_t>(data.size()))
      .text(data);
}

void requests(std::vector<std::byte>& to, Framing framing) {
  for (uint16_t command = 0; command < 9; ++command) {
    Request request{.flags = static_cast<uint16_t>(command % 3),
                    .command = static_cast<Command>((command + 1) % 9),
                    .cookie = command,
                    .offset_bytes = 512,
                    .length_bytes = 512};
    std::byte bytes[kExtendedRequestBytes];
    size_t length = encode_request(request, bytes, framing);
    to.insert(to.end(), bytes, bytes + length);
    if (request.command == Command::kWrite) to.resize(to.size() + 512);
  }
}

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  constexpr std::string_view kGo("\0\0\0\4disk\0\2\0\1\0\3", 14);
  constexpr std::string_view kMeta("\0\0\0\4disk\0\0\0\1\0\0\0\4base", 20);
  constexpr std::string_view kAllocation(
      "\0\0\0\4disk\0\0\0\1\0\0\0\x0f"
      "base:allocation",
      31);
  for (unsigned bits : {0u, 1u, 2u, 6u}) {
    std::vector<std::byte> extended{static_cast<std::byte>(bits | 8)};
    Writer(extended).be(uint32_t{3});
    option(extended, Option::kStartTls, "");
    option(extended, Option::kExtendedHeaders, "");
    option(extended, Option::kListMetaContext, kAllocation);
    option(extended, Option::kSetMetaContext, kAllocation);
    option(extended, Option::kGo, kGo);
    requests(extended, Framing::kExtended);
    all.emplace_back("extended-" + std::to_string(bits), extended);
    std::vector<std::byte> go{static_cast<std::byte>(bits)};
    Writer(go).be(uint32_t{3});
    option(go, Option::kStructuredReply, "");
    option(go, Option::kList, "");
    option(go, Option::kSetMetaContext, kMeta);
    option(go, Option::kInfo, kGo);
    option(go, Option::kGo, kGo);
    requests(go, Framing::kStructured);
    all.emplace_back("go-" + std::to_string(bits), go);
    std::vector<std::byte> name{static_cast<std::byte>(bits)};
    Writer(name).be(uint32_t{1});
    option(name, Option::kStartTls, "");
    option(name, Option::kExportName, "disk");
    requests(name, Framing::kSimple);
    all.emplace_back("name-" + std::to_string(bits), name);
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 2) return 0;
  std::vector<ExportInfo> exports = exports_of(data[0]);
  ConstBytes stream(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  auto tls = (data[0] & 16) != 0  ? TlsPolicy::kRequired
             : (data[0] & 8) != 0 ? TlsPolicy::kAllowed
                                  : TlsPolicy::kOff;
  auto whole = converse(exports, tls, stream, stream.size());
  for (size_t step : {size_t{3}, size_t{61}}) {
    BB_CHECK(converse(exports, tls, stream, step) == whole, "pieces of {} gave other answers",
             step);
  }
  return 0;
}
