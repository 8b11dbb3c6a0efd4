// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <string>
#include <vector>

#include "backplane/claim_rules.h"
#include "base/json.h"

namespace bb::backplane {

// What a disk node tells about one drive on its control channel.
struct NodeDrive {
  Uuid uuid;
  std::string serial;
  std::string model;
  std::string slot;
  uint64_t capacity_bytes = 0;
  uint32_t block_size_bytes = 0;
  std::string state;   // "online", "failed", "absent"
  std::string detail;  // why it is not online
  uint64_t errors = 0;
  Claim claim;
};

// A configured drive that is not published, and why.
struct RefusedDrive {
  std::string slot;
  std::string uri;
  std::string reason;
};

struct NodeReport {
  std::string name;
  std::string domain;
  std::string enclosure;
  std::vector<std::string> nvme;  // addresses of the NVMe/TCP target
  std::vector<NodeDrive> drives;
  std::vector<RefusedDrive> refused;
};

inline constexpr uint32_t kControlProtocol = 1;

Json encode_claim(const Claim& claim);
Json encode_node_drive(const NodeDrive& drive);
Json encode_node_report(const NodeReport& report);
// From the network: every field is checked, lists and texts have limits.
Result<NodeDrive> decode_node_drive(const Json& json);
Result<NodeReport> decode_node_report(const Json& json);

Json encode_claim_request(const Uuid& drive, const ClaimRequest& request);
struct DriveClaimRequest {
  Uuid drive;
  ClaimRequest claim;
};
Result<DriveClaimRequest> decode_claim_request(const Json& json);

Json encode_release_request(const Uuid& drive, const ReleaseRequest& request);
struct DriveReleaseRequest {
  Uuid drive;
  ReleaseRequest release;
};
Result<DriveReleaseRequest> decode_release_request(const Json& json);

// "drv-<uuid>" or the uuid alone.
Result<Uuid> parse_drive_id(std::string_view text);

}  // namespace bb::backplane
