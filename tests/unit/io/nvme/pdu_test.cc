// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/pdu.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/crc32c.h"
#include "io/nvme/hex.h"

namespace bb::io::nvme {
namespace {

// Bytes worked out by hand from the tables of the NVMe/TCP transport specification 1.0.

TEST(Pdu, IcReqBytes) {
  IcReq request{.alignment_dwords = 3, .digests = {.header = true, .data = true}, .r2t_max = 4};
  std::vector<std::byte> out(kIcBytes);
  ASSERT_EQ(request.encode(out), 128u);
  EXPECT_EQ(hex(ConstBytes(out).first(16)), "00 00 80 00 80 00 00 00 00 00 03 03 03 00 00 00");
  EXPECT_TRUE(all_zero(ConstBytes(out).subspan(16)));
  IcReq back = IcReq::decode(out);
  EXPECT_EQ(back.alignment_dwords, 3);
  EXPECT_EQ(back.r2t_max, 4u);
  EXPECT_TRUE(back.digests.header && back.digests.data);
}

TEST(Pdu, IcRespBytes) {
  IcResp response{.digests = {.header = false, .data = true}, .h2c_data_max_bytes = 131072};
  std::vector<std::byte> out(kIcBytes);
  ASSERT_EQ(response.encode(out), 128u);
  EXPECT_EQ(hex(ConstBytes(out).first(16)), "01 00 80 00 80 00 00 00 00 00 00 02 00 00 02 00");
  EXPECT_EQ(IcResp::decode(out).h2c_data_max_bytes, 131072u);
  EXPECT_EQ(IcResp::decode(out).digests, (Digests{.header = false, .data = true}));
}

TEST(Pdu, TermReqBytes) {
  std::vector<std::byte> wrong = unhex("08 00 48 00 48 00 00 00");
  TermReq term{.error = FatalError::kInvalidHeaderField, .information = 2, .header = wrong};
  std::vector<std::byte> out(152);
  ASSERT_EQ(term.encode(out, PduType::kC2hTermReq), 32u);
  EXPECT_EQ(hex(ConstBytes(out).first(32)),
            "03 00 18 00 20 00 00 00 01 00 02 00 00 00 00 00 00 00 00 00 00 00 00 00 "
            "08 00 48 00 48 00 00 00");
  TermReq back = TermReq::decode(ConstBytes(out).first(32));
  EXPECT_EQ(back.error, FatalError::kInvalidHeaderField);
  EXPECT_EQ(back.information, 2u);
  EXPECT_EQ(hex(back.header), hex(wrong));
}

struct Layout {
  const char* name;
  Digests digests;
  uint32_t alignment_bytes;
  uint32_t data_bytes;
  uint8_t flags;
  uint8_t pdo;
  uint32_t plen;
  size_t written;
};

// A command capsule: header 72 bytes.
const Layout kCapsules[] = {
    {"no data", {}, 4, 0, 0x00, 0, 72, 72},
    {"no data, header digest", {true, false}, 4, 0, 0x01, 0, 76, 76},
    {"no data, both digests", {true, true}, 64, 0, 0x01, 0, 76, 76},
    {"data", {}, 4, 4096, 0x00, 72, 4168, 72},
    {"data, header digest", {true, false}, 4, 4096, 0x01, 76, 4172, 76},
    {"data, data digest", {false, true}, 4, 4096, 0x02, 72, 4172, 72},
    {"data, both", {true, true}, 4, 512, 0x03, 76, 592, 76},
    {"data, both, aligned to 128", {true, true}, 128, 512, 0x03, 128, 644, 128},
    {"data aligned to 72 with digest", {true, false}, 72, 4, 0x01, 144, 148, 144},
};

TEST(Pdu, CapsuleLayout) {
  std::vector<std::byte> sqe(64, std::byte{0xab});
  for (const Layout& layout : kCapsules) {
    SCOPED_TRACE(layout.name);
    PduFormat format{.digests = layout.digests, .alignment_bytes = layout.alignment_bytes};
    std::vector<std::byte> out(kHeaderRoomBytes);
    EXPECT_EQ(encode_capsule_cmd(out, sqe, layout.data_bytes, format), layout.written);
    PduHeader header = PduHeader::decode(out.data());
    EXPECT_EQ(header.type, PduType::kCapsuleCmd);
    EXPECT_EQ(header.flags, layout.flags);
    EXPECT_EQ(header.hlen, 72);
    EXPECT_EQ(header.pdo, layout.pdo);
    EXPECT_EQ(header.plen, layout.plen);
    EXPECT_EQ(hex(capsule_sqe(out)), hex(sqe));
    if (layout.digests.header) {
      EXPECT_EQ(load_digest(out.data() + 72), crc32c(ConstBytes(out).first(72)));
    }
  }
}

TEST(Pdu, DataAndR2tBytes) {
  std::vector<std::byte> out(kHeaderRoomBytes);
  PduFormat plain;
  DataHeader data{.command_id = 0x1234,
                  .transfer_tag = 7,
                  .offset_bytes = 4096,
                  .length_bytes = 8192,
                  .last = true};
  ASSERT_EQ(encode_h2c_data(out, data, plain), 24u);
  EXPECT_EQ(hex(ConstBytes(out).first(24)),
            "06 04 18 18 18 20 00 00 34 12 07 00 00 10 00 00 00 20 00 00 00 00 00 00");
  data.success = true;
  data.transfer_tag = 0;
  ASSERT_EQ(encode_c2h_data(out, data, {.digests = {.header = false, .data = true}}), 24u);
  EXPECT_EQ(hex(ConstBytes(out).first(24)),
            "07 0e 18 18 1c 20 00 00 34 12 00 00 00 10 00 00 00 20 00 00 00 00 00 00");
  R2t r2t{.command_id = 9, .transfer_tag = 3, .offset_bytes = 0, .length_bytes = 65536};
  ASSERT_EQ(r2t.encode(out, plain), 24u);
  EXPECT_EQ(hex(ConstBytes(out).first(24)),
            "09 00 18 00 18 00 00 00 09 00 03 00 00 00 00 00 00 00 01 00 00 00 00 00");
  R2t back = R2t::decode(out);
  EXPECT_EQ(back.command_id, 9);
  EXPECT_EQ(back.transfer_tag, 3);
  EXPECT_EQ(back.length_bytes, 65536u);
}

TEST(Pdu, CapsuleRespBytes) {
  std::vector<std::byte> cqe = unhex("01 02 03 04 05 06 07 08 09 00 01 00 2a 00 04 00");
  std::vector<std::byte> out(kHeaderRoomBytes);
  ASSERT_EQ(encode_capsule_resp(out, cqe, {.digests = {.header = true, .data = true}}), 28u);
  EXPECT_EQ(hex(ConstBytes(out).first(8)), "05 01 18 00 1c 00 00 00");
  EXPECT_EQ(hex(capsule_cqe(out)), hex(cqe));
  EXPECT_EQ(load_digest(out.data() + 24), crc32c(ConstBytes(out).first(24)));
}

}  // namespace
}  // namespace bb::io::nvme
