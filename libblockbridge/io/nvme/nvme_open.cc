// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/nvme_device.h"

namespace bb::io::nvme {
namespace {

Task<Result<std::unique_ptr<Device>>> open(Context context, Result<NvmeOptions> options,
                                           std::string text) {
  if (!options.ok()) co_return options.status();
  BB_CO_ASSIGN(options->association.security,
               co_await load_security(context, options->association.security_files));
  auto device = std::make_unique<NvmeDevice>(context, std::move(options).value(), std::move(text));
  BB_CO_TRY(co_await device->open());
  co_return std::unique_ptr<Device>(std::move(device));
}

}  // namespace

Task<Result<std::unique_ptr<Device>>> open_nvme_device(Context context, Uri uri, std::string text) {
  auto options = parse_nvme_options(std::move(uri), context.loop.prng());
  co_return co_await open(context, std::move(options), std::move(text));
}

Task<Result<std::unique_ptr<Device>>> open_discovered(Context context, Uri uri, std::string text) {
  auto options = parse_discovered_options(std::move(uri), context.loop.prng());
  co_return co_await open(context, std::move(options), std::move(text));
}

}  // namespace bb::io::nvme
