// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/client_queue.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace bb::io::nbd {
namespace {

constexpr size_t kIovecs = 1000;
constexpr size_t kBatchBytes = 1 << 20;
constexpr size_t kMagicBytes = 4;

}  // namespace

ClientQueue::Batch::Batch() {
  iov_.reserve(kIovecs + 8);
  members_.reserve(256);
}

ClientQueue::ClientQueue(Options options) : options_(options) {
  BB_CHECK(options_.depth > 0, "a queue of no commands");
  slots_.resize(options_.depth);
  for (uint16_t i = options_.depth; i-- > 0;) free_.push_back(i);
  collected_.reserve(kReplyHeaderMax);
}

void ClientQueue::submit(ClientCommand& command) {
  BB_CHECK(!ended_ && !free_.empty(), "more than {} commands, or one after the end",
           options_.depth);
  BB_CHECK(command.state_ == ClientCommand::State::kIdle, "a command is submitted twice");
  uint16_t index = free_.back();
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.command = &command;
  ++slot.generation;  // an answer that comes late, or twice, finds nobody
  command.request.cookie = (slot.generation << kIndexBits) | index;
  if (options_.framing == Framing::kExtended && command.request.command == Command::kWrite) {
    command.request.flags |= kPayloadLength;
  }
  command.error = Errno::kNone;
  command.error_text.clear();
  command.states.clear();
  command.arrived_.clear();
  command.in_batch_ = command.answered_ = false;
  command.state_ = ClientCommand::State::kQueued;
  command.next_ = nullptr;
  (line_last_ == nullptr ? line_first_ : line_last_->next_) = &command;
  line_last_ = &command;
}

bool ClientQueue::fill(Batch& batch) {
  batch.iov_.clear();
  batch.members_.clear();
  size_t used = 0;
  uint64_t bytes = 0;
  size_t length = request_bytes(options_.framing);
  while (!ended_ && line_first_ != nullptr) {
    ClientCommand& command = *line_first_;
    bool room = used + length <= batch.headers_.size() && bytes < kBatchBytes &&
                batch.iov_.size() + command.iov_count + 1 <= kIovecs;
    if (!room && !batch.iov_.empty()) break;
    std::byte* at = batch.headers_.data() + used;
    encode_request(command.request, at, options_.framing);
    // Headers that follow each other go out as one piece.
    iovec* last = batch.iov_.empty() ? nullptr : &batch.iov_.back();
    if (last != nullptr && static_cast<std::byte*>(last->iov_base) + last->iov_len == at) {
      last->iov_len += length;
    } else {
      batch.iov_.push_back({.iov_base = at, .iov_len = length});
    }
    used += length;
    if (command.request.command == Command::kWrite) {
      for (uint32_t i = 0; i < command.iov_count; ++i) {
        if (command.iov[i].iov_len > 0) batch.iov_.push_back(command.iov[i]);
      }
      bytes += command.request.length_bytes;
      command.in_batch_ = true;
      batch.members_.push_back(&command);
    }
    command.state_ = ClientCommand::State::kSent;
    line_first_ = command.next_;
    if (line_first_ == nullptr) line_last_ = nullptr;
  }
  return !batch.iov_.empty();
}

void ClientQueue::sent(Batch& batch) {
  for (ClientCommand* command : batch.members_) {
    command->in_batch_ = false;
    if (command->answered_) settle(*command);
  }
  batch.members_.clear();
  batch.iov_.clear();
}

ClientCommand* ClientQueue::find(uint64_t cookie) const {
  size_t index = cookie & ((1u << kIndexBits) - 1);
  if (index >= slots_.size()) return nullptr;
  ClientCommand* command = slots_[index].command;
  bool awaited = command != nullptr && command->request.cookie == cookie &&
                 command->state_ == ClientCommand::State::kSent && !command->answered_;
  return awaited ? command : nullptr;
}

