// SPDX-License-Identifier: Apache-2.0
#include "backplane/managed_array.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "io/device_uri.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kTickNs = 500 * kNsPerMs;
constexpr uint64_t kAssembleWaitNs = 5 * kNsPerSecond;  // for drives that are late, after a start
constexpr uint64_t kAttachRetryNs = 1 * kNsPerSecond;
constexpr uint64_t kReadyForNs = 1 * kNsPerSecond;  // a drive that flaps is not taken back

}  // namespace

ManagedArray::ManagedArray(ArrayServices services, ArrayBook::Entry entry, OnOnline on_online)
    : services_(std::move(services)),
      entry_(std::move(entry)),
      on_online_(std::move(on_online)),
      stopping_(services_.context.loop),
      tasks_(services_.context.loop) {
  for (const ArrayDrive& drive : entry_.record.drives) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->drive = drive;
  }
}

ManagedArray::~ManagedArray() {
  BB_CHECK(stopped_ || (array_ == nullptr && tasks_.running() == 0),
           "array \"{}\" was destroyed while in use: co_await stop()", entry_.record.name);
}

ClaimRequest ManagedArray::claim_request() const {
  return {.owner = services_.us.owner,
          .owner_name = services_.us.name,
          .host_nqn = services_.us.nqn(),
          .epoch = entry_.record.epoch,
          .array = entry_.record.uuid,
          .array_name = entry_.record.name};
}

ManagedArray::Slot* ManagedArray::find_slot(const Uuid& drive) {
  for (auto& slot : slots_)
    if (slot->drive.uuid == drive) return slot.get();
  return nullptr;
}

ManagedArray::Slot* ManagedArray::slot_of_member(const raid::ArrayMemberInfo& member) const {
  for (const auto& slot : slots_)
    if (member.label.ends_with(drive_id(slot->drive.uuid))) return slot.get();
  return nullptr;
}

// Claim, then connect under the claim's epoch: the disk node lets nobody else in.
io::Task<Status> ManagedArray::attach_now(Slot* slot) {
  const Uuid drive = slot->drive.uuid;
  BackplaneClient* backplane = services_.backplanes->locate(drive);
  if (backplane == nullptr)
    co_return error(Code::k_unavailable, "no backplane shows the drive (last seen on \"{}\")",
                    slot->drive.backplane);
  BB_CO_TRY(co_await backplane->claim(drive, claim_request()));
  if (backplane->report().nvme.empty())
    co_return error(Code::k_unavailable, "backplane \"{}\" names no NVMe/TCP address",
                    backplane->config().name);
  std::string uri =
      drive_uri(backplane->report().nvme.front(), drive, services_.us, entry_.record.epoch);
  auto device = co_await io::open_device(services_.context, uri);
  if (!device.ok()) co_return device.status();
  slot->device = std::move(device).value();
  slot->ready_since_ns = services_.context.loop.now_ns();
  co_return Status();
}

io::Task<void> ManagedArray::attach(Slot* slot, Status* result) {
  slot->attaching = true;
  *result = co_await attach_now(slot);
  slot->attaching = false;
  slot->trouble = result->text();
  slot->retry_ns = services_.context.loop.now_ns() + kAttachRetryNs;
}

io::Task<void> ManagedArray::attach_in_background(Slot* slot) {
  std::string before = slot->trouble;
  Status result;
  co_await attach(slot, &result);
  if (!result.ok() && result.text() != before)
    log_warn("array \"{}\": drive {}: {} -> tried again", entry_.record.name, slot->drive.label(),
             result.to_string());
}

void ManagedArray::resume() {
  started_ns_ = services_.context.loop.now_ns();
  tasks_.spawn(run());
}

