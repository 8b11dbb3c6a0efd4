// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "backplane/managed_array.h"
#include "base/log.h"

namespace bb::backplane {
namespace {

// Another owner may take a drive between our look and our claim; then the next match is tried.
constexpr int kClaimRoundsMax = 8;

}  // namespace

io::Task<Status> ManagedArray::create(ArrayCreateRequest request) {
  owns_epoch_ = true;  // the record is new: nobody ran it before
  BB_CO_TRY(co_await claim_drives(&request));
  BB_CO_TRY(co_await open_members());
  raid::ArrayCreate what{.name = request.name,
                         .uuid = entry_.record.uuid,
                         .level = request.shape.level->id,
                         .copies = request.shape.copies,
                         .chunk_bytes = request.shape.chunk_bytes,
                         .assume_clean = request.assume_clean,
                         .integrity = request.integrity,
                         // Who owns a drive is told by its claim, and these are ours now: what a
                         // former array left on them no longer counts.
                         .force = true,
                         .region_size_bytes = request.region_bytes};
  what.options.epoch = entry_.record.epoch;
  what.options.slow_fail_ns = services_.slow_fail_ns;
  what.options.scrub_bytes_per_second = services_.scrub_bytes_per_second;
  for (auto& slot : slots_)
    what.members.push_back(raid::MemberDevice::borrow(*slot->device, slot->drive.label()));
  auto array =
      co_await raid::Array::create(services_.context, std::move(what), services_.authority);
  if (!array.ok()) co_return array.status();
  array_ = std::move(array).value();
  ArrayRecord ready = entry_.record;
  ready.phase = ArrayPhase::kReady;
  BB_CO_TRY(co_await services_.book->save(&entry_, std::move(ready)));
  came_online();
  resume();
  co_return Status();
}

io::Task<Status> ManagedArray::claim_drives(const ArrayCreateRequest* request) {
  std::map<Uuid, std::string> lost;  // drives that somebody else got, or that failed us
  for (int round = 0; round < kClaimRoundsMax; ++round) {
    co_await services_.backplanes->refresh_all();
    BackplaneSet::Inventory inventory = services_.backplanes->inventory(services_.us);
    for (DriveRecord& drive : inventory.records)
      if (auto it = lost.find(drive.uuid); it != lost.end()) drive.refusal = it->second;
    Choice choice;
    Status chosen =
        choose_drives(request->query, inventory.records,
                      {.count = request->shape.members, .spread = request->spread}, &choice);
    if (!chosen.ok() && !lost.empty())  // the cause, not only the count
      co_return error(chosen.code(), "{}; {}", chosen.text(), lost.begin()->second);
    BB_CO_TRY(chosen);
    size_t failed = 0;
    Status status = co_await claim_choice(&inventory, &choice, &failed);
    if (status.ok()) co_return status;
    if (status.code() == Code::k_fenced) co_return status;
    lost[inventory.records[failed].uuid] = "claim refused: " + status.text();
    log_info("array \"{}\": {} -> next match", request->name, status.to_string());
    co_await release_drives();
  }
  co_return error(Code::k_busy, "array \"{}\": others took the matching drives {} times",
                  request->name, kClaimRoundsMax);
}

// Which drives will be claimed is written down first, so that after a crash they can be given back.
io::Task<Status> ManagedArray::claim_choice(const BackplaneSet::Inventory* inventory,
                                            const Choice* choice, size_t* failed) {
  ArrayRecord next = entry_.record;
  next.drives.clear();
  slots_.clear();
  for (size_t index : choice->chosen) {
    const DriveRecord& drive = inventory->records[index];
    ArrayDrive one{.uuid = drive.uuid,
                   .backplane = inventory->found[index].backplane->config().name,
                   .place = fmt::format("{}/{}", drive.disk_node, drive.slot)};
    next.drives.push_back(one);
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->drive = std::move(one);
  }
  *failed = choice->chosen.front();
  BB_CO_TRY(co_await services_.book->save(&entry_, std::move(next)));
  for (size_t i = 0; i < choice->chosen.size(); ++i) {
    *failed = choice->chosen[i];
    BackplaneClient* backplane = inventory->found[*failed].backplane;
    BB_CO_TRY(co_await backplane->claim(inventory->records[*failed].uuid, claim_request()));
  }
  co_return Status();
}

io::Task<Status> ManagedArray::open_members() {
  std::vector<Status> results(slots_.size());
  io::TaskGroup group(services_.context.loop);
  for (size_t i = 0; i < slots_.size(); ++i) group.spawn(attach(slots_[i].get(), &results[i]));
  co_await group.join();
  for (size_t i = 0; i < slots_.size(); ++i)
    if (!results[i].ok())
      co_return results[i].with_context(fmt::format("drive {}", slots_[i]->drive.label()));
  co_return Status();
}

io::Task<void> ManagedArray::release_drives() {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Uuid drive = slots_[i]->drive.uuid;
    BackplaneClient* backplane = services_.backplanes->locate(drive);
    if (backplane == nullptr) continue;
    Status status = detail::as_status(co_await backplane->release(
        drive,
        {.owner = services_.us.owner, .array = entry_.record.uuid, .epoch = entry_.record.epoch}));
    if (!status.ok() && status.code() != Code::k_permission_denied)
      log_warn("array \"{}\": release {}: {}", entry_.record.name, slots_[i]->drive.label(),
               status.to_string());
  }
}

io::Task<Status> ManagedArray::discard() {
  ArrayRecord next = entry_.record;
  next.phase = ArrayPhase::kRemoving;
  Status saved = co_await services_.book->save(&entry_, std::move(next));
  co_await release_drives();
  co_return saved;
}

}  // namespace bb::backplane
