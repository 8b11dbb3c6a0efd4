// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/retry_rule.h"

#include "base/mutant.h"

namespace bb::io::nvme {

Verdict judge(const Outcome& outcome, bool changes_data) {
  if (outcome.lost) {
    if (BB_MUTANT(kRetryUnfenced)) return Verdict::kElsewhere;
    return outcome.sent && changes_data ? Verdict::kHold : Verdict::kElsewhere;
  }
  NvmeStatus status = plain_status(outcome.status);
  if (outcome.digest_error || status == NvmeStatus::kTransientTransportError) {
    return Verdict::kAgain;
  }
  if (status == NvmeStatus::kSuccess) return Verdict::kDone;
  if (!may_retry(outcome.status)) return Verdict::kFail;
  // Path related (NVMe base 2.0, figure 98: status code type 3h), and what a controller answers
  // while it is being reset.
  bool of_path = path_related(status) || status == NvmeStatus::kAbortedQueueDeleted;
  return of_path ? Verdict::kElsewhere : Verdict::kFail;
}

}  // namespace bb::io::nvme
