// SPDX-License-Identifier: Apache-2.0
// pure: one association of a host with a subsystem; no I/O, time comes in as a number
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/nvme/command.h"
#include "io/nvme/identify.h"
#include "io/nvme/log_page.h"
#include "io/nvme/target_events.h"
#include "io/nvme/target_subsystem.h"

namespace bb::io::nvme {

class AnaPort;
class TargetCore;
class TargetQueue;

inline constexpr uint16_t kKeepAliveGranularityMs = 1000;
inline constexpr size_t kErrorEntries = 16;
inline constexpr uint32_t kTemperatureThreshold = 0xffff;  // never

struct AdminReply {
  NvmeStatus status = NvmeStatus::kSuccess;
  uint64_t result = 0;
  std::vector<std::byte> data;
  bool flush_first = false;  // the answer, after every namespace was flushed
};

// The refusal of a command that would fail again.
inline AdminReply refusal(NvmeStatus status) { return {.status = final_status(status)}; }

// One association of a host with a subsystem: the registers, features, events and queues.
class Controller {
 public:
  struct Place {  // where it is
    uint16_t id = 0;
    uint16_t port = 0;
    std::string local_host;  // how the host dialled us
  };
  Controller(TargetCore& core, std::shared_ptr<Subsystem> subsystem, HostIdentity host, Place place,
             uint32_t keep_alive_ms);

  uint16_t id() const { return place_.id; }
  uint16_t port() const { return place_.port; }
  const AnaPort& ana() const { return ana_; }
  const HostIdentity& host() const { return host_; }
  bool discovery() const { return subsystem_ == nullptr; }
  Subsystem* subsystem() const { return subsystem_.get(); }
  const std::string& nqn() const;
  bool ready() const { return (csts_ & kCstsReady) != 0; }

  AdminReply property_get(const Sqe& sqe) const;
  AdminReply property_set(const Sqe& sqe);
  void on_shutdown_flushed(bool done);
  void end_queues(size_t first, const char* why);  // from this id on, and all strangers
  AdminReply identify(const Sqe& sqe) const;
  AdminReply get_log_page(const Sqe& sqe);
  AdminReply get_features(const Sqe& sqe) const;
  AdminReply set_features(const Sqe& sqe);
  bool has_feature(FeatureId feature) const;
  std::vector<FeatureId> features() const;

  void heard(uint64_t now_ns) { heard_ns_ = now_ns; }
  bool expired(uint64_t now_ns) const;
  void note_error(const ErrorEntry& entry);
  void raise_event(EventKind kind);
  void notify_reservation(uint32_t nsid, NotificationType type);
  void on_namespace_changed(uint32_t nsid);
  bool take_event(uint32_t* event) { return events_.take(event); }

  std::vector<TargetQueue*> queues;  // by queue id; null where none is connected
  // I/O queues whose host has yet to prove itself: until then they take nobody's place.
  std::vector<TargetQueue*> strangers;
  uint16_t granted_queues = 0;  // I/O queues
  Counters counters;
  uint64_t connected_ns = 0;
  std::string local_address;  // ours, that the host reached, with the port

 private:
  ControllerInfo info() const;
  AdminReply identify_namespace(IdentifyCns cns, uint32_t nsid) const;
  AdminReply get_reservation_feature(FeatureId feature, uint32_t nsid) const;
  AdminReply set_reservation_mask(const Sqe& sqe);
  bool log_page(LogId id, uint8_t specific, LogData* data);
  void on_log_page_read(LogId id);
  void reset();

  TargetCore& core_;
  std::shared_ptr<Subsystem> subsystem_;  // null: the discovery subsystem
  HostIdentity host_;
  Place place_;
  const AnaPort& ana_;
  uint32_t cc_ = 0;
  uint32_t csts_ = 0;
  uint32_t keep_alive_ms_;
  uint64_t heard_ns_ = 0;
  uint32_t temperature_threshold_ = kTemperatureThreshold;
  ControllerEvents events_;
  ReservationLog reservation_log_;
  std::vector<uint32_t> changed_namespaces_;  // ascending; since the log page was last read
  std::vector<ErrorEntry> errors_;            // newest last
  uint64_t error_count_ = 0;
};

}  // namespace bb::io::nvme