io::Task<void> ManagedArray::run() {
  while (!stopping_.is_set()) {
    Status status;
    if (!owns_epoch_) status = co_await raise_epoch();
    if (owns_epoch_ && !stopping_.is_set()) {
      attach_missing();
      if (array_ == nullptr) {
        status = co_await try_assemble();
      } else {
        co_await take_back_members();
        co_await tend_scrub();
      }
    }
    if (!status.ok() && trouble_ != status.text())
      log_warn("array \"{}\": {} -> tried again", entry_.record.name, status.to_string());
    trouble_ = status.text();
    co_await stopping_.wait_until(services_.context.loop.now_ns() + kTickNs);
  }
}

// Whoever ran the array before us, perhaps still, is refused from the first claim on.
io::Task<Status> ManagedArray::raise_epoch() {
  ArrayRecord next = entry_.record;
  ++next.epoch;
  BB_CO_TRY(co_await services_.book->save(&entry_, std::move(next)));
  owns_epoch_ = true;
  co_return Status();
}

void ManagedArray::attach_missing() {
  uint64_t now_ns = services_.context.loop.now_ns();
  for (auto& slot : slots_) {
    if (slot->device != nullptr || slot->attaching || now_ns < slot->retry_ns) continue;
    BackplaneClient* backplane = services_.backplanes->locate(slot->drive.uuid);
    if (backplane == nullptr || !backplane->online()) {
      slot->trouble = fmt::format("disk node \"{}\" is offline", slot->drive.backplane);
      continue;
    }
    slot->attaching = true;
    tasks_.spawn(attach_in_background(slot.get()));
  }
}

io::Task<Status> ManagedArray::try_assemble() {
  bool all = std::ranges::all_of(slots_, [](const auto& slot) { return slot->device != nullptr; });
  bool waited = services_.context.loop.now_ns() - started_ns_ >= kAssembleWaitNs;
  if (!all && !waited) co_return Status();
  raid::ArrayAssemble what{.uuid = entry_.record.uuid};
  what.options.epoch = entry_.record.epoch;
  what.options.slow_fail_ns = services_.slow_fail_ns;
  what.options.scrub_bytes_per_second = services_.scrub_bytes_per_second;
  for (auto& slot : slots_) {
    if (slot->device == nullptr) continue;
    if (slot->device->state() != io::DeviceState::kReady) continue;
    what.devices.push_back(raid::MemberDevice::borrow(*slot->device, slot->drive.label()));
  }
  if (what.devices.empty()) co_return error(Code::k_unavailable, "none of its drives is reachable");
  auto array =
      co_await raid::Array::assemble(services_.context, std::move(what), services_.authority);
  if (!array.ok()) co_return array.status();
  array_ = std::move(array).value();
  came_online();
  co_return Status();
}

void ManagedArray::came_online() {
  log_info("array \"{}\": epoch {}, {} -> serving", entry_.record.name, entry_.record.epoch,
           array_->describe().state);
  Status status = on_online_(*this);
  if (!status.ok()) log_error("array \"{}\": {}", entry_.record.name, status.to_string());
}

bool ManagedArray::may_return(Slot* slot, const raid::ArrayMemberInfo& member) {
  uint64_t now_ns = services_.context.loop.now_ns();
  if (slot->device == nullptr || slot->device->state() != io::DeviceState::kReady) {
    slot->ready_since_ns = 0;
    return false;
  }
  if (slot->ready_since_ns == 0) slot->ready_since_ns = now_ns;
  return member.state == raid::MemberState::kFailed && !slot->drive.held_out && !member.suspect &&
         now_ns - slot->ready_since_ns >= kReadyForNs;
}

io::Task<void> ManagedArray::take_back_members() {
  raid::ArrayInfo info = array_->describe();
  for (size_t i = 0; i < info.members.size(); ++i) {
    Slot* slot = slot_of_member(info.members[i]);
    if (slot == nullptr || !may_return(slot, info.members[i])) continue;
    Status status = co_await array_->readmit_member(
        info.members[i].uuid, raid::MemberDevice::borrow(*slot->device, slot->drive.label()));
    if (status.ok()) {
      log_info("array \"{}\": {} is back -> recovering", entry_.record.name, slot->drive.label());
    } else {
      log_warn("array \"{}\": readmit {}: {} -> tried again", entry_.record.name,
               slot->drive.label(), status.to_string());
    }
    slot->ready_since_ns = 0;  // not at once again, whatever came of it
  }
}

