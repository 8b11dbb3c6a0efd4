// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/rpc/rpc_server.h"
#include "io/stats_collect.h"

namespace bb::io::rpc {

// Adds the methods by which `bb io` and others learn what a daemon's I/O is like:
//   io.stats {from?, buckets?} -> {objects: [as encode_object()], next: index or null, taken_ns}
//            from: index of the first object; as many follow as fit a line, `next` is where the
//            following answer goes on
//   io.slow {}                 -> {slow: [as encode_records()], failed: [...]}
void add_stats_methods(RpcServer& server, const Loop& loop, CollectStats collect);

}  // namespace bb::io::rpc
