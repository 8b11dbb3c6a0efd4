// SPDX-License-Identifier: Apache-2.0
#include "backplane/dataplane.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "io/rpc/stats_methods.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kSweepNs = 1 * kNsPerSecond;

std::string disk_nqn(const Uuid& array) {
  return "nqn.2026-11.io.blockbridge:disk:" + array.to_string();
}

}  // namespace

Dataplane::Dataplane(io::Context context, DataplaneConfig config)
    : context_(context),
      config_(std::move(config)),
      backplanes_(context, config_.backplanes),
      nbd_(context),
      server_(context),
      stopping_(context.loop),
      tasks_(context.loop) {}

Dataplane::~Dataplane() {
  BB_CHECK(arrays_.empty() && tasks_.running() == 0,
           "a Dataplane was destroyed while running: co_await stop()");
}

io::Task<Result<std::unique_ptr<Dataplane>>> Dataplane::start(io::Context context,
                                                              DataplaneConfig config) {
  std::unique_ptr<Dataplane> self(new Dataplane(context, std::move(config)));
  // Ports first: a second dataplane on the same machine must not get as far as raising epochs.
  Status status = self->listen();
  if (status.ok()) status = co_await self->open_store();
  if (status.ok()) {
    self->backplanes_.start();
    status = co_await self->load_arrays();
  }
  if (status.ok()) {
    self->add_methods();
    io::rpc::add_stats_methods(
        self->server_, context.loop,
        io::collect_here([daemon = self.get()](auto* into) { daemon->collect(into); }));
    status = self->server_.listen({self->config_.control});
  }
  if (!status.ok()) {
    std::string where = fmt::format("dataplane \"{}\"", self->config_.name);
    co_await self->stop();
    co_return status.with_context(where);
  }
  self->tasks_.spawn(self->sweep());
  co_return self;
}

Status Dataplane::listen() {
  if (!config_.nvme_listen.empty()) {
    io::nvme::TargetOptions options;
    for (const std::string& address : config_.nvme_listen) options.listen.push_back({address});
    options.expects = [this](const std::string& nqn) { return may_export(nqn); };
    BB_ASSIGN(target_, io::nvme::Target::create(context_, std::move(options)));
  }
  for (const std::string& address : config_.nbd_listen) {
    BB_ASSIGN(std::string at, nbd_.start({address}));
    nbd_addresses_.push_back(std::move(at));
  }
  return ok_status();
}

io::Task<Status> Dataplane::open_store() {
  BB_CO_ASSIGN(store_, co_await cluster::open_store(context_, config_.store));
  book_ = std::make_unique<ArrayBook>(*store_);
  authority_ = std::make_unique<cluster::MembershipStore>(context_.loop, *store_);
  OwnerIdentity us{.name = config_.name, .host = config_.host};
  BB_CO_ASSIGN(us.owner, co_await book_->identity("owner", &context_.loop.prng()));
  if (us.host.is_nil()) {
    BB_CO_ASSIGN(us.host, co_await book_->identity("host/" + config_.name, &context_.loop.prng()));
  }
  us_ = std::move(us);
  co_return Status();
}

io::Task<Status> Dataplane::load_arrays() {
  BB_CO_ASSIGN(std::vector<ArrayBook::Entry> entries, co_await book_->load());
  for (ArrayBook::Entry& entry : entries) {
    if (entry.record.phase != ArrayPhase::kReady) {
      removing_.push_back(std::move(entry));  // we stopped in the middle of making or removing it
      continue;
    }
    std::string name = entry.record.name;
    if (arrays_.contains(name))
      co_return error(Code::k_corrupt, "two records of an array \"{}\"", name);
    arrays_[name] = make_array(std::move(entry));
    arrays_[name]->resume();
  }
  loaded_ = true;
  co_return Status();
}

io::Task<void> Dataplane::stop() {
  stopping_.set();
  co_await server_.stop();  // calls in progress end first
  co_await tasks_.join();
  // Hosts are cut off before their arrays go.
  co_await nbd_.stop();
  if (target_ != nullptr) co_await target_->stop();
  for (auto& [name, array] : arrays_) co_await array->stop();
  arrays_.clear();
  co_await backplanes_.stop();
  authority_.reset();
  book_.reset();
  if (store_ != nullptr) co_await store_->close();
  store_.reset();
}

std::vector<std::string> Dataplane::nvme_addresses() const {
  return target_ != nullptr ? target_->addresses() : std::vector<std::string>();
}

void Dataplane::collect(io::StatsReport* into) const {
  for (const auto& [name, array] : arrays_) array->collect(into);
  if (target_ != nullptr) target_->collect(into);
  nbd_.collect(into);
}

std::unique_ptr<ManagedArray> Dataplane::make_array(ArrayBook::Entry entry) {
  ArrayServices services{.context = context_,
                         .backplanes = &backplanes_,
                         .book = book_.get(),
                         .authority = authority_.get(),
                         .us = us_,
                         .slow_fail_ns = config_.slow_fail_ns,
                         .scrub = config_.scrub,
                         .scrub_bytes_per_second = config_.scrub_bytes_per_second};
  return std::make_unique<ManagedArray>(
      std::move(services), std::move(entry),
      [this](ManagedArray& array) { return export_array(array); });
}

