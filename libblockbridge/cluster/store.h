// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "cluster/store_types.h"
#include "io/context.h"

namespace bb::cluster {

// Events in the order of revisions, without gaps; all of one revision come together.
class Watch {
 public:
  virtual ~Watch() = default;
  // Waits for events. BAD_STATE: what we should see next was compacted away; list again and make a
  // new watch. CANCELLED after cancel() or when the store closed. One caller at a time.
  virtual io::Task<Result<std::vector<WatchEvent>>> next() = 0;
  virtual void cancel() = 0;
};

// Every call may fail with UNAVAILABLE or TIMED_OUT. Of a change that means that it MAY HAVE
// HAPPENED, or may yet happen: read (linearizable) before deciding anything. Any other error means
// that nothing happened: INVALID_ARGUMENT, NOT_FOUND (a lease), NO_SPACE, IO_ERROR, CORRUPT.
class Store {
 public:
  virtual ~Store() = default;

  virtual io::Task<Result<GetResult>> get(std::string key) = 0;
  virtual io::Task<Result<ListResult>> list(std::string prefix, size_t limit) = 0;
  virtual io::Task<Result<TxnResult>> txn(Txn txn) = 0;

  // Keys bound to a lease vanish when it ends: revoked, or not kept alive for `ttl_ns`. It never
  // ends early; it may end late (etcd counts seconds, and a restarted store starts all anew).
  virtual io::Task<Result<uint64_t>> lease_grant(uint64_t ttl_ns) = 0;
  virtual io::Task<Status> lease_keep_alive(uint64_t lease) = 0;
  virtual io::Task<Status> lease_revoke(uint64_t lease) = 0;

  // Events of keys with this prefix from a revision on; 0: from now on. The watch must be gone
  // before the store is.
  virtual io::Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                         uint64_t from_revision) = 0;

  virtual io::Task<void> close() = 0;  // waits for what is in progress; before destruction
};

// file:/var/lib/blockbridge/cluster.db   SQLite, one process; ?max_size=SIZE limits the file
// model:                                 in memory, for tests
// etcd://host:port,…                     NOT_SUPPORTED yet
io::Task<Result<std::unique_ptr<Store>>> open_store(io::Context context, std::string uri,
                                                    StoreLimits limits = {});

}  // namespace bb::cluster
