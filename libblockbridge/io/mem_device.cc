// SPDX-License-Identifier: Apache-2.0
#include "io/mem_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include "base/units.h"
#include "io/offload.h"
#include "io/range_lock.h"

namespace bb::io {
namespace {

// What is written to a drive is mostly not read again soon, and would have to be read into the
// cache first: streamed past it a block costs half, and whoever writes keeps what it had there.
void gather_past_cache(const IoRequest& request, Bytes into) {
#if __has_builtin(__builtin_nontemporal_store)
  using Word = long long __attribute__((vector_size(16), may_alias));
  constexpr size_t kLine = 64;
  constexpr size_t kWordsPerLine = kLine / sizeof(Word);
  for (uint32_t i = 0; i < request.iov_count; ++i) {
    size_t length = request.iov[i].iov_len;
    const void* from = request.iov[i].iov_base;
    auto places = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(into.data());
    if ((places | length) % kLine != 0) {
      std::memcpy(into.data(), from, length);
    } else {
      const auto* source = static_cast<const Word*>(from);
      auto* target = reinterpret_cast<Word*>(into.data());
      for (size_t line = 0; line < length / kLine; ++line) {
        for (size_t word = 0; word < kWordsPerLine; ++word) {
          __builtin_nontemporal_store(*source++, target++);
        }
      }
    }
    into = into.subspan(length);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // other threads may be told of it
#else
  iov_gather(request.iov, request.iov_count, 0, into);
#endif
}

// Which granules were ever written and not given back since: what is allocated.
constexpr uint64_t kGranuleBytes = 64 * KiB;
constexpr uint64_t kGranulesLookedAtMax = 65'536;  // by one query

class MemDevice final : public Device {
 public:
  MemDevice(DeviceInfo info, std::byte* memory, bool keep_pages)
      : memory_(memory), keep_pages_(keep_pages), written_(div_up(info.size_bytes, kGranuleBytes)) {
    info_ = std::move(info);
  }
  ~MemDevice() override { munmap(memory_, info_.size_bytes); }

  Bytes memory() const { return {memory_, info_.size_bytes}; }

  bool lends() const override { return true; }

  Task<Status> close() override {
    BB_CHECK(lent_.idle(), "{}: closed while some of it is lent", info_.uri);
    set_state(DeviceState::kClosed);
    co_return Status();
  }

 protected:
  // What is lent must not change: whoever writes there waits, and who would borrow after it, too.
  void do_submit(IoRequest& request) override {
    bool orders = request.may_lend || (request.op != IoOp::kRead && !lent_.idle());
    if (!orders || request.op == IoOp::kFlush) return run(request);
    static_assert(sizeof(Ticket) <= sizeof request.scratch);
    auto* ticket = new (request.scratch) Ticket;
    ticket->device = this;
    ticket->request = &request;
    ticket->offset_bytes = request.offset_bytes;
    ticket->length_bytes = request.length_bytes;
    ticket->mode = request.may_lend ? LockMode::kShared : LockMode::kExclusive;
    ticket->granted = [](RangeTicket* granted) {
      auto* self = static_cast<Ticket*>(granted);
      self->device->run_ordered(*self);
    };
    if (lent_.acquire(*ticket)) run_ordered(*ticket);
  }

  void do_give_back(IoRequest& request) override { end(ticket_of(request)); }

  Task<Result<std::vector<Extent>>> do_extents(uint64_t offset_bytes, uint64_t length_bytes,
                                               uint32_t limit) override {
    std::vector<Extent> list;
    uint64_t end = offset_bytes + std::min(length_bytes, kGranulesLookedAtMax * kGranuleBytes);
    for (uint64_t at = offset_bytes; at < end && list.size() <= limit;) {
      bool hole = !written_[at / kGranuleBytes];
      uint64_t next = std::min(round_down(at, kGranuleBytes) + kGranuleBytes, end);
      append_extent(list, {.length_bytes = next - at, .hole = hole, .zero = hole});
      at = next;
    }
    co_return list;
  }

 private:
  struct Ticket : RangeTicket {
    MemDevice* device = nullptr;
    IoRequest* request = nullptr;
  };
  static Ticket& ticket_of(IoRequest& request) {
    return *std::launder(reinterpret_cast<Ticket*>(request.scratch));
  }

  void run_ordered(Ticket& ticket) {
    IoRequest& request = *ticket.request;
    if (request.may_lend) {
      request.lent = {memory_ + request.offset_bytes, request.length_bytes};
      return request.done(&request, Status());
    }
    change(request);
    end(ticket);  // may start others: before anybody learns that this one is done
    request.done(&request, Status());
  }

  void end(Ticket& ticket) {
    lent_.release(ticket);
    ticket.~Ticket();
  }

  void run(IoRequest& request) {
    if (request.op == IoOp::kRead) {
      iov_scatter(request.iov, request.iov_count, 0,
                  {memory_ + request.offset_bytes, request.length_bytes});
    } else {
      change(request);
    }
    request.done(&request, Status());
  }

  void change(const IoRequest& request) {
    Bytes range{memory_ + request.offset_bytes, request.length_bytes};
    switch (request.op) {
      case IoOp::kWrite:
        gather_past_cache(request, range);
        return mark_written(request);
      case IoOp::kWriteZeroes:
        if (request.may_discard) return discard(request, range);
        std::memset(range.data(), 0, range.size());
        return mark_written(request);
      case IoOp::kDiscard:
        return discard(request, range);
      case IoOp::kRead:
      case IoOp::kFlush:
        return;
    }
  }

  void mark_written(const IoRequest& request) {
    uint64_t last = (request.offset_bytes + request.length_bytes - 1) / kGranuleBytes;
    for (uint64_t i = request.offset_bytes / kGranuleBytes; i <= last; ++i) written_[i] = true;
  }

  void discard(const IoRequest& request, Bytes range) {
    if (keep_pages_) {
      std::memset(range.data(), 0, range.size());
    } else {
      free_pages(range);
    }
    uint64_t end = request.offset_bytes + request.length_bytes;
    uint64_t first = div_up(request.offset_bytes, kGranuleBytes);
    uint64_t last = end == info_.size_bytes ? written_.size() : end / kGranuleBytes;
    for (uint64_t i = first; i < last; ++i) written_[i] = false;
  }

  // Whole pages go back to the system; the rest is cleared, so that a discard always reads as
  // zeroes.
  static void free_pages(Bytes range) {
    constexpr uintptr_t kPage = 4096;
    auto start = reinterpret_cast<uintptr_t>(range.data());
    uintptr_t first = round_up(start, kPage);
    uintptr_t last = round_down(start + range.size(), kPage);
    if (first >= last ||
        madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED) != 0) {
      std::memset(range.data(), 0, range.size());
      return;
    }
    std::memset(range.data(), 0, first - start);
    std::memset(reinterpret_cast<void*>(last), 0, start + range.size() - last);
  }

  std::byte* memory_;
  bool keep_pages_;
  std::vector<bool> written_;  // per granule
  RangeLock lent_;
};

// Clearing them takes a second per GiB: not on the loop.
Task<Status> take_huge_pages(Context context, Bytes memory, std::string text) {
  int taken = 0;
  auto take = [&] {
    madvise(memory.data(), memory.size(), MADV_HUGEPAGE);  // advice: small ones do, too
    taken = madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE) == 0 ? 0 : errno;
  };
  if (context.offload != nullptr) {
    co_await context.offload->run(context.loop, take);
  } else {
    take();
  }
  if (taken == 0 || taken == EINVAL) co_return Status();  // before Linux 5.14: with the first use
  co_return error(Code::k_no_space, "{}: cannot take {} bytes: {}", text, memory.size(),
                  std::strerror(taken));
}

}  // namespace

