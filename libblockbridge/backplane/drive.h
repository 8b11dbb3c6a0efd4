// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "backplane/claim_rules.h"
#include "backplane/config.h"
#include "backplane/drive_label.h"
#include "backplane/drive_reservations.h"
#include "backplane/offset_device.h"
#include "io/context.h"
#include "io/device.h"
#include "io/sync.h"

namespace bb::backplane {

// One drive of a disk node: the device, its label, and the part of it that its owner sees.
class Drive {
 public:
  // Opens and locks the device. A blank one is labelled; one with our label is taken as it is; any
  // other is refused with what is on it (BAD_STATE), and nothing is written. NO_SPACE: too small.
  static io::Task<Result<std::unique_ptr<Drive>>> open(io::Context context, DriveConfig config);

  const DriveLabel& label() const { return label_; }
  const DriveConfig& config() const { return config_; }
  OffsetDevice& data() { return *data_; }
  DriveReservations& reservations() { return *reservations_; }
  const io::Device& device() const { return *device_; }  // all of it, for its statistics
  std::string id() const { return drive_id(label_.drive); }
  // "online", or "failed" after an error that casts doubt on what is written.
  std::string_view state() const;

  // Durable in both copies when it returns ok. One at a time (see mutex()); on failure the claim
  // of before stays in force and is written again; if that fails too, the drive is `failed` and
  // which of the two it holds is unknown until a retry.
  io::Task<Status> write_claim(Claim claim);
  io::Mutex& mutex() { return mutex_; }

  io::Task<Status> close();

 private:
  Drive(io::Context context, DriveConfig config, std::unique_ptr<io::Device> device);
  io::Task<Status> read_label();
  io::Task<Status> make_label();
  io::Task<Status> check_blank();
  io::Task<Status> write_label(DriveLabel next);

  io::Context context_;
  DriveConfig config_;
  std::unique_ptr<io::Device> device_;
  DriveLabel label_;
  int newer_ = 0;           // the copy that counts; the other is written first
  uint64_t attempted_ = 0;  // the highest generation that a copy may hold
  bool label_failed_ = false;
  std::unique_ptr<OffsetDevice> data_;
  std::unique_ptr<DriveReservations> reservations_;
  io::Mutex mutex_;
};

}  // namespace bb::backplane
