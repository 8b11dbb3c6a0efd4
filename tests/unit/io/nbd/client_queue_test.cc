// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/client_queue.h"

#include <gtest/gtest.h>

namespace bb::io::nbd {
namespace {

constexpr uint64_t kOffset = 4096;
constexpr uint32_t kLength = 1024;
constexpr uint32_t kContext = 5;

struct Read : ClientCommand {
  std::vector<std::byte> memory = std::vector<std::byte>(kLength, std::byte{0xee});
  iovec pieces[2] = {{.iov_base = memory.data(), .iov_len = 100},
                     {.iov_base = memory.data() + 100, .iov_len = kLength - 100}};
  explicit Read(Command what = Command::kRead) {
    request = {.command = what, .offset_bytes = kOffset, .length_bytes = kLength};
    iov = pieces;
    iov_count = 2;
  }
  Read(const Read&) = delete;
};

// A queue with one command sent.
struct Sent {
  ClientQueue queue;
  Read command;
  ClientQueue::Batch batch;
  std::vector<std::byte> reply;

  explicit Sent(Framing framing, Command what = Command::kRead)
      : queue({.framing = framing, .depth = 4, .context_id = kContext}), command(what) {
    queue.submit(command);
    EXPECT_TRUE(queue.fill(batch));
    queue.sent(batch);
  }
  Sent& chunk(uint16_t flags, ChunkType type, const std::vector<std::byte>& payload) {
    Writer(reply)
        .be(kChunkMagic)
        .be(flags)
        .be(static_cast<uint16_t>(type))
        .be(command.request.cookie)
        .be(static_cast<uint32_t>(payload.size()))
        .text(as_text(payload));
    return *this;
  }
  Sent& data(uint16_t flags, uint64_t skip, uint32_t length) {
    std::vector<std::byte> payload;
    Writer(payload).be(kOffset + skip);
    payload.resize(8 + length, std::byte{7});
    return chunk(flags, ChunkType::kOffsetData, payload);
  }
  Sent& hole(uint16_t flags, uint64_t skip, uint32_t length) {
    std::vector<std::byte> payload;
    Writer(payload).be(kOffset + skip).be(length);
    return chunk(flags, ChunkType::kOffsetHole, payload);
  }
  Sent& failure(uint16_t flags, uint32_t number, std::string_view text, ChunkType type) {
    std::vector<std::byte> payload;
    Writer(payload).be(number).be(static_cast<uint16_t>(text.size())).text(text);
    if (type == ChunkType::kErrorOffset) Writer(payload).be(kOffset);
    return chunk(flags, type, payload);
  }
  Sent& states(uint32_t context, std::vector<uint32_t> numbers) {
    std::vector<std::byte> payload;
    Writer writer(payload);
    writer.be(context);
    for (uint32_t each : numbers) writer.be(each);
    return chunk(1, ChunkType::kBlockStatus, payload);
  }
  // Whole, or byte by byte.
  Status feed(bool trickle = false) {
    if (!trickle) return queue.receive(reply);
    for (std::byte b : reply) {
      Status status = queue.receive(ConstBytes(&b, 1));
      if (!status.ok()) return status;
    }
    return {};
  }
};

TEST(NbdClientQueue, HeadersGoOutTogetherAndPayloadFromTheCallersMemory) {
  ClientQueue queue({.framing = Framing::kExtended, .depth = 4});
  Read first;
  Read second(Command::kWrite);
  Read third(Command::kTrim);
  for (Read* each : {&first, &second, &third}) queue.submit(*each);
  ClientQueue::Batch batch;
  ASSERT_TRUE(queue.fill(batch));
  ASSERT_EQ(batch.iov_count(), 4u);
  EXPECT_EQ(batch.iov()[0].iov_len, 2 * kExtendedRequestBytes);
  EXPECT_EQ(batch.iov()[1].iov_base, second.memory.data());
  EXPECT_EQ(batch.iov()[3].iov_len, kExtendedRequestBytes);
  const auto* at = static_cast<const std::byte*>(batch.iov()[0].iov_base);
  auto sent =
      decode_request({at + kExtendedRequestBytes, kExtendedRequestBytes}, Framing::kExtended);
  ASSERT_TRUE(sent.has_value());
  EXPECT_EQ(sent->flags, kPayloadLength);
  EXPECT_NE(first.request.cookie, second.request.cookie);
  queue.sent(batch);
  EXPECT_FALSE(queue.fill(batch));
  EXPECT_EQ(queue.outstanding(), 3u);
  int lost = 0;
  while (queue.take_lost() != nullptr) ++lost;
  EXPECT_EQ(lost, 3);
}

TEST(NbdClientQueue, SimpleReplies) {
  for (bool trickle : {false, true}) {
    Sent read(Framing::kSimple);
    Writer(read.reply).be(kSimpleReplyMagic).be(uint32_t{0}).be(read.command.request.cookie);
    read.reply.resize(read.reply.size() + kLength, std::byte{7});
    ASSERT_TRUE(read.feed(trickle).ok());
    EXPECT_EQ(read.queue.take_completed(), &read.command);
    EXPECT_EQ(read.command.error, Errno::kNone);
    EXPECT_EQ(read.command.memory, std::vector<std::byte>(kLength, std::byte{7}));
    EXPECT_EQ(read.queue.outstanding(), 0u);
  }
  Sent failed(Framing::kStructured, Command::kWrite);
  Writer(failed.reply).be(kSimpleReplyMagic).be(uint32_t{28}).be(failed.command.request.cookie);
  ASSERT_TRUE(failed.feed().ok());
  EXPECT_EQ(failed.queue.take_completed(), &failed.command);
  EXPECT_EQ(failed.command.error, Errno::kNoSpace);
}

TEST(NbdClientQueue, ChunksInAnyOrder) {
  for (bool trickle : {false, true}) {
    Sent read(Framing::kStructured);
    read.data(0, 512, 512).hole(0, 0, 256).data(0, 256, 256).chunk(1, ChunkType::kNone, {});
    ASSERT_TRUE(read.feed(trickle).ok());
    ASSERT_EQ(read.queue.take_completed(), &read.command);
    EXPECT_EQ(read.command.error, Errno::kNone) << read.command.error_text;
    std::vector<std::byte> want(kLength, std::byte{7});
    std::fill_n(want.begin(), 256, std::byte{0});
    EXPECT_EQ(read.command.memory, want);
  }
}

TEST(NbdClientQueue, WhatMakesACommandFail) {
  struct Case {
    const char* name;
    void (*reply)(Sent& sent);
    Errno error;
    const char* text;
  };
  const Case cases[] = {
      {"error", [](Sent& s) { s.failure(1, 5, "bad\x01 sector", ChunkType::kError); }, Errno::kIo,
       "bad? sector"},
      {"error with its place",
       [](Sent& s) { s.data(0, 0, 512).failure(1, 28, "full", ChunkType::kErrorOffset); },
       Errno::kNoSpace, "full"},
      {"the first error counts",
       [](Sent& s) {
         s.failure(0, 1, "a", ChunkType::kError).failure(0, 5, "b", ChunkType::kError);
         s.data(1, 0, kLength);
       },
       Errno::kPermission, "a"},
      {"an error of a kind unknown", [](Sent& s) { s.failure(1, 95, "c", ChunkType{0x8009}); },
       Errno::kNotSupported, "c"},
      {"a part is missing", [](Sent& s) { s.data(1, 0, 512); }, Errno::kIo,
       "the server did not send all of it"},
      {"the middle is missing", [](Sent& s) { s.data(0, 0, 256).data(1, 512, 512); }, Errno::kIo,
       "the server did not send all of it"},
      {"nothing came", [](Sent& s) { s.chunk(1, ChunkType::kNone, {}); }, Errno::kIo,
       "the server did not send all of it"},
  };
  for (const Case& each : cases) {
    Sent read(Framing::kStructured);
    each.reply(read);
    ASSERT_TRUE(read.feed().ok()) << each.name;
    ASSERT_EQ(read.queue.take_completed(), &read.command) << each.name;
    EXPECT_EQ(read.command.error, each.error) << each.name;
    EXPECT_EQ(read.command.error_text, each.text) << each.name;
  }
}

TEST(NbdClientQueue, WhatEndsTheConnection) {
  struct Case {
    const char* name;
    void (*reply)(Sent& sent);
    Command command = Command::kRead;
  };
  const Case cases[] = {
      {"no magic", [](Sent& s) { s.reply.assign(20, std::byte{1}); }},
      {"another cookie",
       [](Sent& s) {
         ++s.command.request.cookie;
         s.data(1, 0, kLength);
         --s.command.request.cookie;
       }},
      {"data twice", [](Sent& s) { s.data(0, 0, 512).data(1, 256, 512); }},
      {"data before its range", [](Sent& s) { s.data(1, static_cast<uint64_t>(-512), 512); }},
      {"data behind its range", [](Sent& s) { s.data(1, 512, kLength); }},
      {"a hole behind its range", [](Sent& s) { s.hole(1, kLength, 1); }},
      {"an empty hole", [](Sent& s) { s.hole(1, 0, 0); }},
      {"no data", [](Sent& s) { s.data(1, 0, 0); }},
      {"success in a simple reply",
       [](Sent& s) {
         Writer(s.reply).be(kSimpleReplyMagic).be(uint32_t{0}).be(s.command.request.cookie);
       }},
      {"an endless error",
       [](Sent& s) { s.chunk(1, ChunkType::kError, std::vector<std::byte>((1 << 20) + 1)); }},
      {"an error of no error", [](Sent& s) { s.failure(1, 0, "", ChunkType::kError); }},
      {"a short error", [](Sent& s) { s.chunk(1, ChunkType::kError, {std::byte{1}}); }},
      {"an unknown chunk", [](Sent& s) { s.chunk(1, ChunkType{9}, {std::byte{1}}); }},
      {"data for a write", [](Sent& s) { s.data(1, 0, 512); }, Command::kWrite},
      {"states for a read", [](Sent& s) { s.states(kContext, {512, 0}); }},
      {"another context", [](Sent& s) { s.states(kContext + 1, {512, 0}); }, Command::kBlockStatus},
      {"odd states", [](Sent& s) { s.states(kContext, {512, 0, 512}); }, Command::kBlockStatus},
      {"states of nothing", [](Sent& s) { s.states(kContext, {0, 0}); }, Command::kBlockStatus},
      {"no states", [](Sent& s) { s.states(kContext, {}); }, Command::kBlockStatus},
      {"states beyond the range", [](Sent& s) { s.states(kContext, {2048, 0, 512, 0}); },
       Command::kBlockStatus},
  };
  for (const Case& each : cases) {
    Sent sent(Framing::kStructured, each.command);
    each.reply(sent);
    Status status = sent.feed();
    EXPECT_EQ(status.code(), Code::k_io_error) << each.name;
    EXPECT_EQ(sent.queue.take_completed(), nullptr) << each.name;
    EXPECT_EQ(sent.queue.take_lost(), &sent.command) << each.name;
    EXPECT_EQ(sent.queue.take_lost(), nullptr) << each.name;
  }
}

TEST(NbdClientQueue, BlockStates) {
  Sent sent(Framing::kStructured, Command::kBlockStatus);
  sent.states(kContext, {512, 3, 4096, 0});  // the last may reach beyond
  ASSERT_TRUE(sent.feed(true).ok());
  ASSERT_EQ(sent.queue.take_completed(), &sent.command);
  ASSERT_EQ(sent.command.states.size(), 2u);
  EXPECT_TRUE(sent.command.states[0].hole && sent.command.states[0].zero);
  EXPECT_EQ(sent.command.states[1].length_bytes, 512u);
}

TEST(NbdClientQueue, AnAnswerBeforeTheEndOfTheSendWaitsForIt) {
  ClientQueue queue({.framing = Framing::kStructured, .depth = 1});
  Read write(Command::kWrite);
  queue.submit(write);
  ClientQueue::Batch batch;
  ASSERT_TRUE(queue.fill(batch));
  std::vector<std::byte> reply;
  Writer(reply).be(kSimpleReplyMagic).be(uint32_t{1}).be(write.request.cookie);
  ASSERT_TRUE(queue.receive(reply).ok());
  EXPECT_EQ(queue.take_completed(), nullptr);
  EXPECT_FALSE(queue.has_room());
  queue.sent(batch);
  EXPECT_EQ(queue.take_completed(), &write);
  EXPECT_EQ(write.error, Errno::kPermission);
  // A second answer finds nobody, although the slot is used again.
  queue.submit(write);
  ASSERT_TRUE(queue.fill(batch));
  queue.sent(batch);
  EXPECT_EQ(queue.receive(reply).code(), Code::k_io_error);
  EXPECT_EQ(queue.take_lost(), &write);
}

}  // namespace
}  // namespace bb::io::nbd
