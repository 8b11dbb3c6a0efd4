// SPDX-License-Identifier: Apache-2.0
// pure: values in, values out
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "backplane/drive_label.h"

namespace bb::backplane {

// "drv-" + the uuid: how a drive is named in commands and messages.
std::string drive_id(const Uuid& drive);
std::string drive_nqn(const Uuid& drive);
std::string host_nqn(const Uuid& host);

struct ClaimRequest {
  Uuid owner;
  std::string owner_name;
  std::string host_nqn;
  uint64_t epoch = 0;
  Uuid array;
  std::string array_name;
};

struct ClaimDecision {
  Claim next;
  bool changed = false;  // to be made durable before the answer
  bool fence = false;    // connections of the claim before are cut before the answer
};

// Whether the drive passes to who asks. INVALID_ARGUMENT (request incomplete), BUSY (another owner,
// or another array of the same owner), FENCED (an older epoch). The same request twice is the same
// answer: an answer may have been lost.
Result<ClaimDecision> decide_claim(const Claim& now, const ClaimRequest& request);

struct ReleaseRequest {
  Uuid owner;
  Uuid array;  // that uses the drive: an owner's array never frees the drive of another one
  uint64_t epoch = 0;
  bool force = false;  // another's claim too: that owner loses access at once
};

// PERMISSION_DENIED (another owner or array), FENCED (an older epoch). Releasing a free drive is
// well.
Result<ClaimDecision> decide_release(const Claim& now, const ReleaseRequest& request);

// The NVMe host identifier a claim connects with: first half of the owner's uuid, then the epoch,
// big-endian. So an old connection can be told from a new one of the same host.
using HostId = std::array<std::byte, 16>;
HostId encode_host_id(const Uuid& owner, uint64_t epoch);

struct ConnectRequest {
  std::string_view host_nqn;
  HostId host_id{};
};

// Whether a host may connect to the drive now. PERMISSION_DENIED (not the owner's host, or not a
// permitted one), FENCED (an epoch older than the claim's); the host sees "Connect Invalid Host".
// `permitted` are the hosts that may reach a free drive; for an owned one only the claim counts.
Status decide_connect(const Claim& now, const std::vector<std::string>& permitted,
                      const ConnectRequest& request);

}  // namespace bb::backplane
