// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace bb::io {

// Free lists of coroutine frames, one set a thread (so one a reactor): a frame costs a few
// instructions instead of a malloc. Frames may be freed on another thread than they came from.
void* frame_allocate(size_t size_bytes);
void frame_free(void* frame, size_t size_bytes) noexcept;

}  // namespace bb::io