io::Task<void> ManagedArray::stop() {
  stopping_.set();
  // What runs goes on after the next start.
  if (array_ != nullptr && scrubbing_) (void)co_await array_->stop_scrub(raid::ScrubStop::kSuspend);
  co_await tasks_.join();
  if (array_ != nullptr) {
    Status status = co_await array_->close();
    if (!status.ok()) log_warn("array \"{}\": close: {}", entry_.record.name, status.to_string());
    array_.reset();
  }
  for (auto& slot : slots_) {
    if (slot->device == nullptr) continue;
    Status status = co_await slot->device->close();
    if (!status.ok()) log_debug("{}: close: {}", slot->drive.label(), status.to_string());
    slot->device.reset();
  }
  stopped_ = true;
}

io::Task<Status> ManagedArray::set_held_out(Slot* slot, bool held_out) {
  if (slot->drive.held_out == held_out) co_return Status();
  ArrayRecord next = entry_.record;
  for (ArrayDrive& drive : next.drives)
    if (drive.uuid == slot->drive.uuid) drive.held_out = held_out;
  BB_CO_TRY(co_await services_.book->save(&entry_, std::move(next)));
  slot->drive.held_out = held_out;
  co_return Status();
}

Result<raid::ArrayMemberInfo> ManagedArray::find_member(std::string_view drive) const {
  if (array_ == nullptr)
    return error(Code::k_bad_state, "array \"{}\" is not running: {}", entry_.record.name,
                 trouble_.empty() ? "starting" : trouble_);
  std::string known;
  for (raid::ArrayMemberInfo& member : array_->describe().members) {
    Slot* slot = slot_of_member(member);
    if (slot == nullptr) continue;
    if (drive == member.uuid.to_string() || drive == slot->drive.place ||
        drive == drive_id(slot->drive.uuid))
      return member;
    known += (known.empty() ? "" : ", ") + slot->drive.place;
  }
  return error(Code::k_not_found, "array \"{}\" has no member \"{}\"; there are {}",
               entry_.record.name, drive.substr(0, 64), known);
}

io::Task<Status> ManagedArray::fail(std::string drive) {
  BB_CO_ASSIGN(raid::ArrayMemberInfo member, find_member(drive));
  Slot* slot = slot_of_member(member);
  // Held out first, or the watcher would take it back before we have noted that it must not. When
  // the array refuses (its last member), the note goes again.
  bool before = slot->drive.held_out;
  BB_CO_TRY(co_await set_held_out(slot, true));
  Status status = co_await array_->fail_member(member.uuid, "failed by an operator");
  if (!status.ok() && !before) {
    Status undone = co_await set_held_out(slot, false);
    if (!undone.ok()) log_warn("array \"{}\": {}", entry_.record.name, undone.to_string());
  }
  co_return status;
}

io::Task<Status> ManagedArray::readmit(std::string drive) {
  BB_CO_ASSIGN(raid::ArrayMemberInfo member, find_member(drive));
  Slot* slot = slot_of_member(member);
  if (slot->device == nullptr || slot->device->state() != io::DeviceState::kReady)
    co_return error(Code::k_unavailable, "array \"{}\": drive {}: {}", entry_.record.name,
                    slot->drive.place,
                    slot->trouble.empty() ? "its disk node does not answer" : slot->trouble);
  BB_CO_TRY(co_await array_->readmit_member(
      member.uuid, raid::MemberDevice::borrow(*slot->device, slot->drive.label())));
  co_return co_await set_held_out(slot, false);
}

}  // namespace bb::backplane
