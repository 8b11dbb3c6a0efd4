// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/discover.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "io/nvme/association.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kRecordsMax = 4096;
constexpr uint32_t kChunkBytes = 64 * 1024;
constexpr int kReadsMax = 8;
constexpr uint64_t kBackoffFirstNs = 100 * kNsPerMs;
constexpr uint64_t kBackoffMaxNs = 5 * kNsPerSecond;
constexpr uint64_t kEventPauseNs = 10 * kNsPerMs;

// The whole log of one service. A log that changes while it is read is read again (NVMe base 2.0,
// 5.16.1.23: the generation counter).
Task<Result<DiscoveryLog>> read_log(Association* association, uint64_t deadline_ns) {
  for (int tries = 0; tries < kReadsMax; ++tries) {
    auto header = co_await association->get_log_page(
        LogId::kDiscovery, 0, static_cast<uint32_t>(kDiscoveryEntryBytes), deadline_ns);
    if (!header.ok()) co_return header.status();
    BB_CO_ASSIGN(DiscoveryLog first, decode_discovery_log(*header));
    if (first.record_count > kRecordsMax) {
      co_return error(Code::k_not_supported, "{} discovery records, at most {} are read",
                      first.record_count, kRecordsMax);
    }
    uint64_t total = (first.record_count + 1) * kDiscoveryEntryBytes;
    std::vector<std::byte> all;
    while (all.size() < total) {
      auto length = static_cast<uint32_t>(std::min<uint64_t>(kChunkBytes, total - all.size()));
      auto part =
          co_await association->get_log_page(LogId::kDiscovery, all.size(), length, deadline_ns);
      if (!part.ok()) co_return part.status();
      all.insert(all.end(), part->begin(), part->end());
    }
    BB_CO_ASSIGN(DiscoveryLog log, decode_discovery_log(all));
    if (log.generation == first.generation) co_return log;
  }
  co_return error(Code::k_busy, "the discovery log changed {} times while it was read", kReadsMax);
}

Task<Result<DiscoveryLog>> ask(Context context, AssociationOptions options, uint64_t deadline_ns) {
  Association association(context, options, nullptr);
  Status status = co_await association.establish_admin(deadline_ns);
  Result<DiscoveryLog> log = DiscoveryLog();
  if (status.ok()) {
    log = co_await read_log(&association, deadline_ns);
  } else {
    log = status;
  }
  co_await association.close();
  co_return log;
}

}  // namespace

std::string address_of(const DiscoveryEntry& entry) {
  bool brackets = entry.address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", brackets ? "[" : "", entry.address, brackets ? "]" : "",
                     entry.port);
}

Task<Result<std::vector<DiscoveryEntry>>> discover(Context context, std::string address,
                                                   std::string host_nqn, Digests digests,
                                                   uint64_t timeout_ns) {
  AssociationOptions options{
      .address = address,
      .subsystem_nqn = std::string(kDiscoveryNqn),
      .host = {.host_nqn = host_nqn, .host_id = Uuid::random(context.loop.prng())},
      .digests = digests};
  auto log = co_await ask(context, options, context.loop.now_ns() + timeout_ns);
  if (!log.ok()) co_return log.status().with_context("discover " + address);
  co_return std::move(log->entries);
}

DiscoveryWatch::DiscoveryWatch(Context context, DiscoveryOptions options, Changed changed)
    : context_(context),
      options_(std::move(options)),
      changed_(std::move(changed)),
      wake_(context.loop),
      run_(context.loop) {
  association_options_ = {.subsystem_nqn = std::string(kDiscoveryNqn),
                          .host = options_.host,
                          .digests = options_.digests,
                          .keep_alive_ns = options_.keep_alive_ns,
                          .security = options_.security};
}

DiscoveryWatch::~DiscoveryWatch() {
  BB_CHECK(association_ == nullptr, "a discovery connection is destroyed without stop()");
}

Task<void> DiscoveryWatch::stop() {
  stopping_ = true;
  wake_.set();
  if (association_ != nullptr) {
    association_->break_off(error(Code::k_cancelled, "discovery: stopped"));
  }
  co_await run_.join();
}

void DiscoveryWatch::on_association_broken(Association& /*association*/) { wake_.set(); }