Status Dataplane::export_array(ManagedArray& array) {
  const ArrayRecord& record = array.record();
  if (target_ != nullptr)
    BB_TRY(target_->add_subsystem({.nqn = disk_nqn(record.uuid),
                                   .device = array.array(),
                                   .uuid = record.uuid,
                                   .serial = record.uuid.to_string().substr(24),
                                   .model = "Blockbridge array"}));
  if (nbd_addresses_.empty()) return ok_status();
  return nbd_.add_export(record.name, *array.array(), {.description = "array " + record.name});
}

// Hosts come back at once after a restart, and arrays wait for their disk nodes.
bool Dataplane::may_export(const std::string& nqn) const {
  return !loaded_ || std::ranges::any_of(arrays_, [&nqn](const auto& each) {
    return disk_nqn(each.second->record().uuid) == nqn;
  });
}

io::Task<void> Dataplane::withdraw_exports(ManagedArray* array) {
  if (array->array() == nullptr) co_return;
  Status status;
  if (!nbd_addresses_.empty()) status = co_await nbd_.remove_export(array->record().name);
  if (!status.ok()) log_debug("{}", status.to_string());
  if (target_ == nullptr) co_return;
  status = co_await target_->remove_subsystem(disk_nqn(array->record().uuid));
  if (!status.ok()) log_debug("{}", status.to_string());
}

io::Task<Status> Dataplane::create_array(ArrayCreateRequest request) {
  ArrayRecord record{.uuid = Uuid::random(context_.loop.prng()),
                     .name = request.name,
                     .shape = request.shape,
                     .query = request.query.to_string(),
                     .spread = request.spread};
  co_await backplanes_.wait_tried(context_.loop.now_ns() + 5 * kNsPerSecond);
  // Looked at before anything is written, so that a query nothing can satisfy leaves no trace.
  co_await backplanes_.refresh_all();
  Choice choice;
  BB_CO_TRY(choose_drives(request.query, backplanes_.inventory(us_).records,
                          {.count = request.shape.members, .spread = request.spread}, &choice));
  BB_CO_ASSIGN(ArrayBook::Entry entry, co_await book_->add(std::move(record)));
  std::unique_ptr<ManagedArray> array = make_array(std::move(entry));
  std::string name = request.name;
  Status status = co_await array->create(std::move(request));
  if (status.ok()) {
    arrays_[name] = std::move(array);
    co_return status;
  }
  co_await withdraw_exports(array.get());
  co_await array->stop();
  Status undone = co_await array->discard();
  if (!undone.ok()) log_warn("array \"{}\": {}", name, undone.to_string());
  ArrayBook::Entry left = array->entry();
  if (!co_await sweep_record(&left)) removing_.push_back(std::move(left));
  co_return status;
}

io::Task<Status> Dataplane::stop_array(ManagedArray* array) {
  co_await withdraw_exports(array);
  co_await array->stop();
  co_return Status();
}

// Gives claims of arrays that are no more back, as their disk nodes come online.
io::Task<void> Dataplane::sweep() {
  while (!co_await stopping_.wait_until(context_.loop.now_ns() + kSweepNs)) {
    std::vector<ArrayBook::Entry> work = std::move(removing_);
    removing_.clear();
    for (size_t i = 0; i < work.size(); ++i)
      if (stopping_.is_set() || !co_await sweep_record(&work[i])) removing_.push_back(work[i]);
  }
}

// Frees the name; an array that was never made has no membership.
io::Task<Status> Dataplane::forget_membership(Uuid array) {
  auto record = co_await authority_->load(array);
  if (!record.ok() && record.code() == Code::k_not_found) co_return Status();
  if (!record.ok()) co_return record.status();
  co_return co_await authority_->remove(array, record->version);
}

// True once no disk node can hold a claim of the array any more, and its record is gone.
io::Task<bool> Dataplane::sweep_record(ArrayBook::Entry* entry) {
  const Uuid array = entry->record.uuid;
  Status forgotten = co_await forget_membership(array);
  if (!forgotten.ok()) {
    log_warn("array \"{}\": {} -> tried again", entry->record.name, forgotten.to_string());
    co_return false;
  }
  for (size_t i = 0; i < entry->record.drives.size(); ++i) {
    const Uuid drive = entry->record.drives[i].uuid;
    BackplaneClient* backplane = backplanes_.locate(drive);
    if (backplane == nullptr || !backplane->online()) co_return false;
    auto released = co_await backplane->release(
        drive, {.owner = us_.owner, .array = array, .epoch = entry->record.epoch});
    // PERMISSION_DENIED: it is somebody else's by now, or another array's.
    if (!released.ok() && released.code() != Code::k_permission_denied) co_return false;
  }
  Status status = co_await book_->erase(entry);
  if (!status.ok()) log_warn("{}", status.to_string());
  co_return status.ok() || status.code() == Code::k_fenced;
}

}  // namespace bb::backplane
