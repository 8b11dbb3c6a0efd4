// SPDX-License-Identifier: Apache-2.0
#include "sim/raw_queue.h"

#include <utility>

#include "base/crc32c.h"

namespace bb::sim {

using namespace io::nvme;  // NOLINT: the wire's other end

RawQueue::RawQueue(io::Loop& loop, Digests digests, OnAnswer on_answer)
    : on_answer_(std::move(on_answer)), tasks_(loop), wake_(loop) {
  format_.digests = digests;
}

io::Task<bool> RawQueue::open(io::Network* network, std::string address, uint64_t deadline_ns) {
  auto stream = co_await network->connect({std::move(address)}, deadline_ns);
  if (!stream.ok()) co_return false;
  stream_ = std::move(*stream);
  alive_ = true;
  out_.resize(kIcBytes);
  IcReq{.digests = format_.digests}.encode(out_);
  tasks_.spawn(send_all());
  tasks_.spawn(receive_all());
  co_return true;
}

void RawQueue::put(ConstBytes header, ConstBytes data) {
  out_.insert(out_.end(), header.begin(), header.end());
  out_.insert(out_.end(), data.begin(), data.end());
  if (format_.digests.data && !data.empty()) {
    std::byte digest[kDigestBytes];
    store_digest(digest, crc32c(data));
    out_.insert(out_.end(), std::begin(digest), std::end(digest));
  }
  wake_.set();
}

void RawQueue::send(Sqe sqe, ConstBytes data, bool in_capsule) {
  if (!data.empty()) {
    auto length = static_cast<uint32_t>(data.size());
    sqe.sgl = in_capsule ? in_capsule_sgl(length) : transport_sgl(length);
    if (!in_capsule) promised_[sqe.command_id].assign(data.begin(), data.end());
  }
  ConstBytes with = in_capsule ? data : ConstBytes();
  std::byte entry[kSqeBytes];
  sqe.encode(entry);
  std::byte header[kHeaderRoomBytes] = {};
  size_t length = encode_capsule_cmd(header, entry, static_cast<uint32_t>(with.size()), format_);
  put(ConstBytes(header).first(length), with);
}

void RawQueue::end(bool abort) {
  if (!std::exchange(alive_, false)) return;
  if (abort) {
    stream_->abort();
  } else {
    stream_->shutdown();
  }
  wake_.set();
}

io::Task<void> RawQueue::close() {
  end(false);
  co_await tasks_.join();
  if (stream_ != nullptr) co_await stream_->close();
}

io::Task<void> RawQueue::send_all() {
  while (alive_) {
    if (out_.empty()) {
      wake_.reset();
      co_await wake_.wait();
      continue;
    }
    std::vector<std::byte> now = std::exchange(out_, {});
    auto sent = co_await stream_->send_all(ConstBytes(now));
    if (!sent.ok()) end(false);
  }
}

io::Task<void> RawQueue::receive_all() {
  std::vector<std::byte> room(8192);
  while (alive_) {
    auto got = co_await stream_->recv_some(room);
    if (!got.ok() || *got == 0) {
      end(false);
    } else {
      read(ConstBytes(room).first(*got));
    }
  }
}

void RawQueue::read(ConstBytes bytes) {
  while (alive_) {
    PduEvent event = reader_.next(bytes);
    switch (event.kind) {
      case PduEvent::Kind::kNeedMore:
        return;
      case PduEvent::Kind::kHeader:
        on_header(event.bytes);
        break;
      case PduEvent::Kind::kData: {
        auto& got = got_[data_header_.command_id];
        got.insert(got.end(), event.bytes.begin(), event.bytes.end());
        break;
      }
      case PduEvent::Kind::kEnd:
        if (!event.digest_ok) return end(true);  // a flipped bit
        on_data_end();
        break;
      case PduEvent::Kind::kIllegal:
        return end(true);
    }
  }
}

void RawQueue::on_header(ConstBytes header) {
  switch (reader_.header().type) {
    case PduType::kIcResp:
      return reader_.negotiated({.digests = IcResp::decode(header).digests});
    case PduType::kC2hData:
      data_header_ = DataHeader::decode(header, reader_.header().flags);
      got_[data_header_.command_id].clear();
      return;
    case PduType::kR2t: {
      R2t r2t = R2t::decode(header);
      ConstBytes data = promised_[r2t.command_id];
      if (r2t.offset_bytes + size_t{r2t.length_bytes} > data.size()) return end(true);
      DataHeader reply{.command_id = r2t.command_id,
                       .transfer_tag = r2t.transfer_tag,
                       .offset_bytes = r2t.offset_bytes,
                       .length_bytes = r2t.length_bytes,
                       .last = true};
      std::byte room[kHeaderRoomBytes] = {};
      size_t length = encode_h2c_data(room, reply, format_);
      return put(ConstBytes(room).first(length), data.subspan(r2t.offset_bytes, r2t.length_bytes));
    }
    case PduType::kCapsuleResp: {
      Cqe cqe = Cqe::decode(capsule_cqe(header));
      return on_answer_({.command_id = cqe.command_id,
                         .status = plain_status(cqe.status),
                         .result = cqe.result,
                         .data = std::exchange(got_[cqe.command_id], {})});
    }
    default:
      return end(false);  // a termination request
  }
}

void RawQueue::on_data_end() {
  if (!data_header_.success) return;
  uint16_t id = data_header_.command_id;
  on_answer_({.command_id = id, .data = std::exchange(got_[id], {})});
}

}  // namespace bb::sim
