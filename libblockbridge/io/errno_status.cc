// SPDX-License-Identifier: Apache-2.0
#include "io/errno_status.h"

#include <cerrno>
#include <cstring>

namespace bb::io {

Code code_of_errno(int number) {
  switch (number) {
    case ENOENT:
      return Code::k_not_found;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::k_permission_denied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Code::k_no_space;
    case EBUSY:
    case EAGAIN:
      return Code::k_busy;
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
    case EINVAL:
      return Code::k_invalid_argument;
    case EOPNOTSUPP:
      return Code::k_not_supported;
    default:
      return Code::k_io_error;
  }
}

Status errno_status(std::string_view what, int number) {
  return error(code_of_errno(number), "{}: {} (errno {})", what, std::strerror(number), number);
}

}  // namespace bb::io
