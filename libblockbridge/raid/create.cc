// SPDX-License-Identifier: Apache-2.0
// A new array: bitmaps, superblocks, then the record. Until the record is there, it is no array.
#include <algorithm>

#include "raid/array_core.h"
#include "raid/bitmap_page.h"

namespace bb::raid {
namespace {

std::string label_of(const MemberDevice& member) {
  std::string label = member.label.empty() ? member.device->info().uri : member.label;
  if (label.size() > kLabelMaxBytes) label.resize(kLabelMaxBytes);
  return label;
}

std::vector<GeometryDevice> devices_of(const ArrayCreate& what) {
  std::vector<GeometryDevice> devices;
  devices.reserve(what.members.size());
  for (const MemberDevice& member : what.members) {
    devices.push_back({.name = label_of(member),
                       .size_bytes = member.device->info().size_bytes,
                       .block_size_bytes = member.device->info().block_size_bytes});
  }
  return devices;
}

Status check_request(const ArrayCreate& what) {
  if (what.name.empty() || what.name.size() > kNameMaxBytes) {
    return error(Code::k_invalid_argument, "a name of {} bytes is not 1 to {} long",
                 what.name.size(), kNameMaxBytes);
  }
  for (size_t i = 0; i < what.members.size(); ++i) {
    const io::Device* device = what.members[i].device;
    if (device == nullptr) return error(Code::k_invalid_argument, "member {} has no device", i);
    if (device->info().read_only) {
      return error(Code::k_permission_denied, "{} is read-only", label_of(what.members[i]));
    }
    for (size_t j = 0; j < i; ++j) {
      if (what.members[j].device == device) {
        return error(Code::k_already_exists, "{} is listed twice, as member {} and member {}",
                     label_of(what.members[i]), j, i);
      }
    }
  }
  return {};
}

Integrity integrity_of(std::optional<Integrity> wanted, const Shape& shape) {
  // Where nothing could be served from elsewhere, checksums are for who asks for them.
  return wanted.value_or(shape.redundant() ? Integrity::kCrc32c : Integrity::kNone);
}

Result<Geometry> plan(const ArrayCreate& what) {
  BB_ASSIGN(Shape shape, make_shape(what.level, static_cast<uint32_t>(what.members.size()),
                                    what.copies, what.chunk_bytes));
  if (what.chunk_bytes != 0 && shape.chunk_bytes == 0) {
    return error(Code::k_invalid_argument,
                 "RAID {} has no chunks: every member holds everything (chunk size {})",
                 shape.level->name, what.chunk_bytes);
  }
  return plan_geometry(shape, devices_of(what), what.region_size_bytes,
                       integrity_of(what.integrity, shape));
}

io::Task<Status> check_unused(const ArrayCreate* what) {
  for (const MemberDevice& member : what->members) {
    Result<Superblock> found = co_await read_superblock(member.device);
    if (found.ok()) {
      if (what->force) continue;
      co_return error(Code::k_already_exists, "{} is member {} of array \"{}\" ({})",
                      label_of(member), found->slot, found->name, found->array.to_string());
    }
    // A damaged superblock is no array any more; one of a later version may well be.
    if (found.code() == Code::k_not_found || found.code() == Code::k_corrupt) continue;
    if (found.code() == Code::k_not_supported && what->force) continue;
    co_return found.status().with_context(label_of(member));
  }
  co_return Status();
}

MembershipRecord make_record(const ArrayCreate& what, const Geometry& geometry, Prng& prng) {
  MembershipRecord record;
  record.array = what.uuid.is_nil() ? Uuid::random(prng) : what.uuid;
  record.name = what.name;
  record.epoch = what.options.epoch;
  record.level = geometry.shape.level->id;
  record.slots = geometry.shape.members;
  record.copies = geometry.shape.copies;
  record.chunk_bytes = geometry.shape.chunk_bytes;
  record.size_bytes = geometry.size_bytes();
  record.member_bytes = geometry.member_bytes;
  record.data_offset_bytes = geometry.data_offset_bytes;
  record.block_size_bytes = what.members[0].device->info().block_size_bytes;
  record.region_size_bytes = geometry.region_size_bytes;
  record.integrity = geometry.integrity;
  record.reason = "created";
  for (const MemberDevice& member : what.members) {
    record.members.push_back({.uuid = Uuid::random(prng),
                              .slot = static_cast<uint32_t>(record.members.size()),
                              .label = label_of(member)});
  }
  return record;
}

// `written` counts the members that may carry a superblock of ours by now.
io::Task<Status> write_members(const ArrayCreate* what, const MembershipRecord* record,
                               Geometry geometry, uint64_t created_wall_ns, size_t* written) {
  bool parity = geometry.shape.level->parity > 0;
  for (const MemberDevice& member : what->members) {
    bool unequal = !what->assume_clean && !parity;
    Status status = co_await write_blank_bitmap(member.device, record->array, geometry, unequal);
    // Parity of zeroes is zeroes: then all stripes are right from the start.
    uint64_t data = geometry.data_offset_bytes;
    uint64_t extent = geometry.data_extent_bytes();
    if (status.ok() && parity) status = co_await zero_range(member.device, data, data + extent);
    if (status.ok()) status = co_await write_blank_checksums(member.device, geometry);
    if (!status.ok()) co_return status.with_context(label_of(member));
  }
  for (size_t i = 0; i < what->members.size(); ++i) {
    *written = i + 1;
    Superblock block = superblock_from_record(*record, record->members[i], created_wall_ns);
    Status status = co_await write_superblock(what->members[i].device, block);
    if (!status.ok()) co_return status.with_context(label_of(what->members[i]));
  }
  // Two names for one drive show themselves here.
  for (size_t i = 0; i < what->members.size(); ++i) {
    Result<Superblock> back = co_await read_superblock(what->members[i].device);
    if (!back.ok()) co_return back.status().with_context(label_of(what->members[i]));
    if (back->member != record->members[i].uuid) {
      co_return error(Code::k_already_exists, "{} is the same drive as {}",
                      label_of(what->members[i]),
                      back->slot < what->members.size() ? label_of(what->members[back->slot])
                                                        : "another member");
    }
  }
  co_return Status();
}

// ok, or an error; `unknown` when the record may exist all the same.
io::Task<Status> create_record(MembershipAuthority* authority, const MembershipRecord* record,
                               bool* unknown) {
  Status created = co_await authority->create(*record);
  if (created.ok()) co_return created;
  bool refused = created.code() == Code::k_already_exists || created.code() == Code::k_fenced ||
                 created.code() == Code::k_invalid_argument ||
                 created.code() == Code::k_permission_denied;
  Result<MembershipRecord> loaded = co_await authority->load(record->array);
  if (loaded.ok() && *loaded == *record) co_return Status();
  *unknown = !refused;
  co_return created;
}

}  // namespace

io::Task<void> close_members(std::vector<MemberDevice> devices) {
  for (MemberDevice& member : devices) {
    if (member.owned == nullptr) continue;
    Status closed = co_await member.owned->close();
    if (!closed.ok()) log_debug("{}: {}", member.label, closed.to_string());
  }
}

io::Task<Status> zero_range(io::Device* device, uint64_t at_bytes, uint64_t end_bytes) {
  constexpr uint64_t kPieceBytes = 64 * MiB;
  while (at_bytes < end_bytes) {
    uint64_t length = std::min(end_bytes - at_bytes, kPieceBytes);
    BB_CO_TRY(co_await device->write_zeroes(at_bytes, length));
    at_bytes += length;
  }
  co_return co_await device->flush();
}

io::Task<Status> write_blank_checksums(io::Device* device, Geometry geometry) {
  if (!geometry.checked()) co_return Status();
  co_return co_await zero_range(device, geometry.checksum_offset_bytes(0),
                                geometry.checksum_offset_bytes(geometry.checksum_pages()));
}

io::Task<Status> write_blank_bitmap(io::Device* device, Uuid array, Geometry geometry, bool dirty) {
  RegionSet regions(geometry.regions());
  if (dirty) regions.set_all();
  io::AlignedBuffer buffer(kBitmapPageBytes);
  for (uint32_t page = 0; page < geometry.pages(); ++page) {
    encode_bitmap_page({.array = array, .page = page, .generation = 1}, regions, buffer.bytes());
    Status status =
        co_await device->write(kBitmapOffsetBytes + page * kBitmapPageBytes, buffer.bytes());
    if (!status.ok()) co_return status.with_context(fmt::format("bitmap page {}", page));
  }
  co_return co_await device->flush();
}

io::Task<Result<std::unique_ptr<Array>>> Array::create(io::Context context, ArrayCreate what,
                                                       MembershipAuthority* authority) {
  size_t written = 0;
  bool unknown = false;
  uint64_t created_wall_ns = context.loop.wall_ns();
  Geometry geometry;
  MembershipRecord record;
  Status status = check_request(what);
  if (status.ok()) {
    Result<Geometry> planned = plan(what);
    status = planned.status();
    if (planned.ok()) geometry = *planned;
  }
  if (status.ok()) status = co_await check_unused(&what);
  if (status.ok()) {
    record = make_record(what, geometry, context.loop.prng());
    status = validate_record(record);
  }
  if (status.ok()) {
    status = co_await write_members(&what, &record, geometry, created_wall_ns, &written);
  }
  if (status.ok()) status = co_await create_record(authority, &record, &unknown);
  if (!status.ok()) {
    // If the record may exist, what belongs to it stays; else nothing of ours does.
    for (size_t i = 0; i < written && !unknown; ++i) {
      Status wiped = co_await wipe_superblock(what.members[i].device);
      if (!wiped.ok()) log_warn("{}: {}", label_of(what.members[i]), wiped.to_string());
    }
    co_await close_members(std::move(what.members));
    co_return status.with_context(fmt::format("create array \"{}\"", what.name));
  }
  auto core = std::make_unique<ArrayCore>(context, what.options, authority, record);
  core->created_wall_ns_ = created_wall_ns;
  for (size_t i = 0; i < what.members.size(); ++i) {
    Member& member = core->add_member(record.members[i].uuid);
    core->attach(member, std::move(what.members[i]));
    member.superblock_generation = 1;
    core->activate(member, RegionSet(geometry.regions()));
  }
  core->adopt(record);
  if (!what.assume_clean && core->tracked_ && !core->stripes_) {
    core->intent_.mark_all();
    core->unequal_.set_all();
    core->intent_.request_all();
    core->count_resync_total();
  }
  auto array = std::unique_ptr<Array>(new Array(std::move(core)));
  array->core_->start_background();
  // The array exists: if its stripes cannot be opened now, that goes on in the background.
  Status opened = co_await array->core_->open_stripes();
  if (!opened.ok()) {
    log_warn("array \"{}\": {}", record.name, opened.to_string());
    array->core_->background_.spawn(array->core_->stripes_->reopen_loop());
  }
  co_return array;
}

}  // namespace bb::raid
