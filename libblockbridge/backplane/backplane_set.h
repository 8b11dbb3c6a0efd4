// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backplane/backplane_client.h"
#include "backplane/query.h"

namespace bb::backplane {

// Who we are to disk nodes.
struct OwnerIdentity {
  Uuid owner;        // recorded in claims: the cluster
  std::string name;  // for messages
  Uuid host;         // of this dataplane
  std::string nqn() const { return host_nqn(host); }
};

// A drive somewhere on the configured backplanes.
struct FoundDrive {
  BackplaneClient* backplane = nullptr;
  NodeDrive drive;
  bool online = false;  // the backplane answers now
};

// All configured backplanes together.
class BackplaneSet {
 public:
  BackplaneSet(io::Context context, const std::vector<BackplaneConfig>& configs);
  void start();
  io::Task<void> stop();

  const std::vector<std::unique_ptr<BackplaneClient>>& clients() const { return clients_; }
  BackplaneClient* find(std::string_view name) const;
  // Until each has answered or failed once; TIMED_OUT is no error: who is late counts as offline.
  io::Task<void> wait_tried(uint64_t deadline_ns);
  io::Task<void> refresh_all();

  struct Inventory {
    std::vector<FoundDrive> found;
    std::vector<DriveRecord> records;  // the same drives, as a query sees them
  };
  // Offline backplanes' drives are in it with the reason why they cannot be chosen.
  Inventory inventory(const OwnerIdentity& us) const;

  // Where a drive is now: it may have moved to another node. Null when no report has it.
  BackplaneClient* locate(const Uuid& drive) const;

 private:
  io::Task<void> refresh_one(BackplaneClient* client);
  io::Context context_;
  std::vector<std::unique_ptr<BackplaneClient>> clients_;
};

// "free", "owned", "foreign" (another owner's), "failed", "absent" (its node does not answer)
std::string drive_state(const FoundDrive& found, const OwnerIdentity& us);

// The initiator's URI for a drive claimed in `epoch`.
std::string drive_uri(const std::string& address, const Uuid& drive, const OwnerIdentity& us,
                      uint64_t epoch);

}  // namespace bb::backplane
