// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/device.h"
#include "raid/superblock.h"

namespace bb::raid {

// The newer valid superblock of a device. NOT_FOUND: it is no member of anything; CORRUPT: it was.
io::Task<Result<Superblock>> read_superblock(io::Device* device);

// Copy A, flush, copy B, flush: one of them is always whole.
io::Task<Status> write_superblock(io::Device* device, Superblock superblock);

// Overwrites both copies, so that the device belongs to no array.
io::Task<Status> wipe_superblock(io::Device* device);

}  // namespace bb::raid
