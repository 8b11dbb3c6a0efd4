// SPDX-License-Identifier: Apache-2.0
// PduReader and the decoders behind it. Input: one byte of options, then the stream. The stream is
// read whole and in pieces; both must give the same events.
#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "io/nvme/command.h"
#include "io/nvme/identify.h"
#include "io/nvme/pdu_reader.h"

namespace bb {
namespace {

using namespace io::nvme;
using Kind = PduEvent::Kind;

struct Options {
  Role role;
  bool negotiated;
  bool repair;  // write right header digests, or nothing behind them is ever reached
  PduFormat format;

  explicit Options(uint8_t bits)
      : role((bits & 1) != 0 ? Role::kHost : Role::kController),
        negotiated((bits & 2) == 0),
        repair((bits & 4) != 0),
        format({.digests = {(bits & 8) != 0, (bits & 16) != 0},
                .alignment_bytes = (bits & 32) != 0 ? 64u : 4u}) {}
};

constexpr ReaderLimits kLimits{.capsule_data_max_bytes = 8192, .data_pdu_max_bytes = 65536};

void decode_header(const PduReader& reader, ConstBytes header) {
  switch (reader.header().type) {
    case PduType::kIcReq:
      BB_CHECK(IcReq::decode(header).alignment_dwords < 32, "an alignment got through");
      break;
    case PduType::kIcResp:
      BB_CHECK(IcResp::decode(header).h2c_data_max_bytes >= 4096, "a MAXH2CDATA got through");
      break;
    case PduType::kH2cTermReq:
    case PduType::kC2hTermReq:
      BB_CHECK(TermReq::decode(header).header.size() <= kTermDataMaxBytes, "a long termination");
      break;
    case PduType::kCapsuleCmd: {
      std::byte again[kSqeBytes];
      Sqe::decode(capsule_sqe(header)).encode(again);
      BB_CHECK(reader.data_bytes() <= kLimits.capsule_data_max_bytes, "a big capsule");
      break;
    }
    case PduType::kCapsuleResp:
      (void)code_of(Cqe::decode(capsule_cqe(header)).status);
      break;
    case PduType::kH2cData:
    case PduType::kC2hData:
      BB_CHECK(
          DataHeader::decode(header, reader.header().flags).length_bytes == reader.data_bytes(),
          "data of another length");
      BB_CHECK(reader.data_bytes() <= kLimits.data_pdu_max_bytes, "a big data PDU");
      break;
    case PduType::kR2t:
      (void)R2t::decode(header);
      break;
  }
}

void decode_data(ConstBytes data) {
  (void)ConnectData::decode(data).ok();
  (void)ControllerInfo::decode(data).ok();
  (void)NamespaceInfo::decode(data).ok();
  (void)NamespaceDescriptors::decode(data);
  (void)decode_namespace_list(data);
}

// Reads in pieces of `step` bytes; returns a digest of all that came out.
uint32_t read_all(const Options& options, ConstBytes stream, size_t step) {
  PduReader reader(options.role, kLimits);
  if (options.negotiated) reader.negotiated(options.format);
  uint32_t trace = 0;
  uint32_t in_pdu = 0;
  auto note = [&trace](uint32_t value) {
    std::byte bytes[4];
    store_le<uint32_t>(bytes, value);
    trace = crc32c(bytes, trace);
  };
  for (size_t at = 0; at < stream.size(); at += step) {
    ConstBytes input = stream.subspan(at, std::min(step, stream.size() - at));
    for (PduEvent event; (event = reader.next(input)).kind != Kind::kNeedMore;) {
      if (event.kind == Kind::kIllegal) {
        BB_CHECK(reader.violation().error != FatalError::kNone, "illegal for no reason");
        note(reader.violation().information);
        return trace;
      }
      if (event.kind == Kind::kHeader) {
        decode_header(reader, event.bytes);
        note(static_cast<uint32_t>(reader.header().type));
        note(crc32c(event.bytes));
        in_pdu = 0;
      } else if (event.kind == Kind::kData) {
        BB_CHECK(event.offset_bytes == in_pdu, "data at {}, not {}", event.offset_bytes, in_pdu);
        in_pdu += static_cast<uint32_t>(event.bytes.size());
        trace = crc32c(event.bytes, trace);
        if (step == stream.size()) decode_data(event.bytes);  // once is enough, and it is slow
      } else {
        BB_CHECK(in_pdu == reader.data_bytes(), "{} bytes of {}", in_pdu, reader.data_bytes());
        note(event.digest_ok ? 1 : 0);
      }
    }
  }
  return trace;
}

void repair(std::vector<std::byte>& stream) {
  for (size_t at = 0; at + kCommonHeaderBytes <= stream.size();) {
    PduHeader header = PduHeader::decode(stream.data() + at);
    size_t end = at + header.hlen + kDigestBytes;
    if (end > stream.size()) return;
    store_digest(stream.data() + at + header.hlen,
                 crc32c(ConstBytes(stream).subspan(at, header.hlen)));
    at += std::max<size_t>(header.plen, kCommonHeaderBytes);
  }
}

}  // namespace

const size_t fuzz::kInputMax = 1024;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  std::vector<std::byte> data(512, std::byte{7});
  for (unsigned bits : {0x00u, 0x1cu, 0x3cu, 0x01u, 0x1du}) {
    Options options(static_cast<uint8_t>(bits));
    std::vector<std::byte> stream{static_cast<std::byte>(bits)};
    auto add = [&](size_t head, const std::byte* from, bool with_data) {
      stream.insert(stream.end(), from, from + head);
      if (!with_data) return;
      stream.insert(stream.end(), data.begin(), data.end());
      std::byte digest[kDigestBytes];
      store_digest(digest, crc32c(data));
      if (options.format.digests.data) stream.insert(stream.end(), digest, digest + 4);
    };
    std::byte head[kHeaderRoomBytes];
    std::byte entry[kSqeBytes] = {};
    DataHeader header{.command_id = 1, .length_bytes = 512, .last = true};
    if (options.role == Role::kController) {
      add(encode_capsule_cmd(head, entry, 0, options.format), head, false);
      add(encode_capsule_cmd(head, entry, 512, options.format), head, true);
      add(encode_h2c_data(head, header, options.format), head, true);
    } else {
      add(R2t{.length_bytes = 512}.encode(head, options.format), head, false);
      add(encode_c2h_data(head, header, options.format), head, true);
      add(encode_capsule_resp(head, entry, options.format), head, false);
    }
    all.emplace_back("session-" + std::to_string(bits), stream);
  }
  std::vector<std::byte> hello(1 + kIcBytes);
  hello[0] = std::byte{2};
  IcReq{}.encode(Bytes(hello).subspan(1));
  all.emplace_back("icreq", hello);
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size < 2) return 0;
  Options options(data[0]);
  std::vector<std::byte> stream(size - 1);
  std::memcpy(stream.data(), data + 1, size - 1);
  if (options.repair) repair(stream);
  uint32_t whole = read_all(options, stream, stream.size());
  for (size_t step : {size_t{3}, size_t{77}}) {
    BB_CHECK(read_all(options, stream, step) == whole, "pieces of {} gave other PDUs", step);
  }
  return 0;
}
