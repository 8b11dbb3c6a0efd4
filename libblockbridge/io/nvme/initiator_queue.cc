// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/initiator_queue.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"

namespace bb::io::nvme {
namespace {

constexpr size_t kRoomBytes = kHeaderRoomBytes + kDigestBytes;
constexpr uint32_t kAtCommandId = 8;
constexpr uint32_t kAtDataOffset = 12;
constexpr size_t kDirectBytes = 16 * 1024;

std::string_view fatal_error_text(FatalError error) {
  switch (error) {
    case FatalError::kNone:
      return "no reason given";
    case FatalError::kInvalidHeaderField:
      return "invalid header field";
    case FatalError::kSequence:
      return "PDU sequence error";
    case FatalError::kHeaderDigest:
      return "header digest error";
    case FatalError::kDataOutOfRange:
      return "data transfer out of range";
    case FatalError::kLimitExceeded:
      return "limit exceeded";
    case FatalError::kUnsupportedParameter:
      return "unsupported parameter";
  }
  return "unknown reason";
}

}  // namespace

SendBatch::SendBatch() : arena_(kArenaBytes) {
  iov_.reserve(kIovecs + 8);
  members_.reserve(256);
}

bool SendBatch::room(size_t iovecs) const {
  if (iov_.empty()) return true;
  return arena_.size() - used_ >= 2 * kRoomBytes && iov_.size() + iovecs + 3 <= kIovecs &&
         bytes_ < kBytes;
}

void SendBatch::commit(size_t length) {
  // Headers that follow each other in the arena go out as one piece.
  std::byte* at = arena_.data() + used_;
  if (!iov_.empty() && static_cast<std::byte*>(iov_.back().iov_base) + iov_.back().iov_len == at) {
    iov_.back().iov_len += length;
  } else {
    iov_.push_back({.iov_base = at, .iov_len = length});
  }
  used_ += length;
  bytes_ += length;
}

void SendBatch::payload(const iovec& piece) {
  iov_.push_back(piece);
  bytes_ += piece.iov_len;
}

void SendBatch::clear() {
  used_ = 0;
  bytes_ = 0;
  iov_.clear();
  members_.clear();
}

InitiatorQueue::InitiatorQueue(Options options)
    : options_(options),
      reader_(Role::kHost,
              {.capsule_data_max_bytes = 0, .data_pdu_max_bytes = options.transfer_max_bytes}) {
  BB_CHECK(options_.depth > 0 && options_.depth <= (1u << kIndexBits), "a queue of {} commands",
           options_.depth);
  slots_.resize(options_.depth);
  for (uint16_t i = options_.depth; i-- > 0;) free_.push_back(i);
}

void InitiatorQueue::start() {
  BB_CHECK(!started_, "a queue starts once");
  started_ = true;
  control_.resize(kIcBytes);
  IcReq request{.digests = options_.digests, .r2t_max = 1};
  request.encode(control_);
}

void InitiatorQueue::submit(HostCommand& command) {
  BB_CHECK(ready_ && !ended_, "a command before the connection is ready");
  BB_CHECK(!free_.empty(), "more than {} commands", options_.depth);
  BB_CHECK(command.state_ == HostCommand::State::kIdle, "a command is submitted twice");
  uint16_t index = free_.back();
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.command = &command;
  ++slot.generation;
  command.sqe.command_id =
      static_cast<uint16_t>(index | (static_cast<uint32_t>(slot.generation) << kIndexBits));
  command.sqe.flags = static_cast<uint8_t>((command.sqe.flags & ~kFlagPsdtMask) | kFlagSgl);
  command.in_capsule_ = command.to_controller && command.length_bytes > 0 &&
                        command.length_bytes <= options_.capsule_data_max_bytes;
  command.sqe.sgl = command.in_capsule_ ? in_capsule_sgl(command.length_bytes)
                                        : transport_sgl(command.length_bytes);
  command.cqe = Cqe();
  command.digest_error = command.sent = false;
  command.in_batch_ = command.answered_ = false;
  command.moved_bytes_ = command.asked_bytes_ = 0;
  command.cursor_ = {};
  command.state_ = HostCommand::State::kQueued;
  line_up(command);
}

void InitiatorQueue::line_up(HostCommand& command) {
  BB_CHECK(!command.in_line_, "a command waits twice");
  command.in_line_ = true;
  command.next_ = nullptr;
  (line_last_ == nullptr ? line_first_ : line_last_->next_) = &command;
  line_last_ = &command;
}

HostCommand* InitiatorQueue::find(uint16_t command_id) const {
  size_t index = command_id & ((1u << kIndexBits) - 1);
  if (index >= slots_.size()) return nullptr;
  HostCommand* command = slots_[index].command;
  return command != nullptr && command->sqe.command_id == command_id ? command : nullptr;
}

bool InitiatorQueue::fill(SendBatch& batch) {
  batch.clear();
  if (!control_.empty()) {
    std::memcpy(batch.tail().data(), control_.data(), control_.size());
    batch.commit(control_.size());
    control_.clear();
  }
  if (ended_) return !batch.empty();
  while (line_first_ != nullptr && batch.room(line_first_->iov_count)) {
    HostCommand& command = *line_first_;
    bool queued = command.state_ == HostCommand::State::kQueued;
    if (queued) {
      add_capsule(batch, command);
    } else if (!command.answered_) {
      add_data(batch, command);
      if (command.moved_bytes_ < command.asked_bytes_) break;  // the batch is full
    }
    line_first_ = command.next_;
    if (line_first_ == nullptr) line_last_ = nullptr;
    command.in_line_ = false;
    if (command.answered_) settle(command);
  }
  return !batch.empty();
}

void InitiatorQueue::add_capsule(SendBatch& batch, HostCommand& command) {
  std::byte sqe[kSqeBytes];
  command.sqe.encode(sqe);
  uint32_t data = command.in_capsule_ ? command.length_bytes : 0;
  batch.commit(encode_capsule_cmd(batch.tail(), sqe, data, format_));
  if (data > 0) add_payload(batch, command, data);
  command.state_ = HostCommand::State::kSent;
}

void InitiatorQueue::add_data(SendBatch& batch, HostCommand& command) {
  bool first = true;
  while (command.moved_bytes_ < command.asked_bytes_) {
    if (!first && !batch.room(command.iov_count)) return;
    first = false;
    uint32_t left = command.asked_bytes_ - command.moved_bytes_;
    uint32_t length = std::min(left, h2c_data_max_bytes_);
    DataHeader header{.command_id = command.sqe.command_id,
                      .transfer_tag = command.transfer_tag_,
                      .offset_bytes = command.moved_bytes_,
                      .length_bytes = length,
                      .last = length == left};
    batch.commit(encode_h2c_data(batch.tail(), header, format_));
    add_payload(batch, command, length);
  }
}

void InitiatorQueue::add_payload(SendBatch& batch, HostCommand& command, uint32_t length) {
  if (!command.in_batch_) {
    command.in_batch_ = true;
    batch.members_.push_back(&command);
  }
  command.moved_bytes_ += length;
  uint32_t crc = 0;
  while (length > 0) {
    const iovec& whole = command.iov[command.cursor_.index];
    size_t take = std::min<size_t>(whole.iov_len - command.cursor_.skip, length);
    iovec piece{.iov_base = static_cast<std::byte*>(whole.iov_base) + command.cursor_.skip,
                .iov_len = take};
    if (take > 0) {
      batch.payload(piece);
      if (format_.digests.data) {
        crc = crc32c({static_cast<const std::byte*>(piece.iov_base), take}, crc);
      }
    }
    length -= static_cast<uint32_t>(take);
    command.cursor_.skip += take;
    if (command.cursor_.skip == whole.iov_len) command.cursor_ = {command.cursor_.index + 1, 0};
  }
  if (!format_.digests.data) return;
  store_digest(batch.tail().data(), crc);
  batch.commit(kDigestBytes);
}

void InitiatorQueue::sent(SendBatch& batch) {
  for (HostCommand* command : batch.members_) {
    command->in_batch_ = false;
    if (command->answered_) settle(*command);
  }
  batch.clear();
}

void InitiatorQueue::answer(HostCommand& command) {
  command.answered_ = true;
  settle(command);
}

// An answer may overtake the end of our own send: the caller's memory is ours until that ends.
void InitiatorQueue::settle(HostCommand& command) {
  if (command.in_line_ || command.in_batch_) return;
  uint16_t index = static_cast<uint16_t>(command.sqe.command_id & ((1u << kIndexBits) - 1));
  slots_[index].command = nullptr;
  free_.push_back(index);
  command.state_ = HostCommand::State::kIdle;
  command.next_ = nullptr;
  (completed_last_ == nullptr ? completed_first_ : completed_last_->next_) = &command;
  completed_last_ = &command;
}

HostCommand* InitiatorQueue::take_completed() {
  HostCommand* command = completed_first_;
  if (command == nullptr) return nullptr;
  completed_first_ = command->next_;
  if (completed_first_ == nullptr) completed_last_ = nullptr;
  return command;
}

HostCommand* InitiatorQueue::take_lost() {
  ended_ = true;
  line_first_ = line_last_ = nullptr;
  for (Slot& slot : slots_) {
    HostCommand* command = slot.command;
    if (command == nullptr) continue;
    BB_CHECK(!command->in_batch_, "a command is given back while it is being sent");
    slot.command = nullptr;
    command->in_line_ = false;
    command->sent = command->state_ == HostCommand::State::kSent;
    command->state_ = HostCommand::State::kIdle;
    return command;
  }
  return nullptr;
}

Status InitiatorQueue::illegal(FatalError fatal, uint32_t information, const char* what,
                               Header header) {
  ended_ = true;
  control_.resize(kTermHeaderBytes + kTermDataMaxBytes);
  TermReq term{.error = fatal,
               .information = information,
               .header = header.first(std::min(header.size(), kTermDataMaxBytes))};
  control_.resize(term.encode(control_, PduType::kH2cTermReq));
  bool digest = fatal == FatalError::kHeaderDigest;
  return error(digest ? Code::k_corrupt : Code::k_io_error, "the target sent {}", what);
}

Status InitiatorQueue::receive(ConstBytes input) {
  BB_CHECK(!ended_, "bytes after the end of the connection");
  for (;;) {
    PduEvent event = reader_.next(input);
    switch (event.kind) {
      case PduEvent::Kind::kNeedMore:
        return {};
      case PduEvent::Kind::kHeader:
        BB_TRY(on_header(event.bytes));
        break;
      case PduEvent::Kind::kData:
        place(event.bytes);
        break;
      case PduEvent::Kind::kEnd:
        BB_TRY(on_end(event.digest_ok));
        break;
      case PduEvent::Kind::kIllegal: {
        const Violation& violation = reader_.violation();
        return illegal(violation.error, violation.information, violation.what,
                       reader_.illegal_header());
      }
    }
  }
}

Status InitiatorQueue::on_header(Header header) {
  switch (reader_.header().type) {
    case PduType::kIcResp:
      return on_ic_resp(header);
    case PduType::kCapsuleResp:
      return on_response(header);
    case PduType::kC2hData:
      return on_data_header(header);
    case PduType::kR2t:
      return on_r2t(header);
    case PduType::kC2hTermReq:
      return on_term(header);
    case PduType::kIcReq:
    case PduType::kH2cTermReq:
    case PduType::kCapsuleCmd:
    case PduType::kH2cData:
      break;  // the reader has refused them
  }
  return illegal(FatalError::kInvalidHeaderField, 0, "a PDU type nobody sends us", header);
}

Status InitiatorQueue::on_ic_resp(Header header) {
  IcResp response = IcResp::decode(header);
  if (response.digests != options_.digests) {
    ended_ = true;
    auto text = [](Digests d) {
      return d.header ? (d.data ? "header and data" : "header") : (d.data ? "data" : "no");
    };
    return error(Code::k_not_supported,
                 "the target agrees to {} digests, asked for {}; digest=off goes without",
                 text(response.digests), text(options_.digests));
  }
  format_.digests = response.digests;
  format_.alignment_bytes = (uint32_t{response.alignment_dwords} + 1) * 4;
  h2c_data_max_bytes_ = response.h2c_data_max_bytes;
  reader_.negotiated({.digests = response.digests, .alignment_bytes = 4});
  ready_ = true;
  return {};
}

Status InitiatorQueue::on_response(Header header) {
  Cqe cqe = Cqe::decode(capsule_cqe(header));
  HostCommand* command = find(cqe.command_id);
  if (command == nullptr || command->state_ != HostCommand::State::kSent || command->answered_) {
    return illegal(FatalError::kInvalidHeaderField, kAtCommandId + 12,
                   "a response to no command of ours", header);
  }
  command->cqe = cqe;
  // A success that is none: data that never moved. The command fails; nothing wrong is delivered.
  if (plain_status(cqe.status) == NvmeStatus::kSuccess &&
      command->moved_bytes_ != command->length_bytes) {
    command->cqe.status = NvmeStatus::kDataTransferError;
  }
  answer(*command);
  return {};
}

Status InitiatorQueue::on_data_header(Header header) {
  DataHeader data = DataHeader::decode(header, reader_.header().flags);
  HostCommand* command = find(data.command_id);
  if (command == nullptr || command->state_ != HostCommand::State::kSent || command->answered_ ||
      command->to_controller) {
    return illegal(FatalError::kInvalidHeaderField, kAtCommandId, "data of no command of ours",
                   header);
  }
  if (data.offset_bytes != command->moved_bytes_ ||
      data.length_bytes > command->length_bytes - command->moved_bytes_) {
    return illegal(FatalError::kDataOutOfRange, kAtDataOffset, "data out of its range", header);
  }
  if (data.success && data.offset_bytes + data.length_bytes != command->length_bytes) {
    return illegal(FatalError::kInvalidHeaderField, 1, "a success before all data", header);
  }
  receiving_ = command;
  receiving_header_ = data;
  receiving_left_ = data.length_bytes;
  long_data_ = data.length_bytes >= 2 * kDirectBytes;
  return {};
}

void InitiatorQueue::place(ConstBytes bytes) {
  HostCommand& command = *receiving_;
  receiving_left_ -= static_cast<uint32_t>(bytes.size());
  command.moved_bytes_ += static_cast<uint32_t>(bytes.size());
  while (!bytes.empty()) {
    const iovec& whole = command.iov[command.cursor_.index];
    size_t take = std::min(whole.iov_len - command.cursor_.skip, bytes.size());
    std::byte* to = static_cast<std::byte*>(whole.iov_base) + command.cursor_.skip;
    if (take > 0 && to != bytes.data()) std::memcpy(to, bytes.data(), take);
    bytes = bytes.subspan(take);
    command.cursor_.skip += take;
    if (command.cursor_.skip == whole.iov_len) command.cursor_ = {command.cursor_.index + 1, 0};
  }
}

Bytes InitiatorQueue::direct_target() const {
  if (ended_ || receiving_ == nullptr || receiving_left_ < kDirectBytes) return {};
  const HostCommand& command = *receiving_;
  HostCommand::Cursor cursor = command.cursor_;
  while (command.iov[cursor.index].iov_len == 0) ++cursor.index;
  const iovec& whole = command.iov[cursor.index];
  size_t length = std::min<size_t>(whole.iov_len - cursor.skip, receiving_left_);
  if (length < kDirectBytes) return {};
  return {static_cast<std::byte*>(whole.iov_base) + cursor.skip, length};
}

Status InitiatorQueue::on_end(bool digest_ok) {
  HostCommand* command = std::exchange(receiving_, nullptr);
  BB_CHECK(command != nullptr, "the end of data that never began");
  if (!digest_ok) command->digest_error = true;
  if (receiving_header_.success) {
    command->cqe = Cqe{.command_id = command->sqe.command_id};
    answer(*command);
  }
  return {};
}

Status InitiatorQueue::on_r2t(Header header) {
  R2t r2t = R2t::decode(header);
  HostCommand* command = find(r2t.command_id);
  if (command == nullptr || command->state_ != HostCommand::State::kSent || command->answered_ ||
      !command->to_controller || command->in_capsule_) {
    return illegal(FatalError::kInvalidHeaderField, kAtCommandId,
                   "a request for data of no command of ours", header);
  }
  if (command->moved_bytes_ < command->asked_bytes_) {
    return illegal(FatalError::kLimitExceeded, 0, "a second R2T before the first was served",
                   header);
  }
  if (r2t.offset_bytes != command->asked_bytes_ || r2t.length_bytes == 0 ||
      r2t.length_bytes > command->length_bytes - command->asked_bytes_) {
    return illegal(FatalError::kDataOutOfRange, kAtDataOffset, "an R2T out of its range", header);
  }
  command->asked_bytes_ += r2t.length_bytes;
  command->transfer_tag_ = r2t.transfer_tag;
  line_up(*command);
  return {};
}

Status InitiatorQueue::on_term(Header header) {
  ended_ = true;
  TermReq term = TermReq::decode(header);
  bool digest = term.error == FatalError::kHeaderDigest;
  return error(digest ? Code::k_corrupt : Code::k_unavailable,
               "the target ended the connection: {} ({})", fatal_error_text(term.error),
               term.information);
}

}  // namespace bb::io::nvme
