// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "io/nvme/reservation_record.h"
#include "io/nvme/reservation_store.h"

namespace bb::io::nvme {

// A namespace's record in a file of its own, `<namespace uuid>.reservation` in a folder that
// exists: written beside it, made durable, and renamed over it, so that there is always one whole
// record.
class ReservationFile final : public ReservationStore {
 public:
  // `context` has an Offload: files block.
  ReservationFile(Context context, const std::string& folder, const Uuid& nspace);

  Task<Result<ReservationState>> load() override;
  Task<Status> save(ReservationState state) override;
  const std::string& path() const { return path_; }

 private:
  Status read();
  Status write(const ReservationRecord& record) const;

  Context context_;
  std::string folder_;
  std::string path_;
  ReservationRecord record_;  // as the file has it
};

}  // namespace bb::io::nvme
