// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bb {

// A pool of memory would hide from AddressSanitizer what is used after it was given back, and from
// ThreadSanitizer what two threads take for theirs: there a pool keeps nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace bb