Task<void> DiscoveryWatch::run() {
  uint64_t backoff_ns = kBackoffFirstNs;
  for (size_t turn = 0; !stopping_; ++turn) {
    uint64_t since_ns = context_.loop.now_ns();
    Status ended = co_await session(options_.addresses[turn % options_.addresses.size()]);
    if (stopping_) break;
    if (ended.text() != why_.text()) {
      log_info("discovery: {} -> trying again", ended.text());
    }
    why_ = std::move(ended);
    if (context_.loop.now_ns() - since_ns > 2 * kBackoffMaxNs) backoff_ns = kBackoffFirstNs;
    co_await rest(backoff_ns);
    backoff_ns = std::min(2 * backoff_ns, kBackoffMaxNs);
  }
}

Task<void> DiscoveryWatch::rest(uint64_t backoff_ns) {
  uint64_t until_ns =
      context_.loop.now_ns() + backoff_ns / 2 + context_.loop.prng().below(backoff_ns);
  wake_.reset();
  while (!stopping_ && co_await wake_.wait_until(until_ns)) wake_.reset();
}

Task<void> DiscoveryWatch::keep_alive() {
  while (!association_->broken()) {
    uint64_t now_ns = context_.loop.now_ns();
    co_await wake_.wait_until(now_ns + options_.keep_alive_ns / 2);
    wake_.reset();
    if (association_->broken()) co_return;
    uint64_t deadline_ns = context_.loop.now_ns() + options_.keep_alive_ns;
    Status kept = co_await association_->keep_alive(deadline_ns);
    if (!kept.ok()) association_->break_off(kept.with_context("keep alive"));
  }
}

// From one connection to its end, which is what it gives back: never ok.
Task<Status> DiscoveryWatch::session(std::string address) {
  association_options_.address = address;
  Association::Owner* owner = this;
  association_ = std::make_unique<Association>(context_, association_options_, owner);
  uint64_t deadline_ns = context_.loop.now_ns() + options_.timeout_ns;
  Status status = co_await association_->establish_admin(deadline_ns);
  if (status.ok())
    status = co_await association_->enable_events(kEventConfigDiscovery, deadline_ns);
  if (status.ok()) status = co_await read();
  if (status.ok()) {
    why_ = Status();
    TaskGroup keeping(context_.loop);
    wake_.reset();
    keeping.spawn(keep_alive());
    while (status.ok()) {
      auto event = co_await association_->next_event();
      status = event.status();
      if (status.ok()) status = co_await read();
      if (status.ok()) co_await context_.loop.sleep_for(kEventPauseNs);
    }
    association_->break_off(status);
    co_await keeping.join();
  }
  co_await association_->close();
  association_.reset();
  co_return status.with_context("discovery at " + address);
}

Task<Status> DiscoveryWatch::read() {
  uint64_t deadline_ns = context_.loop.now_ns() + options_.timeout_ns;
  BB_CO_ASSIGN(DiscoveryLog log, co_await read_log(association_.get(), deadline_ns));
  std::vector<DiscoveryEntry> entries = std::move(log.entries);
  std::vector<std::string> asked = {association_options_.address};
  std::vector<DiscoveryEntry> referrals = std::move(log.referrals);
  for (size_t i = 0; i < referrals.size() && asked.size() < kServicesMax; ++i) {
    std::string other = address_of(referrals[i]);
    if (std::find(asked.begin(), asked.end(), other) != asked.end()) continue;
    asked.push_back(other);
    AssociationOptions options = association_options_;
    options.address = other;
    options.keep_alive_ns = 0;
    uint64_t until_ns = context_.loop.now_ns() + options_.timeout_ns;
    auto more = co_await ask(context_, std::move(options), until_ns);
    if (stopping_) co_return error(Code::k_cancelled, "stopped");
    if (!more.ok()) {
      log_info("discovery: the referral to {}: {} -> passed over", other, more.status().text());
      continue;
    }
    entries.insert(entries.end(), more->entries.begin(), more->entries.end());
    referrals.insert(referrals.end(), more->referrals.begin(), more->referrals.end());
  }
  if (told_ && entries == entries_) co_return Status();
  told_ = true;
  entries_ = std::move(entries);
  changed_(entries_);
  co_return Status();
}

}  // namespace bb::io::nvme
