// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "sim/sector_store.h"

namespace bb::sim {

// Wiring that is wrong on purpose, so that a run must fail: who finds nothing then finds nothing
// ever.
enum class Canary : uint8_t {
  kNone,
  kLyingFlush,    // drives acknowledge a flush and do nothing
  kLostWrites,    // drives acknowledge some writes and drop them
  kForgetCommit,  // the authority forgets its newest commit when the dataplane crashes
  kSharedExport,  // an NBD export lets a new connection in while the one before still works
};

struct RunOptions {
  uint64_t seed = 1;
  bool above_budget = false;
  Canary canary = Canary::kNone;
  bool checked = false;           // arrays: with checksums, and drives that lie silently
  bool digests = true;            // sessions
  bool multipath = false;         // sessions: several paths to the drive
  std::FILE* trace_to = nullptr;  // every event, one a line
  SectorStore::Pool* pool = nullptr;
};

struct RunStats {
  uint64_t host_ops = 0;
  uint64_t host_errors = 0;
  uint64_t crashes = 0;
  uint64_t takeovers = 0;
  uint64_t power_losses = 0;
  uint64_t drive_faults = 0;
  uint64_t replacements = 0;
  uint64_t commits = 0;
  uint64_t fenced = 0;
  uint64_t sectors_checked = 0;
  uint64_t reconnects = 0;
  uint64_t digest_errors = 0;
  uint64_t moves = 0;  // commands that went again by another path
  uint64_t held = 0;   // times that a write was seen to wait for its fence
  uint64_t pairs = 0;  // of Compare and Write, that wrote
  uint64_t aborts = 0;
  uint64_t steps = 0;

  void add(const RunStats& other) {
    host_ops += other.host_ops;
    host_errors += other.host_errors;
    crashes += other.crashes;
    takeovers += other.takeovers;
    power_losses += other.power_losses;
    drive_faults += other.drive_faults;
    replacements += other.replacements;
    commits += other.commits;
    fenced += other.fenced;
    sectors_checked += other.sectors_checked;
    reconnects += other.reconnects;
    digest_errors += other.digest_errors;
    moves += other.moves;
    held += other.held;
    pairs += other.pairs;
    aborts += other.aborts;
    steps += other.steps;
  }
};

struct RunResult {
  std::string violation;  // empty: all was as it must be
  uint64_t trace_hash = 0;
  uint64_t events = 0;
  RunStats stats;
};

RunResult run_array(const RunOptions& options);
RunResult run_session(const RunOptions& options);
RunResult run_reserve(const RunOptions& options);
RunResult run_nbd(const RunOptions& options);
RunResult run_stripes(const RunOptions& options);

}  // namespace bb::sim
