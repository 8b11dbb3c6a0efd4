// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/uri.h"
#include "cluster/store.h"

namespace bb::cluster {

// One function a backend; store.cc has the table.
io::Task<Result<std::unique_ptr<Store>>> open_sqlite_store(io::Context context, Uri uri,
                                                           StoreLimits limits);
io::Task<Result<std::unique_ptr<Store>>> open_model_store(io::Context context, Uri uri,
                                                          StoreLimits limits);
io::Task<Result<std::unique_ptr<Store>>> open_etcd_store(io::Context context, Uri uri,
                                                         StoreLimits limits);

}  // namespace bb::cluster
