// SPDX-License-Identifier: Apache-2.0
#include "backplane/drive.h"

#include <algorithm>

#include "backplane/probe.h"
#include "base/log.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"

namespace bb::backplane {
namespace {

// Some formats (md, GPT's copy, ZFS) keep what names them at the end of a drive.
constexpr uint64_t kTailBytes = 1 * MiB;

std::string uri_to_open(const DriveConfig& config) {
  if (config.create_bytes == 0) return config.uri;
  char joint = config.uri.find('?') == std::string::npos ? '?' : '&';
  return fmt::format("{}{}size={}&create=1", config.uri, joint, config.create_bytes);
}

std::string path_of(const std::string& uri) {
  Result<Uri> parsed = Uri::parse(uri);
  return parsed.ok() && parsed->scheme == "file" ? parsed->rest : "";
}

// Reads in transfers the device allows.
io::Task<Status> read_all(io::Device* device, uint64_t offset_bytes, Bytes into) {
  while (!into.empty()) {
    size_t length = std::min<size_t>(into.size(), device->info().transfer_max_bytes);
    BB_CO_TRY(co_await device->read(offset_bytes, into.first(length)));
    offset_bytes += length;
    into = into.subspan(length);
  }
  co_return Status();
}

}  // namespace

Drive::Drive(io::Context context, DriveConfig config, std::unique_ptr<io::Device> device)
    : context_(context),
      config_(std::move(config)),
      device_(std::move(device)),
      mutex_(context.loop) {}

io::Task<Result<std::unique_ptr<Drive>>> Drive::open(io::Context context, DriveConfig config) {
  std::string where = fmt::format("drive in slot \"{}\"", config.slot);
  auto device = co_await io::open_device(context, uri_to_open(config));
  if (!device.ok()) co_return device.status().with_context(where);
  std::unique_ptr<Drive> drive(new Drive(context, config, std::move(device).value()));
  Status status = co_await drive->read_label();
  if (!status.ok() && status.code() == Code::k_not_found) status = co_await drive->make_label();
  if (!status.ok()) {
    Status closed = co_await drive->close();
    if (!closed.ok()) log_warn("{}: close: {}", where, closed.to_string());
    co_return status.with_context(config.uri).with_context(where);
  }
  const DriveLabel& label = drive->label_;
  drive->data_ =
      std::make_unique<OffsetDevice>(context.loop, *drive->device_, label.data_offset_bytes,
                                     label.data_size_bytes, label.block_size_bytes);
  drive->reservations_ = std::make_unique<DriveReservations>(*drive->device_, label.drive);
  co_return drive;
}

io::Task<Status> Drive::read_label() {
  const io::DeviceInfo& info = device_->info();
  if (info.read_only)
    co_return error(Code::k_permission_denied, "read-only: a claim could not be recorded on it");
  if (info.size_bytes < kDriveSizeMinBytes)
    co_return error(Code::k_no_space, "{} bytes is too small for a drive (min {})", info.size_bytes,
                    kDriveSizeMinBytes);
  io::AlignedBuffer copies[2] = {io::AlignedBuffer(kLabelSizeBytes),
                                 io::AlignedBuffer(kLabelSizeBytes)};
  Status unreadable;
  for (int i = 0; i < 2; ++i) {
    // One unreadable copy is what the other one is for: it counts as damaged.
    Status status = co_await device_->read(kLabelOffsetsBytes[i], copies[i].bytes());
    if (status.ok()) continue;
    if (!unreadable.ok()) co_return status;
    unreadable = status;
    std::ranges::fill(copies[i].bytes(), std::byte{0xff});
  }
  auto choice = choose_label(copies[0].bytes(), copies[1].bytes());
  if (!choice.ok()) {
    // Half of it could not be read, so it may hold anything; it is not blank.
    if (!unreadable.ok()) co_return unreadable;
    co_return choice.status();
  }
  const DriveLabel& label = choice->label;
  if (label.data_offset_bytes + label.data_size_bytes > info.size_bytes)
    co_return error(Code::k_corrupt, "its label tells of {} bytes, and it has {}",
                    label.data_offset_bytes + label.data_size_bytes, info.size_bytes);
  if (label.block_size_bytes % info.block_size_bytes != 0)
    co_return error(Code::k_not_supported, "labelled with blocks of {} bytes, and it now has {}",
                    label.block_size_bytes, info.block_size_bytes);
  newer_ = choice->newer;
  label_ = std::move(choice->label);
  co_return Status();
}

io::Task<Status> Drive::check_blank() {
  std::string path = path_of(config_.uri);
  if (!path.empty() && context_.offload != nullptr) {
    BB_CO_ASSIGN(std::string found, co_await probe_contents(context_, path));
    if (!found.empty())
      co_return error(Code::k_bad_state, "in use: it holds {}; wipe it first", found);
  }
  uint64_t size = device_->info().size_bytes;
  io::AlignedBuffer buffer(kReservedBytes);
  for (uint64_t at : {uint64_t{0}, round_down(size - kTailBytes, kLabelSizeBytes)}) {
    Bytes area = buffer.bytes().first(std::min<uint64_t>(kReservedBytes, size - at));
    BB_CO_TRY(co_await read_all(device_.get(), at, area));
    auto used = std::ranges::find_if(area, [](std::byte b) { return b != std::byte{0}; });
    if (used != area.end())
      co_return error(Code::k_bad_state,
                      "in use: it holds unknown data at byte {}; wipe its first and last MiB first",
                      at + static_cast<uint64_t>(used - area.begin()));
  }
  co_return Status();
}

io::Task<Status> Drive::make_label() {
  BB_CO_TRY(co_await check_blank());
  const io::DeviceInfo& info = device_->info();
  DriveLabel fresh;
  fresh.drive = Uuid::random(context_.loop.prng());
  fresh.block_size_bytes = info.block_size_bytes;
  fresh.data_offset_bytes = kReservedBytes;
  fresh.data_size_bytes = round_down(info.size_bytes - kReservedBytes, 4096);
  fresh.serial = config_.serial.empty() ? fresh.drive.to_string().substr(24) : config_.serial;
  fresh.model = config_.model.empty() ? "Blockbridge drive" : config_.model;
  BB_CO_TRY(check_label(fresh));
  newer_ = 1;
  BB_CO_TRY(co_await write_label(fresh));
  log_info("{}: blank -> labelled as {}", config_.uri, drive_id(fresh.drive));
  co_return Status();
}

// Failed attempts may have left their generations in a copy: this one is newer than all of them.
io::Task<Status> Drive::write_label(DriveLabel next) {
  attempted_ = std::max(attempted_, label_.generation) + 1;
  next.generation = attempted_;
  io::AlignedBuffer bytes(kLabelSizeBytes);
  encode_label(next, bytes.bytes());
  for (int i = 0; i < 2; ++i) {
    int copy = 1 - newer_;
    Status status = co_await device_->write(kLabelOffsetsBytes[copy], bytes.bytes());
    if (status.ok()) status = co_await device_->flush();
    if (!status.ok()) {
      label_failed_ = true;
      co_return status.with_context(fmt::format("drive label, copy {}", copy == 0 ? 'A' : 'B'));
    }
    newer_ = copy;  // whole and durable: now the other one may be overwritten
  }
  label_ = std::move(next);
  label_failed_ = false;
  co_return Status();
}

io::Task<Status> Drive::write_claim(Claim claim) {
  DriveLabel next = label_;
  next.claim = std::move(claim);
  Status status = co_await write_label(std::move(next));
  if (status.ok()) co_return status;
  // One copy may have it, and would be believed at the next start: what was is written once more.
  Status undone = co_await write_label(label_);
  log_warn("{}: {} -> {}", id(), status.to_string(),
           undone.ok() ? "the claim stays as it was" : "which claim it holds is unknown");
  co_return status.with_context(id());
}

std::string_view Drive::state() const {
  if (device_->state() != io::DeviceState::kReady) return "absent";
  return label_failed_ || data_->counters().write_errors > 0 ? "failed" : "online";
}

io::Task<Status> Drive::close() {
  if (data_ != nullptr) {
    Status status = co_await data_->close();
    data_.reset();
    if (!status.ok()) log_warn("{}: {}", config_.uri, status.to_string());
  }
  co_return co_await device_->close();
}

}  // namespace bb::backplane
