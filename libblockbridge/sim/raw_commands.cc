// SPDX-License-Identifier: Apache-2.0
// What a raw host sends, and what it makes of the answers.
#include <fmt/format.h>

#include <algorithm>

#include "sim/raw_host.h"

namespace bb::sim {

using namespace io::nvme;  // NOLINT: the wire's other end

namespace {

constexpr size_t kWaitingMax = 12;  // commands of a queue
constexpr size_t kAbortsMax = 8;
constexpr size_t kFirstAbort = 2;  // identifiers before are those of Connect and of enabling

// A flipped bit was seen by the target, and the command left alone.
bool damaged(NvmeStatus status) {
  return status == NvmeStatus::kTransientTransportError || status == NvmeStatus::kDataTransferError;
}

}  // namespace

std::vector<std::byte> SharedBlocks::filled(Value value) {
  std::vector<std::byte> block(kBlockBytes);
  for (size_t at = 0; at < kBlockBytes; at += 8) store_le<Value>(block.data() + at, value);
  return block;
}

bool SharedBlocks::whole(ConstBytes block) {
  if (block.size() != kBlockBytes) return false;
  std::vector<std::byte> same = filled(load_le<Value>(block.data()));
  return std::equal(block.begin(), block.end(), same.begin());
}

std::string SharedBlocks::check() const {
  for (size_t block = 0; block < kCount; ++block) {
    std::string problem = models[block].check();
    if (!problem.empty()) return fmt::format("shared block {}: {}", block, problem);
  }
  return {};
}

void RawHost::act() {
  Line& line = lines_[prng_.below(lines_.size())];
  uint64_t kind = prng_.below(20);
  if (kind >= 16) return abort();
  if (line.waiting + 3 > kWaitingMax) return;
  if (kind < 8) {
    pair(line);
    if (prng_.chance(6)) pair(line);
  } else if (kind < 11) {
    write(line);
  } else if (kind < 13) {
    read(line);
  } else if (kind < 15) {
    wrong_half(line);
  } else {
    send(line, IoOpcode::kFlush, {.kind = Kind::kFlush}, {});
  }
  if (prng_.chance(3)) abort();
}

uint16_t RawHost::send(Line& line, IoOpcode opcode, Command command, ConstBytes data,
                       uint8_t fuse) {
  auto id = static_cast<uint16_t>(line.commands.size());
  command.sent_ns = node_.now_ns();
  Sqe sqe{.opcode = static_cast<uint8_t>(opcode),
          .flags = static_cast<uint8_t>(kFlagSgl | fuse),
          .command_id = id,
          .nsid = 1};
  if (command.kind != Kind::kFlush) {
    sqe.cdw10 = static_cast<uint32_t>(options_.blocks->first_block + command.block);
    sqe.cdw12 = kForceUnitAccess;
  }
  if (command.kind == Kind::kRead) sqe.sgl = transport_sgl(SharedBlocks::kBlockBytes);
  note("raw command", id, static_cast<uint64_t>(command.kind), command.op);
  line.commands.push_back(command);
  ++line.waiting;
  ++options_.stats->host_ops;
  line.queue->send(sqe, data, !prng_.chance(3));
  return id;
}

void RawHost::read(Line& line) {
  size_t block = prng_.below(SharedBlocks::kCount);
  auto op = options_.blocks->models[block].begin_read(options_.world->now_ns());
  send(line, IoOpcode::kRead, {.kind = Kind::kRead, .block = block, .op = op}, {});
}

void RawHost::write(Line& line) {
  size_t block = prng_.below(SharedBlocks::kCount);
  SharedBlocks::Value value = options_.blocks->next_value++;
  auto op = options_.blocks->models[block].begin_write(value, options_.world->now_ns());
  send(line, IoOpcode::kWrite, {.kind = Kind::kWrite, .block = block, .value = value, .op = op},
       SharedBlocks::filled(value));
}

// With what the block held last, or now and then with something older.
void RawHost::pair(Line& line) {
  size_t block = prng_.below(SharedBlocks::kCount);
  SharedBlocks::Value compared = options_.blocks->latest[block];
  if (prng_.chance(8)) compared = prng_.below(compared + 1);
  SharedBlocks::Value value = options_.blocks->next_value++;
  auto op = options_.blocks->models[block].begin_pair(compared, value, options_.world->now_ns());
  Command half{.kind = Kind::kFirst, .block = block, .value = value, .op = op};
  half.partner = static_cast<uint16_t>(line.commands.size() + 1);
  uint16_t first =
      send(line, IoOpcode::kCompare, half, SharedBlocks::filled(compared), kFlagFuseFirst);
  half.kind = Kind::kSecond;
  half.partner = first;
  send(line, IoOpcode::kWrite, half, SharedBlocks::filled(value), kFlagFuseSecond);
}

// A first without its second, a second without its first, or two of different blocks: nothing of
// it may be done.
void RawHost::wrong_half(Line& line) {
  uint64_t what = prng_.below(3);
  size_t block = prng_.below(SharedBlocks::kCount);
  auto& blocks = *options_.blocks;
  Command half{.kind = Kind::kFirst, .block = block};
  half.wanted = what == 2 ? NvmeStatus::kInvalidField : NvmeStatus::kMissingFused;
  if (what == 1) read(line);
  if (what != 1) {
    send(line, IoOpcode::kCompare, half, SharedBlocks::filled(blocks.latest[block]),
         kFlagFuseFirst);
  }
  if (what == 0) return read(line);
  if (what == 2) half.block = (block + 1) % SharedBlocks::kCount;
  half.kind = Kind::kSecond;
  SharedBlocks::Value value = blocks.next_value++;
  half.op = blocks.models[half.block].begin_write(value, options_.world->now_ns());
  send(line, IoOpcode::kWrite, half, SharedBlocks::filled(value), kFlagFuseSecond);
}

// Of one of the last commands, on this queue or another, or of a queue or a command that never was.
void RawHost::abort() {
  if (aborts_waiting_ >= kAbortsMax) return;
  Abort one{.line = prng_.below(lines_.size())};
  uint16_t queue_id = static_cast<uint16_t>(one.line + 1);
  std::vector<Command>& commands = lines_[one.line].commands;
  uint64_t back = prng_.between(1, prng_.chance(2) ? 2 : 8);
  bool nothing = back >= commands.size() || prng_.chance(8);
  if (nothing) {
    one.line = kNone;
    one.command = static_cast<uint16_t>(60'000 + prng_.below(100));
    if (prng_.chance(2)) queue_id = static_cast<uint16_t>(prng_.between(lines_.size() + 1, 9));
  } else {
    one.command = static_cast<uint16_t>(commands.size() - back);
    commands[one.command].to_be_aborted = true;
  }
  note("raw abort", one.line, one.command);
  ++options_.stats->aborts;
  ++aborts_waiting_;
  auto id = static_cast<uint16_t>(kFirstAbort + aborts_.size());
  aborts_.push_back(one);
  control_->send({.opcode = static_cast<uint8_t>(AdminOpcode::kAbort),
                  .flags = kFlagSgl,
                  .command_id = id,
                  .cdw10 = queue_id | (uint32_t{one.command} << 16)},
                 {}, true);
}

void RawHost::on_control(const RawQueue::Answer& answer) {
  ++control_answers_;
  last_control_ = answer;
  if (answer.command_id < kFirstAbort) return;
  size_t which = answer.command_id - kFirstAbort;
  if (which >= aborts_.size() || aborts_[which].answered) {
    return fail("an answer of an Abort that has none coming", {.status = answer.status});
  }
  on_aborted(aborts_[which], answer);
}

void RawHost::on_aborted(Abort& abort, const RawQueue::Answer& answer) {
  abort.answered = true;
  --aborts_waiting_;
  if (answer.status != NvmeStatus::kSuccess) {
    return fail("an Abort failed", {.status = answer.status});
  }
  if ((answer.result & 1) != 0) return;
  if (abort.line == kNone) return fail("an Abort of nothing says that it aborted", {});
  Command& command = lines_[abort.line].commands[abort.command];
  command.aborted = true;
  if (command.answered && command.status == NvmeStatus::kSuccess) {
    fail("done, and then said to be aborted", command);
  }
}

void RawHost::on_answer(size_t line, const RawQueue::Answer& answer) {
  std::vector<Command>& commands = lines_[line].commands;
  if (answer.command_id >= commands.size()) {
    return fail("an answer to no command", {.status = answer.status});
  }
  Command& command = commands[answer.command_id];
  if (command.answered) return fail("answered twice", command);
  note("raw answer", answer.command_id, static_cast<uint64_t>(answer.status));
  command.answered = true;
  command.status = answer.status;
  --lines_[line].waiting;
  if (answer.command_id == 0) return;  // the Connect
  if (command.aborted && command.status == NvmeStatus::kSuccess) {
    return fail("said to be aborted, and then done", command);
  }
  if (command.partner == kNone) return judge(command, answer);
  const Command& partner = commands[command.partner];
  if (!partner.answered) return;
  bool first = command.kind == Kind::kFirst;
  judge_pair(first ? command : partner, first ? partner : command);
}

// Answered with an error that says that nothing was done, for a reason that there was.
bool RawHost::undone(const Command& command) const {
  if (damaged(command.status)) return options_.net->flips() > 0;
  return command.to_be_aborted && command.status == NvmeStatus::kAbortRequested;
}

void RawHost::judge(const Command& command, const RawQueue::Answer& answer) {
  auto& blocks = *options_.blocks;
  RegisterModel& model = blocks.models[command.block];
  uint64_t now = options_.world->now_ns();
  bool done = command.status == NvmeStatus::kSuccess;
  if (command.wanted != NvmeStatus::kSuccess) {
    bool so = command.status == command.wanted || undone(command) ||
              (command.status == NvmeStatus::kFailedFused && command.kind == Kind::kSecond);
    if (!so) fail("half a pair is not answered as the specification says", command);
    if (command.kind == Kind::kSecond) model.end_without_effect(command.op);
    return;
  }
  if (!done && !undone(command)) return fail("an error for no reason", command);
  if (command.kind == Kind::kFlush) return;
  if (!done && command.kind == Kind::kWrite) return model.end_without_effect(command.op);
  if (!done) return;
  if (command.kind == Kind::kWrite) {
    blocks.latest[command.block] = command.value;
    return model.end_done(command.op, now);
  }
  if (!SharedBlocks::whole(answer.data)) return fail("not one write's block", command);
  auto value = load_le<SharedBlocks::Value>(answer.data.data());
  blocks.latest[command.block] = value;
  model.end_read(command.op, value, now);
}

// Both halves, or none of them.
void RawHost::judge_pair(const Command& first, const Command& second) {
  auto& blocks = *options_.blocks;
  RegisterModel& model = blocks.models[first.block];
  uint64_t now = options_.world->now_ns();
  bool followed = second.status == NvmeStatus::kFailedFused;
  if (first.status == NvmeStatus::kSuccess && second.status == NvmeStatus::kSuccess) {
    ++options_.stats->pairs;
    blocks.latest[first.block] = first.value;
    return model.end_done(first.op, now);
  }
  if (first.status == NvmeStatus::kCompareFailure && (followed || undone(second))) {
    return model.end_differs(first.op, now);
  }
  bool undone_both = (undone(first) && (followed || undone(second))) ||
                     (first.status == NvmeStatus::kFailedFused && undone(second));
  if (!undone_both) {
    fail("the first half's error for no reason", first);
    return fail("the second half's error for no reason", second);
  }
  model.end_without_effect(first.op);
}

}  // namespace bb::sim