// An answer may overtake the end of our own send: the caller's memory is ours until that ends.
void ClientQueue::settle(ClientCommand& command) {
  if (command.in_batch_) return;
  uint16_t index = static_cast<uint16_t>(command.request.cookie & ((1u << kIndexBits) - 1));
  slots_[index].command = nullptr;
  free_.push_back(index);
  command.state_ = ClientCommand::State::kIdle;
  command.next_ = nullptr;
  (completed_last_ == nullptr ? completed_first_ : completed_last_->next_) = &command;
  completed_last_ = &command;
}

void ClientQueue::complete(ClientCommand& command) {
  bool reads = command.request.command == Command::kRead;
  if (command.error == Errno::kNone && reads) {
    const auto& all = command.arrived_;
    bool whole = all.size() == 1 && all[0].begin == command.request.offset_bytes &&
                 all[0].end - all[0].begin == command.request.length_bytes;
    if (!whole) {
      command.error = Errno::kIo;
      command.error_text = "the server did not send all of it";
    }
  }
  if (command.error == Errno::kNone && command.request.command == Command::kBlockStatus &&
      command.states.empty()) {
    command.error = Errno::kIo;
    command.error_text = "the server sent no block states";
  }
  command.answered_ = true;
  settle(command);
}

ClientCommand* ClientQueue::take_completed() {
  ClientCommand* command = completed_first_;
  if (command == nullptr) return nullptr;
  completed_first_ = command->next_;
  if (completed_first_ == nullptr) completed_last_ = nullptr;
  return command;
}

ClientCommand* ClientQueue::take_lost() {
  ended_ = true;
  line_first_ = line_last_ = nullptr;
  for (Slot& slot : slots_) {
    ClientCommand* command = slot.command;
    if (command == nullptr) continue;
    BB_CHECK(!command->in_batch_, "a command is given back while it is being sent");
    slot.command = nullptr;
    command->state_ = ClientCommand::State::kIdle;
    return command;
  }
  return nullptr;
}

ClientCommand* ClientQueue::earliest_deadline() const {
  ClientCommand* earliest = nullptr;
  for (const Slot& slot : slots_) {
    ClientCommand* command = slot.command;
    if (command == nullptr || command->deadline_ns == 0) continue;
    if (earliest == nullptr || command->deadline_ns < earliest->deadline_ns) earliest = command;
  }
  return earliest;
}

Status ClientQueue::illegal(std::string_view what) {
  ended_ = true;
  return error(Code::k_io_error, "the server sent {}", what);
}

// True once `want` bytes are there.
bool ClientQueue::collect(ConstBytes& input, size_t want) {
  size_t take = std::min(want - collected_.size(), input.size());
  collected_.insert(collected_.end(), input.begin(), input.begin() + static_cast<ptrdiff_t>(take));
  input = input.subspan(take);
  return collected_.size() == want;
}

Status ClientQueue::receive(ConstBytes input) {
  BB_CHECK(!ended_, "bytes after the end of the connection");
  while (!input.empty()) {
    if (reading_ == Reading::kData) {
      ConstBytes part = input.first(std::min<uint64_t>(input.size(), data_left_));
      input = input.subspan(part.size());
      place(part);
      if (data_left_ == 0) end_chunk();
      continue;
    }
    if (!collect(input, wanted_)) return {};
    if (reading_ == Reading::kHeader && wanted_ == kMagicBytes) {
      wanted_ = reply_header_bytes(load_be<uint32_t>(collected_.data()), options_.framing);
      if (wanted_ == 0) return illegal("a reply without a magic that was agreed");
      continue;
    }
    switch (reading_) {
      case Reading::kHeader:
        BB_TRY(on_header());
        break;
      case Reading::kOffset:
        BB_TRY(on_offset());
        break;
      case Reading::kCollected:
        BB_TRY(on_collected());
        break;
      case Reading::kData:
        break;
    }
  }
  return {};
}

void ClientQueue::await_header() {
  reading_ = Reading::kHeader;
  wanted_ = kMagicBytes;
  collected_.clear();
}

void ClientQueue::end_chunk() {
  ClientCommand& command = *std::exchange(receiving_, nullptr);
  await_header();
  if (header_.simple || (header_.flags & kChunkDone) != 0) complete(command);
}

