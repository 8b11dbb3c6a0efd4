// SPDX-License-Identifier: Apache-2.0
#include "io/file_extents.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"

namespace bb::io {

std::vector<Extent> file_extents(int fd, uint64_t offset_bytes, uint64_t end_bytes, uint32_t limit,
                                 uint64_t block_bytes) {
  std::vector<Extent> list;
  uint64_t at = offset_bytes;
  while (at < end_bytes && list.size() < limit) {
    off_t found = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (found < 0 && errno != ENXIO) break;
    uint64_t data = found < 0 ? end_bytes : static_cast<uint64_t>(found);
    data = std::min(round_down(data, block_bytes), end_bytes);
    if (data > at) {
      append_extent(list, {.length_bytes = data - at, .hole = true, .zero = true});
      at = data;
      continue;
    }
    found = ::lseek(fd, static_cast<off_t>(at), SEEK_HOLE);
    if (found < 0) break;
    uint64_t hole = std::min(round_up(static_cast<uint64_t>(found), block_bytes), end_bytes);
    if (hole <= at) break;
    append_extent(list, {.length_bytes = hole - at});
    at = hole;
  }
  if (list.size() < limit) append_extent(list, {.length_bytes = end_bytes - at});
  return list;
}

}  // namespace bb::io
