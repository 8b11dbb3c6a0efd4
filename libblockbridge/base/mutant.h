// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace bb {

// Planted faults, one for each safety rule. The simulator builds a second copy of the libraries
// with -DBB_MUTANTS=1, turns on one of them at a time, and must then find a violation: a checker
// that catches no mutant is not a checker. In every other build BB_MUTANT() is the constant false.
// BB_MUTANT_ROW(kEnumerator, "name", "what the mutant does")
#define BB_MUTANT_TABLE(ROW)                                                                       \
  ROW(kAckBeforeCommit, "ack-before-commit", "acknowledge a degraded write before the commit")     \
  ROW(kSkipBitmapWrite, "skip-bitmap-write", "never write the write-intent bitmap")                \
  ROW(kBitmapAfterData, "bitmap-after-data", "write the data first, its dirty bit later")          \
  ROW(kClearWithoutFlush, "clear-without-flush", "clear dirty bits without a flush before")        \
  ROW(kClearWhileDegraded, "clear-while-degraded", "clear dirty bits while a member is away")      \
  ROW(kWriteOneMirror, "write-one-mirror", "write to the first member only")                       \
  ROW(kReadStaleMember, "read-stale-member", "read from recovering members too")                   \
  ROW(kSkipRecoveryFlush, "skip-recovery-flush", "call a member in-sync without flushing it")      \
  ROW(kReadUnequalRegion, "read-unequal-region", "read a dirty region without equalising it")      \
  ROW(kIgnoreFenced, "ignore-fenced", "take a commit refused as FENCED for success")               \
  ROW(kNoRangeLock, "no-range-lock", "let overlapping writes run in any order")                    \
  ROW(kTrustSuperblock, "trust-superblock", "call in-sync who says so in its own superblock")      \
  ROW(kIgnoreIncarnation, "ignore-incarnation", "treat a reconnect as if nothing was lost")        \
  ROW(kRecoverWithoutCopy, "recover-without-copy", "skip the copy onto a recovering member")       \
  ROW(kFlushOneMirror, "flush-one-mirror", "flush the first member only")                          \
  ROW(kReserveAnyHost, "reserve-any-host", "let one registrant's rights count for every host")     \
  ROW(kReserveUnsaved, "reserve-unsaved", "complete reservation commands before their record")     \
  ROW(kPreemptNoWait, "preempt-no-wait", "complete a preempt while the preempted still write")     \
  ROW(kRetryUnfenced, "retry-unfenced", "send a write of unknown fate at once by another path")    \
  ROW(kTrustReconnect, "trust-reconnect", "believe of any target that reconnecting ends the past") \
  ROW(kForgetUnsettled, "forget-unsettled", "let I/O pass writes that failed and may yet happen")  \
  ROW(kFusedUnlocked, "fused-unlocked", "let a write fall into a Compare and Write")               \
  ROW(kAbortLate, "abort-late", "call a command aborted that the device has")                      \
  ROW(kTrustBlocks, "trust-blocks", "read blocks without comparing their checksums")               \
  ROW(kSumsOfNothing, "sums-of-nothing", "write blocks without recording their checksums")         \
  ROW(kCleanBeforeSums, "clean-before-sums", "call a region clean before its checksums are there") \
  ROW(kAgreeBlindly, "agree-blindly", "make copies equal from one of them unchecked")              \
  ROW(kSumsUnflushed, "sums-unflushed", "overwrite checksums whose newer copy may be lost")        \
  ROW(kModifyUnchecked, "modify-unchecked", "work parity out of blocks that were not compared")    \
  ROW(kRebuildUnchecked, "rebuild-unchecked", "rebuild members from blocks not compared")          \
  ROW(kTrustOld, "trust-old", "believe after a crash what is recorded of stripes")                 \
  ROW(kSolveBlindly, "solve-blindly", "make blocks of stripes anew from others that do not fit")   \
  ROW(kNoJournal, "no-journal", "write a part of a stripe in place without the journal")           \
  ROW(kInPlaceEarly, "in-place-early", "write in place before all members have the entry")         \
  ROW(kReplayAny, "replay-any", "do an entry again when any member has it")                        \
  ROW(kReplayNone, "replay-none", "do no entry again")                                             \
  ROW(kReplayBackwards, "replay-backwards", "do later entries first")                              \
  ROW(kReplayTorn, "replay-torn", "take torn bytes of an entry for whole")                         \
  ROW(kReplayUnflushed, "replay-unflushed", "believe what a drive may have in its cache only")     \
  ROW(kEndUnflushed, "end-unflushed", "end entries that are in place, without a flush")            \
  ROW(kFlushForgets, "flush-forgets", "end entries though a failed member was not flushed")        \
  ROW(kRowFreeAtOnce, "row-free-at-once", "use a row again before pages say who left it")          \
  ROW(kPageUnflushed, "page-unflushed", "write a map page before the stripes it speaks of")        \
  ROW(kPageForgets, "page-forgets", "let a map page not say which entries have ended")             \
  ROW(kPageUnsettled, "page-unsettled", "leave members with different map pages")                  \
  ROW(kParityOfOne, "parity-of-one", "change P only")                                              \
  ROW(kSettleLate, "settle-late", "go in place though a member lacks the entry")                   \
  ROW(kRebuildUnlocked, "rebuild-unlocked", "rebuild a stripe while it is written")                \
  ROW(kAckBeforePage, "ack-before-page", "acknowledge a stripe that only this process finds")      \
  ROW(kLeaveOut, "leave-out", "journal a write without a member whose loss is not committed")

enum class Mutant : uint8_t {
  kNone,
#define BB_MUTANT_ENUM_(enumerator, name, what) enumerator,
  BB_MUTANT_TABLE(BB_MUTANT_ENUM_)
#undef BB_MUTANT_ENUM_
};

struct MutantRow {
  Mutant mutant;
  std::string_view name;
  std::string_view what;
};

inline constexpr MutantRow kMutants[] = {
#define BB_MUTANT_ROW_(enumerator, name, what) {Mutant::enumerator, name, what},
    BB_MUTANT_TABLE(BB_MUTANT_ROW_)
#undef BB_MUTANT_ROW_
};

constexpr std::optional<Mutant> mutant_from_name(std::string_view name) {
  for (const MutantRow& row : kMutants) {
    if (row.name == name) return row.mutant;
  }
  return std::nullopt;
}

#if defined(BB_MUTANTS) && BB_MUTANTS
// The one that is on in this process; set between runs, never during one.
inline constinit Mutant active_mutant = Mutant::kNone;
#define BB_MUTANT(enumerator) (::bb::active_mutant == ::bb::Mutant::enumerator)
#else
#define BB_MUTANT(enumerator) false
#endif

}  // namespace bb
