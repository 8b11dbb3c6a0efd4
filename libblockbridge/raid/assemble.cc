// SPDX-License-Identifier: Apache-2.0
// An existing array: the record decides, the drives only show who they are.
#include <algorithm>

#include "raid/array_core.h"
#include "raid/bitmap_page.h"

namespace bb::raid {
namespace {

struct Found {
  MemberDevice device;
  std::string label;
  Superblock superblock;
};

struct Survey {
  std::vector<Found> found;
  std::vector<MemberDevice> refused;
  std::vector<std::string> left_out;

  void refuse(MemberDevice device, const std::string& label, std::string why) {
    left_out.push_back(fmt::format("{}: {}", label, why));
    refused.push_back(std::move(device));
  }
};

io::Task<void> read_devices(std::vector<MemberDevice>* devices, Uuid* array, Survey* survey) {
  for (MemberDevice& device : *devices) {
    std::string label = device.label.empty() ? device.device->info().uri : device.label;
    Result<Superblock> superblock = co_await read_superblock(device.device);
    if (!superblock.ok()) {
      survey->refuse(std::move(device), label, superblock.status().to_string());
      continue;
    }
    if (array->is_nil()) *array = superblock->array;
    if (superblock->array != *array) {
      survey->refuse(std::move(device), label,
                     fmt::format("member of another array, \"{}\" ({})", superblock->name,
                                 superblock->array.to_string()));
      continue;
    }
    survey->found.push_back(
        {.device = std::move(device), .label = label, .superblock = std::move(superblock).value()});
  }
  devices->clear();
}

// Why a device is not what its superblock says; nothing when it is.
std::optional<std::string> refusal(const MembershipRecord& record, const Found& found) {
  const Superblock& block = found.superblock;
  const MemberRecord* member = record.find(block.member);
  if (member == nullptr) {
    return fmt::format("rejected: member {} is not in version {} of the record",
                       block.member.to_string(), record.version);
  }
  if (block.shape != record.shape() || block.slot != member->slot) {
    return fmt::format("rejected: it is slot {} of a RAID {}, and the record says slot {} of a {}",
                       block.slot, shape_text(block.shape), member->slot,
                       shape_text(record.shape()));
  }
  if (block.member_bytes != record.member_bytes ||
      block.region_size_bytes != record.region_size_bytes || block.integrity != record.integrity ||
      block.data_offset_bytes != record.data_offset_bytes ||
      found.device.device->info().block_size_bytes != record.block_size_bytes ||
      data_room_bytes(found.device.device->info().size_bytes) < record.geometry().extent_bytes()) {
    return fmt::format("rejected: its layout ({} bytes at {}) is not the record's ({} at {})",
                       block.member_bytes, block.data_offset_bytes, record.member_bytes,
                       record.data_offset_bytes);
  }
  if (BB_MUTANT(kTrustSuperblock)) return std::nullopt;
  if (member->state == MemberState::kRemoved) {
    return fmt::format("rejected: removed in version {}", member->generation);
  }
  // A superblock is written before the commit that it accompanies: an older one is an old copy.
  if (member->state == MemberState::kInSync && block.version < member->generation) {
    return fmt::format("rejected: stale generation {} < {}", block.version, member->generation);
  }
  return std::nullopt;
}

Status check_duplicates(const Survey& survey) {
  for (size_t i = 0; i < survey.found.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (survey.found[i].superblock.member != survey.found[j].superblock.member) continue;
      return error(Code::k_already_exists, "{} and {} both say they are member {}",
                   survey.found[j].label, survey.found[i].label,
                   survey.found[i].superblock.member.to_string());
    }
  }
  return {};
}

// Adds the dirty bits of one member; what cannot be read is dirty.
io::Task<void> add_bitmap(io::Device* device, Uuid array, uint32_t pages, RegionSet* dirty) {
  io::AlignedBuffer page(kBitmapPageBytes);
  for (uint32_t i = 0; i < pages; ++i) {
    Status status = co_await device->read(kBitmapOffsetBytes + i * kBitmapPageBytes, page.bytes());
    if (status.ok()) status = decode_bitmap_page(array, i, page.bytes(), *dirty).status();
    if (status.ok()) continue;
    log_warn("{}: {} -> all regions of the page are dirty", device->info().uri, status.to_string());
    mark_page_dirty(i, *dirty);
  }
}

Status check_record(const MembershipRecord& record, uint64_t epoch) {
  BB_TRY(validate_record(record));
  if (record.epoch > epoch) {
    return error(Code::k_fenced, "epoch {} of this owner is older than {}", epoch, record.epoch);
  }
  Geometry geometry = record.geometry();
  if (geometry.pages() > kBitmapPagesMax) {
    return error(Code::k_corrupt, "a bitmap of {} pages (max {})", geometry.pages(),
                 kBitmapPagesMax);
  }
  return {};
}

// Gives the devices to members of a core that knows the record.
Status place_devices(ArrayCore* core, Survey* survey) {
  for (Found& found : survey->found) {
    std::optional<std::string> why = refusal(core->record_, found);
    if (why) {
      survey->refuse(std::move(found.device), found.label, *why);
      continue;
    }
    Member* member = core->find_member(found.superblock.member);
    core->attach(*member, std::move(found.device));
    member->superblock_generation = found.superblock.generation;
    member->journal_life = found.superblock.journal_life;
    member->journal_number = found.superblock.journal_number;
    core->created_wall_ns_ = found.superblock.created_wall_ns;
    MemberState state = member->state;
    if (BB_MUTANT(kTrustSuperblock)) {
      for (const Superblock::Seen& seen : found.superblock.members) {
        if (seen.uuid == member->uuid) state = seen.state;
      }
      member->state = state;
      core->record_.find(member->uuid)->state = state;
    }
    if (state == MemberState::kInSync || state == MemberState::kRecovering) {
      core->activate(*member, RegionSet(core->geometry_.regions()));
    } else {
      member->detail = fmt::format("stale: {} since version {}", member_state_name(member->state),
                                   member->generation);
      survey->left_out.push_back(fmt::format("{}: {}", found.label, member->detail));
    }
  }
  survey->found.clear();
  if (core->holds_all()) return {};
  std::string who;
  uint32_t absent = 0;
  for (const MemberRecord& member : core->record_.members) {
    if (member.state != MemberState::kInSync) continue;
    if (core->find_member(member.uuid)->readable()) continue;
    ++absent;
    who += fmt::format("{}{}", who.empty() ? "" : ", ", member.label);
  }
  uint32_t in_sync = core->record_.count(MemberState::kInSync);
  if (absent == in_sync) {
    return error(Code::k_unavailable,
                 "recover: none of the {} in-sync members of version {} is present ({})", in_sync,
                 core->record_.version, who);
  }
  return error(
      Code::k_unavailable,
      "recover: {} of the {} in-sync members of version {} are absent ({}), and the others "
      "of this RAID {} do not hold everything",
      absent, in_sync, core->record_.version, who, core->geometry_.shape.level->name);
}

// Claims the array for this epoch and commits who is missing, before anything is served.
io::Task<Status> claim(ArrayCore* core) {
  bool absent = false;
  for (const auto& member : core->members_) {
    absent |= member->required() && !member->writable();
  }
  if (BB_MUTANT(kTrustSuperblock)) co_return Status();
  if (!absent && core->record_.epoch == core->options_.epoch) co_return Status();
  co_return co_await core->change(
      [core](MembershipRecord& next) {
        next.reason = fmt::format("assembled under epoch {}", next.epoch);
        for (const auto& member : core->members_) {
          if (!member->required() || member->writable()) continue;
          set_member_state(next, member->uuid, MemberState::kFailed);
          next.reason += fmt::format("; {} was absent", core->name_of(*member));
        }
        return Status();
      },
      core->loop_.now_ns() + core->options_.commit_wait_ns);
}

// What the bitmaps of the in-sync members say; rule 6 follows from it.
io::Task<Status> load_bitmaps(ArrayCore* core) {
  auto pages = static_cast<uint32_t>(core->geometry_.pages());
  RegionSet dirty(core->geometry_.regions());
  uint64_t in_sync = 0;
  if (!core->tracked_) co_return Status();
  for (size_t i = 0; i < core->members_.size(); ++i) {
    Member* member = core->members_[i].get();
    if (!member->readable()) continue;
    in_sync |= member->slot_bit();
    co_await add_bitmap(member->device, core->record_.array, pages, &dirty);
  }
  core->intent_.mark(dirty);
  bool may_differ = core->geometry_.shape.shared_within(in_sync) || core->checked();
  // With parity the journal makes stripes whole again.
  if (may_differ && !core->stripes_) core->unequal_ = dirty;
  for (const auto& member : core->members_) {
    if (member->active && member->state == MemberState::kRecovering) member->behind = dirty;
  }
  core->intent_.request_all();
  core->count_resync_total();
  co_return Status();
}

}  // namespace