Status ClientQueue::on_header() {
  header_ = decode_reply_header(collected_);
  collected_.clear();
  receiving_ = find(header_.cookie);
  if (receiving_ == nullptr) return illegal("a reply to no command of ours");
  ClientCommand& command = *receiving_;
  bool reads = command.request.command == Command::kRead;
  if (!header_.simple) return on_chunk(command);
  if (options_.framing != Framing::kSimple &&
      (reads || command.request.command == Command::kBlockStatus)) {
    if (header_.error == Errno::kNone) return illegal("a simple reply where a chunk is due");
  }
  command.error = header_.error;
  if (header_.error == Errno::kNone && reads) {
    return begin_data(command.request.offset_bytes, command.request.length_bytes);
  }
  end_chunk();
  return {};
}

Status ClientQueue::on_chunk(ClientCommand& command) {
  uint64_t length = header_.payload_bytes;
  bool reads = command.request.command == Command::kRead;
  switch (header_.type) {
    case ChunkType::kNone:
      if (length != 0 || (header_.flags & kChunkDone) == 0) return illegal("an odd empty chunk");
      end_chunk();
      return {};
    case ChunkType::kOffsetData:
      if (!reads || length <= 8) return illegal("data that nobody asked for");
      reading_ = Reading::kOffset;
      wanted_ = 8;
      return {};
    case ChunkType::kOffsetHole:
      if (!reads || length != 12) return illegal("a malformed hole");
      break;
    case ChunkType::kBlockStatus:
    case ChunkType::kBlockStatusExtended:
      if (command.request.command != Command::kBlockStatus) {
        return illegal("block states that nobody asked for");
      }
      break;
    case ChunkType::kError:
    case ChunkType::kErrorOffset:
      break;
  }
  bool known = header_.type == ChunkType::kOffsetHole || header_.type == ChunkType::kBlockStatus ||
               header_.type == ChunkType::kBlockStatusExtended ||
               (static_cast<uint16_t>(header_.type) & kChunkError) != 0;
  if (!known) return illegal("a chunk of unknown type");
  if (length == 0 || length > kCollectedMax) return illegal("a chunk of a length beyond its limit");
  reading_ = Reading::kCollected;
  wanted_ = static_cast<size_t>(length);
  return {};
}

Status ClientQueue::on_offset() {
  uint64_t offset_bytes = load_be<uint64_t>(collected_.data());
  collected_.clear();
  return begin_data(offset_bytes, header_.payload_bytes - 8);
}

Status ClientQueue::on_collected() {
  Reader reader{.left = collected_};
  Status status;
  if ((static_cast<uint16_t>(header_.type) & kChunkError) != 0) {
    status = on_error(reader);
  } else if (header_.type == ChunkType::kOffsetHole) {
    status = on_hole(reader);
  } else {
    status = on_states(reader);
  }
  BB_TRY(std::move(status));
  end_chunk();
  return {};
}

// The first error is what the command fails by; kinds of error yet unknown begin alike.
Status ClientQueue::on_error(Reader reader) {
  auto number = static_cast<Errno>(reader.be<uint32_t>());
  std::string_view text = reader.text(reader.be<uint16_t>());
  if (!reader.good || number == Errno::kNone) return illegal("a malformed error");
  if (receiving_->error == Errno::kNone) {
    receiving_->error = number;
    receiving_->error_text = printable(text.substr(0, kErrorTextMax));
  }
  return {};
}

Status ClientQueue::on_hole(Reader reader) {
  auto offset_bytes = reader.be<uint64_t>();
  uint64_t left = reader.be<uint32_t>();
  BB_TRY(begin_data(offset_bytes, left));
  static constexpr std::array<std::byte, 4096> kZeroes{};
  while (data_left_ > 0) place(ConstBytes(kZeroes).first(std::min<uint64_t>(data_left_, 4096)));
  return {};
}

