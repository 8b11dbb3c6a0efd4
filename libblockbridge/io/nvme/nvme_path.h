// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "io/nvme/association.h"
#include "io/nvme/nvme_options.h"
#include "io/nvme/nvme_request.h"
#include "io/nvme/path_policy.h"
#include "io/sync.h"

namespace bb::io::nvme {

// One way to a namespace: an association with the controller at one address. It connects, keeps
// the association alive, follows the controller's events, and when it is lost connects anew, with
// back-off and jitter, for as long as it lives.
class NvmePath final : private Association::Owner {
 public:
  struct Owner {
    // The association stands and describes itself. An error refuses the path, until it tries again.
    virtual Task<Status> on_path_connected(NvmePath* path) = 0;
    virtual void on_path_live(NvmePath& path) = 0;      // commands may go
    virtual void on_path_lost(NvmePath& path) = 0;      // no more; those in flight come back soon
    virtual void on_path_failed(NvmePath& path) = 0;    // could not be connected, or was refused
    virtual void on_path_answered(NvmePath& path) = 0;  // a keep alive
    virtual void on_path_changed(NvmePath& path) = 0;   // its ANA state
    virtual Status on_namespace_changed(NvmePath& path) = 0;

   protected:
    ~Owner() = default;
  };
  enum class State : uint8_t { kConnecting, kLive, kWaiting, kClosed };

  NvmePath(Context context, const NvmeOptions& options, std::string address, size_t index,
           Owner& owner);

  void start() { run_.spawn(run()); }
  void tell_to_stop();  // and what it does at present ends soon
  Task<void> stop();

  size_t index() const { return index_; }
  const std::string& address() const { return options_.address; }
  State state() const { return state_; }
  bool live() const { return state_ == State::kLive; }
  bool usable() const { return live() && ana_usable(ana_); }
  bool in_transition() const { return live() && ana_ == AnaState::kChange; }
  AnaState ana() const { return ana_; }
  uint64_t ana_transition_ns() const;
  // Counts the associations; those below are lost. Since when the last one is.
  uint64_t number() const { return number_; }
  uint64_t cut_ns() const { return cut_ns_; }
  // Those below can have no effect any more: the target of the present one says so.
  uint64_t settled_below() const;
  // Of the present or last association.
  bool fences_reconnect() const { return fences_reconnect_; }
  uint64_t fence_after_ns() const { return fence_after_ns_; }
  const ControllerInfo& controller() const { return association_->controller(); }
  const NamespaceInfo& name_space() const { return association_->name_space(); }
  const Status& why() const { return why_; }
  // Found by the owner on connecting: no other association goes on, unflushed writes may be lost.
  bool begins_anew() const { return begins_anew_; }
  void set_begins_anew(bool anew) { begins_anew_ = anew; }
  uint64_t connects() const { return connects_; }
  uint64_t failures() const { return failures_; }
  uint64_t last_answer_ns() const { return last_answer_ns_; }
  PathLoad& load() { return load_; }
  const PathLoad& load() const { return load_; }

  // Takes a command, there being room. It comes back through its `done`.
  void issue(NvmeRequest& request, uint64_t now_ns);
  void ended(const NvmeRequest& request, bool answered);
  // A command of another kind, there being room; when no answer comes in time the path is broken.
  Task<Status> run(SyncCommand* command, uint64_t deadline_ns);
  // Asks the controller to give the command back; breaks the path off if that does not work.
  void abort(const NvmeRequest& request);
  void break_off(Status why);
  void prove_alive();  // asks the controller something, now
  void set_ana(AnaState state);
  void look_again();  // at the ANA state

 private:
  void on_association_broken(Association& association) override;
  Task<void> run();
  Task<Status> connect();
  Task<void> stay();
  Task<void> rest(uint64_t backoff_ns);
  Task<void> follow_events();
  Task<Status> take_event(uint32_t event);
  size_t take_queue();
  Task<void> run_on_queue(SyncCommand* command, uint64_t deadline_ns, Status* status, Event* ended);
  Task<void> abort_command(uint16_t queue_id, uint16_t command_id);
  uint64_t answer_by_ns() const;
  void note_limits();

  Context context_;
  AssociationOptions options_;
  uint64_t connect_timeout_ns_;
  uint64_t fence_given_ns_;
  size_t index_;
  Owner& owner_;
  State state_ = State::kConnecting;
  AnaState ana_ = AnaState::kOptimized;
  std::unique_ptr<Association> association_;
  std::unique_ptr<TaskGroup> tasks_;  // of the association
  std::vector<uint32_t> queue_in_flight_;
  size_t next_queue_ = 0;
  PathLoad load_;
  uint64_t number_ = 0;
  uint64_t cut_ns_ = 0;
  uint64_t fence_after_ns_ = UINT64_MAX;
  uint64_t transition_since_ns_ = 0;
  uint64_t live_since_ns_ = 0;
  uint64_t last_answer_ns_ = 0;  // when what was last answered had been asked
  uint64_t answers_ = 0;
  uint64_t connects_ = 0;
  uint64_t failures_ = 0;
  bool aborting_ = false;
  bool ping_ = false;
  bool look_ = false;
  bool fences_reconnect_ = false;
  bool begins_anew_ = false;
  bool stopping_ = false;
  Status why_;
  Event wake_;
  TaskGroup run_;
};

std::string_view path_state_name(const NvmePath& path);

}  // namespace bb::io::nvme
