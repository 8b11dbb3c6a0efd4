// SPDX-License-Identifier: Apache-2.0
#include "io/device_uri.h"

#include "io/fault_device.h"
#include "io/file_device.h"
#include "io/mem_device.h"
#include "io/nbd/nbd_device.h"
#include "io/null_device.h"
#include "io/nvme/local_device.h"
#include "io/nvme/nvme_device.h"

namespace bb::io {
namespace {

using Opener = Task<Result<std::unique_ptr<Device>>> (*)(Context context, Uri uri,
                                                         std::string text);

// A new kind of device is one file and one row here.
struct SchemeRow {
  std::string_view scheme;
  Opener open;
};
constexpr SchemeRow kSchemes[] = {
    {"fault", open_fault_device},
    {"file", open_file_device},
    {"mem", open_mem_device},
    {"null", open_null_device},
    {"nvme", nvme::open_local_device},
    {"nvme-tcp", nvme::open_nvme_device},
    {"nvme-tcp+discover", nvme::open_discovered},
    {"nbd", nbd::open_nbd_device},
    {"nbd+unix", nbd::open_nbd_device},
};

}  // namespace

std::vector<std::string> device_schemes() {
  std::vector<std::string> names;
  for (const SchemeRow& row : kSchemes) names.emplace_back(row.scheme);
  return names;
}

Task<Result<std::unique_ptr<Device>>> open_device(Context context, std::string text) {
  auto uri = Uri::parse(text);
  if (!uri.ok()) co_return uri.status();
  for (const SchemeRow& row : kSchemes) {
    if (row.scheme != uri->scheme) continue;
    auto opened = co_await row.open(context, std::move(uri).value(), std::move(text));
    if (opened.ok()) (*opened)->measure(context.loop);
    co_return opened;
  }
  co_return error(Code::k_invalid_argument, "\"{}\": no device scheme \"{}\"; there are {}", text,
                  uri->scheme, fmt::join(device_schemes(), ", "));
}

}  // namespace bb::io
