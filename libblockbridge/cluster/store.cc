// SPDX-License-Identifier: Apache-2.0
#include "cluster/store.h"

#include "cluster/store_backends.h"

namespace bb::cluster {
namespace {

struct BackendRow {
  std::string_view scheme;
  io::Task<Result<std::unique_ptr<Store>>> (*open)(io::Context context, Uri uri,
                                                   StoreLimits limits);
};
constexpr BackendRow kBackends[] = {
    {"file", open_sqlite_store},
    {"model", open_model_store},
    {"etcd", open_etcd_store},
};

}  // namespace

io::Task<Result<std::unique_ptr<Store>>> open_etcd_store(io::Context /*context*/, Uri uri,
                                                         StoreLimits /*limits*/) {
  co_return error(Code::k_not_supported,
                  "cluster store etcd:{}: this version has no etcd client; one node keeps its "
                  "cluster state in file:/var/lib/blockbridge/cluster.db",
                  uri.rest);
}

io::Task<Result<std::unique_ptr<Store>>> open_store(io::Context context, std::string uri,
                                                    StoreLimits limits) {
  auto parsed = Uri::parse(uri);
  if (!parsed.ok()) co_return parsed.status().with_context("cluster store");
  for (const BackendRow& row : kBackends) {
    if (row.scheme == parsed->scheme) {
      co_return co_await row.open(context, std::move(parsed).value(), limits);
    }
  }
  co_return error(Code::k_invalid_argument,
                  "cluster store \"{}\": no scheme \"{}\"; there are file, model, etcd", uri,
                  parsed->scheme);
}

}  // namespace bb::cluster
