// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/context.h"
#include "io/nvme/association.h"
#include "io/nvme/log_page.h"
#include "io/nvme/pdu.h"
#include "io/sync.h"

namespace bb::io::nvme {

// "host:port" of an entry, with brackets where they belong.
std::string address_of(const DiscoveryEntry& entry);

// What the discovery controller at `address` (host:port) tells this host.
Task<Result<std::vector<DiscoveryEntry>>> discover(Context context, std::string address,
                                                   std::string host_nqn, Digests digests = {},
                                                   uint64_t timeout_ns = 5'000'000'000);

struct DiscoveryOptions {
  std::vector<std::string> addresses;  // host:port, asked in turn until one answers
  HostIdentity host;
  Digests digests;
  std::shared_ptr<const HostSecurity> security;  // its TLS key is for the services, too
  uint64_t timeout_ns = 5'000'000'000;
  uint64_t keep_alive_ns = 5'000'000'000;
};

// A connection to a discovery controller that stays: whenever the log changes, it is read again and
// told. Referrals to other discovery services are followed, each service once, at most
// kServicesMax; those are asked once at every change of the first and not watched. When the
// connection is lost it comes back by itself, with back-off, and the log is told if it has changed.
class DiscoveryWatch final : private Association::Owner {
 public:
  static constexpr size_t kServicesMax = 8;
  using Changed = std::function<void(const std::vector<DiscoveryEntry>& entries)>;
  // `changed` runs on the loop, first with what there is at the beginning.
  DiscoveryWatch(Context context, DiscoveryOptions options, Changed changed);
  ~DiscoveryWatch();

  void start() { run_.spawn(run()); }
  Task<void> stop();                          // once, after start
  const Status& why() const { return why_; }  // ok while it is connected

 private:
  void on_association_broken(Association& association) override;
  Task<void> run();
  Task<Status> session(std::string address);
  Task<Status> read();
  Task<void> keep_alive();
  Task<void> rest(uint64_t backoff_ns);

  Context context_;
  DiscoveryOptions options_;
  Changed changed_;
  AssociationOptions association_options_;
  std::unique_ptr<Association> association_;
  std::vector<DiscoveryEntry> entries_;
  bool told_ = false;
  bool stopping_ = false;
  Status why_;
  Event wake_;
  TaskGroup run_;
};

}  // namespace bb::io::nvme