Task<Result<std::unique_ptr<Device>>> open_mem_device(Context context, Uri uri, std::string text) {
  DeviceInfo info;
  info.uri = text;
  BB_CO_ASSIGN(info.size_bytes, parse_size_bytes(uri.rest));
  BB_CO_ASSIGN(uint64_t block, uri.take_size("block_size", 512));
  BB_CO_ASSIGN(bool huge_pages, uri.take_bool("huge_pages", false));
  BB_CO_TRY(uri.reject_unknown());
  if (block != 512 && block != 4096) {
    co_return error(Code::k_invalid_argument, "{}: block size {} is neither 512 nor 4096", text,
                    block);
  }
  if (info.size_bytes == 0 || info.size_bytes % block != 0) {
    co_return error(Code::k_invalid_argument, "{}: size {} is not a multiple of the block size {}",
                    text, info.size_bytes, block);
  }
  info.block_size_bytes = static_cast<uint32_t>(block);
  info.discard = true;
  info.fast_zero = true;
  void* memory = mmap(nullptr, info.size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    co_return error(Code::k_no_space, "{}: cannot map {} bytes: {}", text, info.size_bytes,
                    std::strerror(errno));
  }
  auto device = std::make_unique<MemDevice>(std::move(info), static_cast<std::byte*>(memory),
                                            /*keep_pages=*/huge_pages);
  if (huge_pages) BB_CO_TRY(co_await take_huge_pages(context, device->memory(), text));
  co_return std::unique_ptr<Device>(std::move(device));
}

}  // namespace bb::io
