// SPDX-License-Identifier: Apache-2.0
// The log pages of a controller.
#include "io/nvme/target_core.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kRetainEvent = 1u << 15;    // CDW10
constexpr uint32_t kOffsetIsIndex = 1u << 23;  // CDW14

const std::vector<LogId> kLogPages = {LogId::kSupportedPages,
                                      LogId::kError,
                                      LogId::kSmart,
                                      LogId::kFirmware,
                                      LogId::kChangedNamespaces,
                                      LogId::kCommandEffects,
                                      LogId::kAsymmetricAccess,
                                      LogId::kFeaturesSupported,
                                      LogId::kReservation};

const std::vector<AdminOpcode> kAdminCommands = {
    AdminOpcode::kGetLogPage,  AdminOpcode::kIdentify,    AdminOpcode::kAbort,
    AdminOpcode::kSetFeatures, AdminOpcode::kGetFeatures, AdminOpcode::kAsyncEventRequest,
    AdminOpcode::kKeepAlive};

std::vector<IoOpcode> io_commands(bool discard) {
  std::vector<IoOpcode> all = {IoOpcode::kFlush,
                               IoOpcode::kWrite,
                               IoOpcode::kRead,
                               IoOpcode::kCompare,
                               IoOpcode::kWriteZeroes,
                               IoOpcode::kVerify,
                               IoOpcode::kReservationRegister,
                               IoOpcode::kReservationReport,
                               IoOpcode::kReservationAcquire,
                               IoOpcode::kReservationRelease,
                               IoOpcode::kCopy};
  if (discard) all.push_back(IoOpcode::kDatasetManagement);
  return all;
}

}  // namespace

bool Controller::log_page(LogId id, uint8_t specific, LogData* data) {
  static const std::string discovery_firmware = "0.1";
  switch (id) {
    case LogId::kSupportedPages: {
      std::vector<LogId> pages = kLogPages;
      if (discovery()) pages = {LogId::kSupportedPages, LogId::kError, LogId::kDiscovery};
      *data = encode_supported_pages(pages);
      return true;
    }
    case LogId::kError: {
      std::vector<ErrorEntry> newest_first(errors_.rbegin(), errors_.rend());
      newest_first.resize(kErrorEntries);
      *data = encode_error_log(newest_first);
      return true;
    }
    case LogId::kDiscovery:
      if (!discovery()) return false;
      *data = core_.discovery_log(host_, place_.local_host);
      return true;
    case LogId::kSmart: {
      if (discovery()) return false;
      Counters total = subsystem_->counters();
      *data = encode_smart_log({.bytes_read = total.read_bytes,
                                .bytes_written = total.written_bytes,
                                .reads = total.reads,
                                .writes = total.writes,
                                .error_entries = error_count_});
      return true;
    }
    case LogId::kFirmware:
      *data = encode_firmware_log(discovery() ? discovery_firmware : subsystem_->config().firmware);
      return true;
    case LogId::kChangedNamespaces:
      if (discovery()) return false;
      *data = encode_changed_namespaces(changed_namespaces_);
      return true;
    case LogId::kCommandEffects:
      if (discovery()) return false;
      *data = encode_command_effects(kAdminCommands, io_commands(subsystem_->discards()));
      return true;
    case LogId::kAsymmetricAccess:
      if (discovery()) return false;
      *data = core_.ana_log(*this, (specific & 1) != 0);  // RGO
      return true;
    case LogId::kFeaturesSupported:
      *data = encode_features_supported(features());
      return true;
    case LogId::kReservation:  // each read takes the oldest page away
      if (discovery()) return false;
      *data = reservation_log_.take();
      return true;
  }
  return false;
}

// NVMe base 2.0, 5.16. With "retain asynchronous event" the event stays masked and the list of
// changed namespaces as it is.
AdminReply Controller::get_log_page(const Sqe& sqe) {
  auto id = static_cast<LogId>(sqe.cdw10 & 0xff);
  bool retain = (sqe.cdw10 & kRetainEvent) != 0;
  uint64_t length = (((sqe.cdw10 >> 16) | (uint64_t{sqe.cdw11 & 0xffff} << 16)) + 1) * 4;
  uint64_t offset = sqe.cdw12 | (uint64_t{sqe.cdw13} << 32);
  if (length != sqe.sgl.length_bytes) return refusal(NvmeStatus::kSglDataLengthInvalid);
  // A read of the middle would lose a page.
  if (id == LogId::kReservation && offset != 0) return refusal(NvmeStatus::kInvalidField);
  if ((sqe.cdw14 & kOffsetIsIndex) != 0) return refusal(NvmeStatus::kInvalidField);  // LPA bit 6
  if ((sqe.cdw14 >> 24) != 0) return refusal(NvmeStatus::kInvalidField);  // CSI: NVM has no pages
  LogData page;
  if (!log_page(id, (sqe.cdw10 >> 8) & 0x7f, &page)) return refusal(NvmeStatus::kInvalidLogPage);
  if (offset > page.size() || offset % 4 != 0) return refusal(NvmeStatus::kInvalidField);
  AdminReply reply;
  reply.data.assign(page.begin() + static_cast<ptrdiff_t>(offset), page.end());
  if (reply.data.size() > length) reply.data.resize(length);
  if (!retain) on_log_page_read(id);
  return reply;
}

void Controller::on_log_page_read(LogId id) {
  if (id == LogId::kAsymmetricAccess) events_.on_log_page_read(EventKind::kAnaChanged);
  if (id == LogId::kReservation) events_.on_log_page_read(EventKind::kReservation);
  if (id == LogId::kDiscovery) events_.on_log_page_read(EventKind::kDiscoveryChanged);
  if (id != LogId::kChangedNamespaces) return;
  changed_namespaces_.clear();
  events_.on_log_page_read(EventKind::kNamespaceChanged);
}

}  // namespace bb::io::nvme
