// SPDX-License-Identifier: Apache-2.0
#include "raid/superblock_io.h"

#include "base/mutant.h"
#include "io/buffer.h"

namespace bb::raid {
namespace {

io::Task<Status> write_copies(io::Device* device, io::AlignedBuffer* block) {
  uint64_t places[] = {0, superblock_b_offset_bytes(device->info().size_bytes)};
  for (uint64_t place : places) {
    // This flush takes a recovered member's data along; the mutant's superblock does not.
    bool alone = BB_MUTANT(kSkipRecoveryFlush);
    Status status = co_await device->write(place, block->bytes(), alone);
    if (status.ok() && !alone) status = co_await device->flush();
    if (!status.ok()) {
      co_return status.with_context(fmt::format("superblock copy at {}", place));
    }
  }
  co_return Status();
}

}  // namespace

io::Task<Result<Superblock>> read_superblock(io::Device* device) {
  if (device->info().size_bytes < 2 * kSuperblockBytes) {
    co_return error(Code::k_not_found, "no superblock on {} bytes", device->info().size_bytes);
  }
  io::AlignedBuffer a(kSuperblockBytes);
  io::AlignedBuffer b(kSuperblockBytes);
  Status read_a = co_await device->read(0, a.bytes());
  uint64_t place_b = superblock_b_offset_bytes(device->info().size_bytes);
  Status read_b = co_await device->read(place_b, b.bytes());
  if (!read_a.ok() && !read_b.ok()) co_return read_a.with_context("superblock");
  std::optional<ConstBytes> copy_a, copy_b;
  if (read_a.ok()) copy_a = a.bytes();
  if (read_b.ok()) copy_b = b.bytes();
  co_return choose_superblock(copy_a, copy_b);
}

io::Task<Status> write_superblock(io::Device* device, Superblock superblock) {
  io::AlignedBuffer block(kSuperblockBytes);
  encode_superblock(superblock, block.bytes());
  co_return co_await write_copies(device, &block);
}

io::Task<Status> wipe_superblock(io::Device* device) {
  if (device->info().size_bytes < 2 * kSuperblockBytes) co_return Status();
  io::AlignedBuffer zeroes(kSuperblockBytes);
  co_return co_await write_copies(device, &zeroes);
}

}  // namespace bb::raid