Status ClientQueue::on_states(Reader reader) {
  const Request& request = receiving_->request;
  bool wide = header_.type == ChunkType::kBlockStatusExtended;
  if (wide != (options_.framing == Framing::kExtended)) return illegal("states of another framing");
  if (reader.be<uint32_t>() != options_.context_id || !receiving_->states.empty()) {
    return illegal("block states of a context that was not set");
  }
  size_t each = wide ? 16 : 8;
  uint64_t count = wide ? reader.be<uint32_t>() : reader.left.size() / each;
  if (!reader.good || count == 0 || reader.left.size() != count * each) {
    return illegal("malformed block states");
  }
  uint64_t left = request.length_bytes;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t length = wide ? reader.be<uint64_t>() : reader.be<uint32_t>();
    uint64_t flags = wide ? reader.be<uint64_t>() : reader.be<uint32_t>();
    // Only the last may reach beyond what was asked, and only that much is taken.
    if (length == 0 || (left <= length && i + 1 < count)) return illegal("odd block states");
    length = std::min(length, left);
    left -= length;
    receiving_->states.push_back(
        {.length_bytes = length, .hole = (flags & 1) != 0, .zero = (flags & 2) != 0});
  }
  return {};
}

Status ClientQueue::begin_data(uint64_t offset_bytes, uint64_t length_bytes) {
  ClientCommand& command = *receiving_;
  const Request& request = command.request;
  if (offset_bytes < request.offset_bytes || length_bytes == 0 ||
      length_bytes > request.length_bytes ||
      offset_bytes - request.offset_bytes > request.length_bytes - length_bytes) {
    return illegal("data out of its range");
  }
  BB_TRY(mark_arrived(command, offset_bytes, offset_bytes + length_bytes));
  uint64_t skip = offset_bytes - request.offset_bytes;
  piece_ = 0;
  while (skip >= command.iov[piece_].iov_len) skip -= command.iov[piece_++].iov_len;
  piece_skip_ = skip;
  data_left_ = length_bytes;
  reading_ = Reading::kData;
  return {};
}

// Keeps the ranges in order and merged, so that in the usual case there is one.
Status ClientQueue::mark_arrived(ClientCommand& command, uint64_t begin, uint64_t end) {
  auto& all = command.arrived_;
  auto after = std::find_if(all.begin(), all.end(), [&](const auto& r) { return r.begin >= end; });
  auto before = after == all.begin() ? all.end() : after - 1;
  if (before != all.end() && before->end > begin) return illegal("the same data twice");
  bool joins_before = before != all.end() && before->end == begin;
  bool joins_after = after != all.end() && after->begin == end;
  if (joins_before && joins_after) {
    before->end = after->end;
    all.erase(after);
  } else if (joins_before) {
    before->end = end;
  } else if (joins_after) {
    after->begin = begin;
  } else if (all.size() < kRangesMax) {
    all.insert(after, {.begin = begin, .end = end});
  } else {
    return illegal("a read in too many pieces");
  }
  return {};
}

void ClientQueue::place(ConstBytes bytes) {
  ClientCommand& command = *receiving_;
  data_left_ -= bytes.size();
  while (!bytes.empty()) {
    const iovec& whole = command.iov[piece_];
    size_t take = std::min(whole.iov_len - piece_skip_, bytes.size());
    std::byte* to = static_cast<std::byte*>(whole.iov_base) + piece_skip_;
    if (take > 0 && to != bytes.data()) std::memcpy(to, bytes.data(), take);
    bytes = bytes.subspan(take);
    piece_skip_ += take;
    if (piece_skip_ == whole.iov_len) {
      ++piece_;
      piece_skip_ = 0;
    }
  }
}

Bytes ClientQueue::direct_target() const {
  if (ended_ || reading_ != Reading::kData || data_left_ < kDirectBytes) return {};
  uint32_t piece = piece_;
  size_t skip = piece_skip_;
  while (receiving_->iov[piece].iov_len == skip) {
    ++piece;
    skip = 0;
  }
  const iovec& whole = receiving_->iov[piece];
  size_t length = std::min<uint64_t>(whole.iov_len - skip, data_left_);
  if (length < kDirectBytes) return {};
  return {static_cast<std::byte*>(whole.iov_base) + skip, length};
}

}  // namespace bb::io::nbd
