// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/pdu_reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/prng.h"
#include "io/nvme/hex.h"

namespace bb::io::nvme {
namespace {

using Kind = PduEvent::Kind;
using Buffer = std::vector<std::byte>;

Buffer ic_req() {
  Buffer out(kIcBytes);
  IcReq{}.encode(out);
  return out;
}

void append(Buffer& to, ConstBytes bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

void append_data(Buffer& to, ConstBytes data, const PduFormat& format) {
  append(to, data);
  if (!format.digests.data || data.empty()) return;
  std::byte digest[4];
  store_digest(digest, crc32c(data));
  append(to, digest);
}

Buffer capsule(const PduFormat& format, ConstBytes data, uint8_t fill = 0x11) {
  Buffer sqe(64, std::byte{fill});
  Buffer out(kHeaderRoomBytes);
  out.resize(encode_capsule_cmd(out, sqe, static_cast<uint32_t>(data.size()), format));
  append_data(out, data, format);
  return out;
}

Buffer h2c_data(const PduFormat& format, DataHeader header, ConstBytes data) {
  header.length_bytes = static_cast<uint32_t>(data.size());
  Buffer out(kHeaderRoomBytes);
  out.resize(encode_h2c_data(out, header, format));
  append_data(out, data, format);
  return out;
}

// What came out of the reader, as text: "H4 D0+16 E" and so on; data collected.
struct Seen {
  std::string events;
  Buffer data;
  size_t begin = 0;  // of the present PDU's data
};

void feed(PduReader& reader, ConstBytes input, Seen& seen) {
  for (;;) {
    PduEvent event = reader.next(input);
    switch (event.kind) {
      case Kind::kNeedMore:
        EXPECT_TRUE(input.empty());
        return;
      case Kind::kHeader:
        seen.begin = seen.data.size();
        seen.events += fmt::format("H{} ", static_cast<int>(reader.header().type));
        break;
      case Kind::kData:
        EXPECT_EQ(event.offset_bytes, seen.data.size() - seen.begin);
        append(seen.data, event.bytes);
        break;
      case Kind::kEnd:
        seen.events += fmt::format("E{} ", event.digest_ok ? "" : "!");
        break;
      case Kind::kIllegal:
        seen.events += "X";
        return;
    }
  }
}

Buffer pattern(size_t length) {
  Buffer data(length);
  Prng prng(length);
  prng.fill(data);
  return data;
}

// Every split of the stream in two, and byte by byte, gives the same PDUs.
TEST(PduReader, AnySplit) {
  for (bool header : {false, true}) {
    for (bool digest : {false, true}) {
      for (uint32_t alignment : {4u, 72u, 128u}) {
        PduFormat format{.digests = {header, digest}, .alignment_bytes = alignment};
        Buffer data = pattern(96);
        Buffer stream = capsule(format, data);
        append(stream, capsule(format, {}));
        auto run = [&](size_t first, size_t step) {
          PduReader reader(Role::kController, {});
          reader.negotiated(format);
          Seen seen;
          feed(reader, ConstBytes(stream).first(first), seen);
          for (size_t at = first; at < stream.size(); at += step) {
            feed(reader, ConstBytes(stream).subspan(at, std::min(step, stream.size() - at)), seen);
          }
          EXPECT_EQ(seen.events, "H4 E H4 ") << first << " " << step;
          EXPECT_EQ(seen.data, data);
          EXPECT_TRUE(reader.between_pdus());
        };
        for (size_t first = 0; first <= stream.size(); ++first) run(first, stream.size());
        run(0, 1);
        run(0, 7);
      }
    }
  }
}

TEST(PduReader, DataDigestErrorIsReportedAndTheStreamGoesOn) {
  PduFormat format{.digests = {true, true}};
  Buffer data = pattern(64);
  Buffer stream = capsule(format, data);
  stream[80] ^= std::byte{1};
  append(stream, capsule(format, data));
  PduReader reader(Role::kController, {});
  reader.negotiated(format);
  Seen seen;
  feed(reader, stream, seen);
  EXPECT_EQ(seen.events, "H4 E! H4 E ");
  EXPECT_EQ(reader.digest_errors(), 1u);
}

// Each flipped bit of a header under digest is fatal, whatever it hits.
TEST(PduReader, EveryHeaderBitFlipIsCaught) {
  PduFormat format{.digests = {true, true}};
  Buffer good = capsule(format, pattern(64));
  for (size_t bit = 0; bit < 76 * 8; ++bit) {
    Buffer stream = good;
    stream[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    append(stream, Buffer(70000, std::byte{0}));  // a longer PLEN must not hide it
    PduReader reader(Role::kController, {});
    reader.negotiated(format);
    ConstBytes input = stream;
    EXPECT_EQ(reader.next(input).kind, Kind::kIllegal) << "bit " << bit;
  }
}

struct Illegal {
  const char* name;
  Role role;
  bool negotiated;
  Digests digests;
  uint32_t alignment_bytes;
  const char* bytes;
  FatalError error;
  uint32_t information;
};

constexpr auto kHost = Role::kHost;
constexpr auto kTarget = Role::kController;
constexpr auto kField = FatalError::kInvalidHeaderField;

const Illegal kIllegals[] = {
    {"unknown type", kTarget, true, {}, 4, "08 00 48 00 48 00 00 00", kField, 0},
    {"type of the other direction", kTarget, true, {}, 4, "05 00 18 00 18 00 00 00", kField, 0},
    {"type of the other direction, host", kHost, true, {}, 4, "04 00 48 00 48 00 00 00", kField, 0},
    {"command before ICReq",
     kTarget,
     false,
     {},
     4,
     "04 00 48 00 48 00 00 00",
     FatalError::kSequence,
     0},
    {"ICReq twice", kTarget, true, {}, 4, "00 00 80 00 80 00 00 00", FatalError::kSequence, 0},
    {"ICResp twice", kHost, true, {}, 4, "01 00 80 00 80 00 00 00", FatalError::kSequence, 0},
    {"ICReq header length", kTarget, false, {}, 4, "00 00 7f 00 80 00 00 00", kField, 2},
    {"ICReq length", kTarget, false, {}, 4, "00 00 80 00 81 00 00 00", kField, 4},
    {"capsule header length", kTarget, true, {}, 4, "04 00 47 00 48 00 00 00", kField, 2},
    {"capsule too short", kTarget, true, {}, 4, "04 00 48 00 47 00 00 00", kField, 4},
    {"capsule too short for its digest",
     kTarget,
     true,
     {true, false},
     4,
     "04 01 48 00 48 00 00 00",
     kField,
     4},
    {"digest flag missing", kTarget, true, {true, false}, 4, "04 00 48 00 4c 00 00 00", kField, 1},
    {"digest flag not negotiated", kTarget, true, {}, 4, "04 01 48 00 4c 00 00 00", kField, 1},
    {"data digest flag missing",
     kTarget,
     true,
     {false, true},
     4,
     "04 00 48 48 4c 02 00 00",
     kField,
     1},
    {"data digest flag not negotiated", kTarget, true, {}, 4, "04 02 48 48 4c 02 00 00", kField, 1},
    {"data offset in the header", kTarget, true, {}, 4, "04 00 48 44 48 02 00 00", kField, 3},
    {"data offset in the digest",
     kTarget,
     true,
     {true, false},
     4,
     "04 01 48 48 4c 02 00 00",
     kField,
     3},
    {"data offset not aligned", kTarget, true, {}, 64, "04 00 48 48 48 02 00 00", kField, 3},
    {"data offset beyond the end", kTarget, true, {}, 4, "04 00 48 80 78 00 00 00", kField, 4},
    {"no data between offset and digest",
     kTarget,
     true,
     {false, true},
     4,
     "04 02 48 48 4c 00 00 00",
     kField,
     4},
    {"in-capsule data above 8192", kTarget, true, {}, 4, "04 00 48 48 4c 20 00 00", kField, 4},
    {"PLEN 4 GiB", kTarget, true, {}, 4, "04 00 48 48 ff ff ff ff", kField, 4},
    {"H2CData without data", kTarget, true, {}, 4, "06 00 18 18 18 00 00 00", kField, 4},
    {"H2CData above the limit",
     kTarget,
     true,
     {},
     4,
     "06 00 18 18 1c 00 02 00",
     FatalError::kLimitExceeded,
     4},
    {"H2CData length and PLEN differ",
     kTarget,
     true,
     {},
     4,
     "06 04 18 18 1c 00 00 00 01 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00",
     kField,
     16},
    {"H2CData offset not in dwords",
     kTarget,
     true,
     {},
     4,
     "06 04 18 18 1c 00 00 00 01 00 00 00 02 00 00 00 04 00 00 00 00 00 00 00",
     kField,
     12},
    {"response with data", kHost, true, {}, 4, "05 00 18 18 28 00 00 00", kField, 4},
    {"R2T with data", kHost, true, {}, 4, "09 00 18 18 28 00 00 00", kField, 4},
    {"success before the last data",
     kHost,
     true,
     {},
     4,
     "07 08 18 18 1c 00 00 00 01 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00",
     kField,
     1},
    {"termination too long", kTarget, true, {}, 4, "02 00 18 00 99 00 00 00", kField, 4},
    {"termination too short", kTarget, true, {}, 4, "02 00 18 00 17 00 00 00", kField, 4},
    {"wrong header digest",
     kTarget,
     true,
     {true, false},
     4,
     "04 01 48 00 4c 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
     "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
     "00 00 00 00 00 00 00 00 00 00 78 56 34 12",
     FatalError::kHeaderDigest,
     0x12345678},
};

TEST(PduReader, IllegalPdusNameTheFieldAndTheCode) {
  for (const Illegal& test : kIllegals) {
    SCOPED_TRACE(test.name);
    Buffer bytes = unhex(test.bytes);
    for (size_t step : {bytes.size(), size_t{1}, size_t{3}}) {
      PduReader reader(test.role, {.capsule_data_max_bytes = 8192, .data_pdu_max_bytes = 131072});
      if (test.negotiated) {
        reader.negotiated({.digests = test.digests, .alignment_bytes = test.alignment_bytes});
      }
      PduEvent event;
      for (size_t at = 0; at < bytes.size() && event.kind == Kind::kNeedMore; at += step) {
        ConstBytes input = ConstBytes(bytes).subspan(at, std::min(step, bytes.size() - at));
        event = reader.next(input);
      }
      ASSERT_EQ(event.kind, Kind::kIllegal) << step;
      EXPECT_EQ(reader.violation().error, test.error);
      EXPECT_EQ(reader.violation().information, test.information);
      EXPECT_STRNE(reader.violation().what, "");
      ConstBytes kept = reader.illegal_header();
      ASSERT_GE(kept.size(), 8u);
      EXPECT_EQ(hex(kept.first(8)), hex(ConstBytes(bytes).first(8)));
    }
  }
}

TEST(PduReader, IcFields) {
  struct Case {
    size_t at;
    uint8_t value;
    FatalError error;
    uint32_t information;
  };
  for (Case test : {Case{8, 1, FatalError::kUnsupportedParameter, 8}, Case{10, 32, kField, 10}}) {
    Buffer bytes = ic_req();
    bytes[test.at] = static_cast<std::byte>(test.value);
    PduReader reader(kTarget, {});
    ConstBytes input = bytes;
    ASSERT_EQ(reader.next(input).kind, Kind::kIllegal);
    EXPECT_EQ(reader.violation().error, test.error);
    EXPECT_EQ(reader.violation().information, test.information);
  }
  Buffer small(kIcBytes);
  IcResp{.h2c_data_max_bytes = 4092}.encode(small);
  PduReader reader(kHost, {});
  ConstBytes input = small;
  ASSERT_EQ(reader.next(input).kind, Kind::kIllegal);
  EXPECT_EQ(reader.violation().information, 12u);
}

TEST(PduReader, TerminationRequestComesWithItsData) {
  Buffer wrong = pattern(72);
  Buffer out(152);
  out.resize(TermReq{.error = FatalError::kHeaderDigest, .information = 5, .header = wrong}.encode(
      out, PduType::kH2cTermReq));
  PduReader reader(kTarget, {});
  ConstBytes input = out;
  PduEvent event = reader.next(input);
  ASSERT_EQ(event.kind, Kind::kHeader);
  EXPECT_EQ(hex(TermReq::decode(event.bytes).header), hex(wrong));
}

TEST(PduReader, DataPdu) {
  PduFormat format{.digests = {true, true}, .alignment_bytes = 64};
  Buffer data = pattern(4096);
  Buffer stream = h2c_data(format, {.command_id = 3, .transfer_tag = 9, .last = true}, data);
  PduReader reader(kTarget, {});
  reader.negotiated(format);
  ConstBytes input = stream;
  PduEvent event = reader.next(input);
  ASSERT_EQ(event.kind, Kind::kHeader);
  EXPECT_EQ(DataHeader::decode(event.bytes, reader.header().flags).transfer_tag, 9);
  EXPECT_EQ(reader.data_bytes(), 4096u);
  event = reader.next(input);
  EXPECT_EQ(event.bytes.size(), 4096u);
  EXPECT_EQ(reader.next(input).kind, Kind::kEnd);
  EXPECT_TRUE(input.empty());
}

}  // namespace
}  // namespace bb::io::nvme