// With parity: what the journal has is done again, before anything is served.
io::Task<Status> ArrayCore::open_stripes() {
  if (!stripes_) co_return Status();
  Uuid life;
  uint64_t number = 0;
  for (const auto& member : members_) {
    if (!member->readable() || member->journal_number < number) continue;
    life = member->journal_life;
    number = member->journal_number;
  }
  Status status = co_await stripes_->open(life, number);
  if (status.ok()) background_.spawn(stripes_->reopen_loop());
  co_return status;
}

io::Task<Result<std::unique_ptr<Array>>> Array::assemble(io::Context context, ArrayAssemble what,
                                                         MembershipAuthority* authority) {
  Survey survey;
  Uuid uuid = what.uuid;
  co_await read_devices(&what.devices, &uuid, &survey);
  std::unique_ptr<ArrayCore> core;
  Status status = check_duplicates(survey);
  if (status.ok() && uuid.is_nil()) {
    status = error(Code::k_not_found, "none of the {} devices carries a superblock",
                   survey.left_out.size());
  }
  if (status.ok()) {
    Result<MembershipRecord> record = co_await authority->load(uuid);
    status = record.ok() ? check_record(*record, what.options.epoch) : record.status();
    if (status.ok()) {
      core = std::make_unique<ArrayCore>(context, what.options, authority, *record);
      core->adopt(*record);
      status = place_devices(core.get(), &survey);
    }
  }
  if (status.ok()) status = co_await claim(core.get());
  if (status.ok()) status = co_await load_bitmaps(core.get());
  for (Found& found : survey.found) survey.refused.push_back(std::move(found.device));
  co_await close_members(std::move(survey.refused));
  if (!status.ok()) {
    if (core != nullptr) {
      core->closing_ = true;
      for (auto& member : core->members_) {
        if (member->watcher.watching) member->device->unwatch(member->watcher);
        member->watcher.watching = false;
        if (member->owned == nullptr) continue;
        Status closed = co_await member->owned->close();
        if (!closed.ok()) log_debug("{}: {}", member->label, closed.to_string());
      }
    }
    std::string left_out;
    for (const std::string& why : survey.left_out) left_out += "; left out: " + why;
    co_return error(status.code(), "assemble array {}: {}{}", uuid.to_string(), status.text(),
                    left_out);
  }
  core->left_out_ = std::move(survey.left_out);
  core->options_ = what.options;
  auto array = std::unique_ptr<Array>(new Array(std::move(core)));
  array->core_->start_background();
  Status opened = co_await array->core_->open_stripes();
  if (opened.ok()) co_return array;
  (void)co_await array->close();
  co_return opened.with_context(fmt::format("assemble array {}: recover", uuid.to_string()));
}

}  // namespace bb::raid
