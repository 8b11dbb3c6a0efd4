// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/wire.h"

#include <gtest/gtest.h>

namespace bb::io::nbd {
namespace {

std::string hex(ConstBytes bytes) {
  std::string text;
  for (std::byte b : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(b));
  return text;
}

TEST(NbdWire, RequestRoundTrip) {
  Request request{.flags = kFua,
                  .command = Command::kWrite,
                  .cookie = 0x0102030405060708,
                  .offset_bytes = 0x1000,
                  .length_bytes = 0x200};
  std::byte bytes[kRequestBytes];
  encode_request(request, bytes);
  EXPECT_EQ(hex(bytes), "25609513000100010102030405060708000000000000100000000200");
  auto back = decode_request(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->flags, request.flags);
  EXPECT_EQ(back->command, request.command);
  EXPECT_EQ(back->cookie, request.cookie);
  EXPECT_EQ(back->offset_bytes, request.offset_bytes);
  EXPECT_EQ(back->length_bytes, request.length_bytes);
  bytes[0] ^= std::byte{1};
  EXPECT_FALSE(decode_request(bytes).has_value());
}

TEST(NbdWire, ExtendedRequest) {
  Request request{.flags = kFua,
                  .command = Command::kTrim,
                  .cookie = 7,
                  .offset_bytes = 0x1000,
                  .length_bytes = 1ull << 40};
  std::byte bytes[kExtendedRequestBytes];
  EXPECT_EQ(encode_request(request, bytes, Framing::kExtended), kExtendedRequestBytes);
  EXPECT_EQ(hex(bytes), "21e41c7100010004000000000000000700000000000010000000010000000000");
  auto back = decode_request(bytes, Framing::kExtended);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->length_bytes, 1ull << 40);
  store_be<uint32_t>(bytes, kRequestMagic);
  EXPECT_FALSE(decode_request(bytes, Framing::kExtended).has_value());
}

const Request kAsked{
    .command = Command::kRead, .cookie = 7, .offset_bytes = 4096, .length_bytes = 512};

TEST(NbdWire, RepliesWithoutAText) {
  struct Case {
    const char* name;
    size_t (*encode)(std::byte* to, const Request& request, Framing framing);
    Framing framing;
    const char* want;
  };
  const Case cases[] = {
      {"success", encode_success, Framing::kSimple, "67446698000000000000000000000007"},
      {"success, structured", encode_success, Framing::kStructured,
       "67446698000000000000000000000007"},
      {"success, extended", encode_success, Framing::kExtended,
       "6e8a278c00010000000000000000000700000000000010000000000000000000"},
      {"data", encode_data_header, Framing::kSimple, "67446698000000000000000000000007"},
      {"data, structured", encode_data_header, Framing::kStructured,
       "668e33ef000100010000000000000007000002080000000000001000"},
      {"data, extended", encode_data_header, Framing::kExtended,
       "6e8a278c0001000100000000000000070000000000001000000000000000020800000000000010"
       "00"},
  };
  for (const Case& each : cases) {
    std::byte bytes[kReplyHeaderMax];
    size_t length = each.encode(bytes, kAsked, each.framing);
    EXPECT_EQ(hex(ConstBytes(bytes, length)), each.want) << each.name;
  }
}

TEST(NbdWire, Errors) {
  auto encoded = [](Framing framing, std::optional<uint64_t> at = std::nullopt) {
    std::vector<std::byte> out;
    encode_error(out, kAsked, framing, Errno::kIo, "ab", at);
    return hex(out);
  };
  EXPECT_EQ(encoded(Framing::kSimple), "67446698000000050000000000000007");
  EXPECT_EQ(encoded(Framing::kSimple, 4096), "67446698000000050000000000000007");
  EXPECT_EQ(encoded(Framing::kStructured),
            "668e33ef000180010000000000000007000000080000000500026162");
  EXPECT_EQ(encoded(Framing::kStructured, 4096),
            "668e33ef0001800200000000000000070000001000000005000261620000000000001000");
  EXPECT_EQ(encoded(Framing::kExtended),
            "6e8a278c000180010000000000000007000000000000100000000000000000080000000500026162");
  std::vector<std::byte> longest;
  encode_error(longest, kAsked, Framing::kStructured, Errno::kIo, std::string(5000, 'x'));
  EXPECT_EQ(longest.size(), kChunkHeaderBytes + 6 + kErrorTextMax);
}

TEST(NbdWire, BlockStatus) {
  std::vector<BlockState> states = {{.length_bytes = 512, .hole = true, .zero = true},
                                    {.length_bytes = 1024}};
  std::vector<std::byte> out;
  encode_block_status(out, kAsked, Framing::kStructured, states);
  EXPECT_EQ(hex(out),
            "668e33ef0001000500000000000000070000001400000001"
            "00000200000000030000040000000000");
  out.clear();
  encode_block_status(out, kAsked, Framing::kExtended, states);
  EXPECT_EQ(hex(out),
            "6e8a278c000100060000000000000007000000000000100000000000000000280000000100000002"
            "0000000000000200000000000000000300000000000004000000000000000000");
}

TEST(NbdWire, ReplyHeaders) {
  EXPECT_EQ(reply_header_bytes(kSimpleReplyMagic, Framing::kSimple), kSimpleReplyBytes);
  EXPECT_EQ(reply_header_bytes(kChunkMagic, Framing::kSimple), 0u);
  EXPECT_EQ(reply_header_bytes(kSimpleReplyMagic, Framing::kStructured), kSimpleReplyBytes);
  EXPECT_EQ(reply_header_bytes(kChunkMagic, Framing::kStructured), kChunkHeaderBytes);
  EXPECT_EQ(reply_header_bytes(kSimpleReplyMagic, Framing::kExtended), 0u);
  EXPECT_EQ(reply_header_bytes(kExtendedChunkMagic, Framing::kExtended), kExtendedChunkHeaderBytes);
  for (Framing framing : {Framing::kStructured, Framing::kExtended}) {
    std::vector<std::byte> out;
    encode_error(out, kAsked, framing, Errno::kNoSpace, "full");
    size_t length = reply_header_bytes(load_be<uint32_t>(out.data()), framing);
    ReplyHeader header = decode_reply_header(ConstBytes(out).first(length));
    EXPECT_FALSE(header.simple);
    EXPECT_EQ(header.flags, kChunkDone);
    EXPECT_EQ(header.type, ChunkType::kError);
    EXPECT_EQ(header.cookie, 7u);
    EXPECT_EQ(header.payload_bytes, out.size() - length);
  }
}

TEST(NbdWire, ErrnosThatClientsUnderstand) {
  EXPECT_EQ(errno_of(Code::k_ok), Errno::kNone);
  EXPECT_EQ(errno_of(Code::k_no_space), Errno::kNoSpace);
  EXPECT_EQ(errno_of(Code::k_permission_denied), Errno::kPermission);
  EXPECT_EQ(errno_of(Code::k_bad_state), Errno::kShutdown);
  EXPECT_EQ(errno_of(Code::k_unavailable), Errno::kIo);
  EXPECT_EQ(errno_of(Code::k_corrupt), Errno::kIo);
}

}  // namespace
}  // namespace bb::io::nbd
