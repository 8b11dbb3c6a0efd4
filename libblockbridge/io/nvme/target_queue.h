// SPDX-License-Identifier: Apache-2.0
// pure: one connection of a target: bytes in, I/O and bytes out
#pragma once

#include <sys/uio.h>

#include <optional>
#include <string>
#include <vector>

#include "io/nvme/pdu_reader.h"
#include "io/nvme/target_core.h"
#include "io/nvme/target_slot.h"
#include "io/queue_meter.h"

namespace bb::io::nvme {

// What a queue needs of its surroundings: memory, and to be looked at when something happened that
// none of its own calls caused.
class QueueHost {
 public:
  virtual std::byte* take_buffer(uint32_t capacity_bytes) = 0;
  virtual void give_buffer(std::byte* buffer, uint32_t capacity_bytes) = 0;
  // Can what is read of the namespace be sent from its device's memory, by a send that does not
  // wait for the peer? Then the end of each such loan is told.
  virtual bool lends(const Namespace&) const { return false; }
  virtual void give_back(uint16_t) {}
  virtual void wake() = 0;
  // Computes it, then calls on_computed(); until then the queue is not destroyed.
  virtual void compute(DhExchange& exchange) = 0;

 protected:
  ~QueueHost() = default;
};

// The state machine of one NVMe/TCP connection: initialisation, Connect, then an admin or an I/O
// queue. Call in: on_bytes, on_io_done, on_sent. Then look: next_io, outgoing, closing.
//   - next_io names a slot whose io() the driver starts; it answers with on_io_done, always.
//   - outgoing gives what to send next (one send at a time); it answers with on_sent. A send that
//     does not wait may take a part of it: rest_after then gives what a second one is to send.
//   - once closing(), nothing is submitted any more; the driver waits for io_in_flight() == 0.
class TargetQueue {
 public:
  TargetQueue(TargetCore& core, QueueHost& host);
  ~TargetQueue();
  TargetQueue(const TargetQueue&) = delete;
  TargetQueue& operator=(const TargetQueue&) = delete;

  void on_bytes(ConstBytes bytes, uint64_t now_ns);
  // Where the data awaited next belongs, if it is one long piece: receiving there, and handing
  // those very bytes to on_bytes(), saves the copy. Empty otherwise. It stays valid until then, and
  // when the queue closes until its end.
  Bytes direct_target() const;
  // Long pieces are on their way: of what follows one, little should come with it.
  bool expects_long_data() const { return long_data_; }
  // What the host said, from the first byte on, to a queue that it left for this one: home(). It
  // has had its ICResp.
  void resume(ConstBytes received, uint64_t now_ns);
  // Before on_io_done: what was to be read lies there, and stays so until QueueHost::give_back.
  void lend(uint16_t slot, ConstBytes data);
  void on_io_done(uint16_t slot, Code code);
  std::vector<iovec>* rest_after(size_t sent_bytes);  // null: nothing is left
  void on_sent();
  void on_computed();
  void close(const char* why);  // the stream ended, or the driver wants to stop

  std::optional<uint16_t> next_io();
  bool has_lent() const { return lent_bytes_ > 0; }
  bool has_ready_io() const { return !io_ready_.empty(); }
  const TargetIo& io(uint16_t slot) const { return slots_[slot].io; }
  const Namespace& name_space(uint16_t slot) const { return *slots_[slot].name_space; }
  uint32_t io_in_flight() const { return io_in_flight_; }
  std::vector<iovec>* outgoing();  // null: nothing to send now

  bool closing() const { return closing_; }
  bool sending() const { return sending_; }
  bool terminating() const { return terminating_; }
  bool term_sent() const {
    return term_state_ == Control::kDone;
  }  // give the host a moment to read it
  const std::string& close_reason() const { return close_reason_; }
  // Not 0: the subsystem that the host named in Connect lives there, and nothing more is done here.
  uint32_t home() const { return home_; }
  bool answered() const { return answered_; }  // a command, the first one
  bool connected() const { return controller_ != nullptr; }
  // Also: the host has proved itself, or need not.
  bool authenticated() const { return authenticated_; }
  Controller* controller() const { return controller_; }
  uint16_t queue_id() const { return queue_id_; }
  Digests digests() const { return out_format_.digests; }
  // The address the host dialled, for the discovery log.
  void set_local_host(std::string host) { local_host_ = std::move(host); }
  const std::string& local_host() const { return local_host_; }
  // The same with the port: which of our paths this is.
  void set_local_address(std::string address) { local_address_ = std::move(address); }
  const std::string& local_address() const { return local_address_; }
  // Who the TLS handshake says the host is.
  void set_tls_identity(PskIdentity identity) { tls_identity_ = std::move(identity); }
  const std::optional<PskIdentity>& tls_identity() const { return tls_identity_; }
  // Which of the target's ports it came by, from 1 on.
  void set_port(uint16_t port);
  uint16_t port() const { return port_; }
  // May somebody wait for this I/O's end: for its namespace to be gone, or a group not accessible?
  bool is_awaited(uint16_t slot) const {
    const Namespace& of = *slots_[slot].name_space;
    return of.removed || of.awaited > 0 || !ana_->all_usable();
  }
  bool is_with_device(uint16_t slot, const Namespace& of) const {
    const TargetSlot& io = slots_[slot];
    return (io.state == State::kDevice || io.lent) && io.name_space == &of;
  }
  // Is anything of the group with the device?
  bool works_on(uint32_t ana_group) const;
  // For measuring, besides on_bytes(): from here on it is `now_ns`, when what the device answered
  // since was there. The driver says so before and after it submits, and before on_sent().
  void pass_time(uint64_t now_ns) {
    now_ns_ = now_ns;
    meter_.stamp(now_ns);
  }
  const IoStats& stats() const { return meter_.stats(); }
  uint64_t digest_errors() const { return reader_.digest_errors(); }
  uint64_t commands() const { return slots_.size() - free_.size(); }
  uint32_t slots() const { return static_cast<uint32_t>(slots_.size()); }  // grows with Connect

  // A Connect that had to wait may be tried again: the driver does so when woken.
  void retry_connect(uint64_t now_ns);
  void retry_connect_soon();

  // Ends a command that nothing was done for. False: there is none, or it is with the device.
  bool abort(uint16_t command_id);
  // From the reservation of a namespace. Its commands' entries and data, and their answer; what
  // waits for the device is looked at again; all commands of the namespace end, and: are some that
  // ended (of any namespace: null) with the device yet?
  const Sqe& sqe(uint16_t slot) const { return slots_[slot].sqe; }
  ConstBytes received(uint16_t slot) const {
    return {slots_[slot].data, slots_[slot].length_bytes};
  }
  void reservation_done(uint16_t slot, NvmeStatus status);
  void recheck();
  void abort_commands(const Namespace& of);
  bool aborting(const Namespace* of) const;

  // From the controller.
  void controller_ended(const char* why);
  void abort_events();
  void look_again() { host_.wake(); }
  void deliver_events();

 private:
  using State = TargetSlot::State;
  using Work = TargetSlot::Work;
  using Half = TargetSlot::Half;
  enum class Control : uint8_t { kNone, kQueued, kSending, kDone };

  void on_header(ConstBytes header, uint64_t now_ns);
  void on_ic_request(ConstBytes header);
  void on_capsule(ConstBytes header, uint64_t now_ns);
  void on_h2c_data(ConstBytes header);
  void on_data(const PduEvent& event);
  void on_data_end(bool digest_ok, uint64_t now_ns);
  void fatal(FatalError error, uint32_t information, ConstBytes header, const char* what);

  // Finds out what a command wants; an error status when it cannot be.
  NvmeStatus plan(TargetSlot& slot);
  NvmeStatus plan_io(TargetSlot& slot);
  NvmeStatus plan_range(TargetSlot& slot);
  NvmeStatus plan_dsm(TargetSlot& slot);
  NvmeStatus plan_reservation(TargetSlot& slot);
  NvmeStatus no_namespace(uint32_t nsid) const;
  NvmeStatus reaches(const Namespace& name_space) const;
  NvmeStatus plan_admin(TargetSlot& slot);
  static bool is_auth(const Sqe& sqe);
  NvmeStatus plan_auth(TargetSlot& slot);
  NvmeStatus plan_data(TargetSlot& slot, bool to_host, uint32_t length_bytes);
  NvmeStatus plan_copy(TargetSlot& slot);

  void start(uint16_t index, uint64_t now_ns);
  void have_buffer(uint16_t index, uint64_t now_ns);
  bool have_memory(uint16_t index);
  uint32_t memory_wanted(const TargetSlot& slot) const;
  bool fits(const TargetSlot& slot) const;
  void take_memory(TargetSlot& slot);
  void give_data(TargetSlot& slot);
  bool may_lend(const TargetSlot& slot) const;
  bool must_wait_to_lend(const TargetSlot& slot) const;
  void borrow_no_more(TargetSlot& slot);
  void keep_lent(size_t first);
  void keep_copy(TargetSlot& slot);
  void give_back(TargetSlot& slot);
  void left_device(TargetSlot& slot);
  void serve_waiting(uint64_t now_ns);

  void execute(uint16_t index, uint64_t now_ns);
  void execute_io(uint16_t index);
  void begin(uint16_t index);
  void submit_soon(uint16_t index);
  void end_io(uint16_t index, NvmeStatus status);
  NvmeStatus next_step(TargetSlot& slot, bool* more);
  NvmeStatus next_discard(TargetSlot& slot, bool* more);
  NvmeStatus next_copy(TargetSlot& slot, bool* more);
  NvmeStatus check_copy(TargetSlot& slot);
  bool next_flush(TargetSlot& slot);
  NvmeStatus permitted(const TargetSlot& slot) const;
  bool run_reservation(uint16_t index);
  bool run_persistence(uint16_t index);
  void report_reservation(uint16_t index);
  void forget_reservations();
  void note_aborted_back() {
    if (aborting_) [[unlikely]]
      aborted_back();
  }
  void aborted_back();
  bool hold_range(TargetSlot& slot, LockMode mode);
  void on_range_granted(uint16_t index);
  void let_go_of_ranges();

  bool awaits_second_half() const { return first_half_ != kNoSlot; }
  NvmeStatus pair(uint16_t index, NvmeStatus status);
  NvmeStatus join(uint16_t first, uint16_t second, NvmeStatus status);
  void on_half_ready(uint16_t index);
  void on_half_done(uint16_t index, NvmeStatus status);
  void on_half_answered(uint16_t index);
  void end_pair(uint16_t first, NvmeStatus first_status, NvmeStatus second_status);

  bool note_id(TargetSlot& slot);
  bool id_in_flight(uint16_t command_id) const;
  bool cancel(uint16_t index, NvmeStatus status);
  bool cancel_pair(uint16_t index, NvmeStatus status);

  AdminReply run_admin(TargetSlot& slot, uint64_t now_ns);
  void run_connect(uint16_t index, uint64_t now_ns);
  void accept_depth(size_t depth);
  void add_slots(size_t first);
  void run_auth(uint16_t index);
  void end_auth(uint16_t index);
  void leave(const Controller& controller);
  AdminReply run_abort(const Sqe& sqe);

  void answer(uint16_t index, NvmeStatus status, uint64_t result = 0);
  void encode_answer(TargetSlot& slot);
  void count(const TargetSlot& slot);
  void measure(const TargetSlot& slot);
  void record(const TargetSlot& slot);
  void free_slot(uint16_t index);

  TargetCore& core_;
  QueueHost& host_;
  PduReader reader_;
  PduFormat out_format_;
  Controller* controller_ = nullptr;
  uint16_t queue_id_ = 0;
  uint16_t depth_ = 1;        // commands at once: 1 until connected
  uint16_t outstanding_ = 0;  // commands whose answers have not begun to leave
  uint32_t sq_size_ = 1;
  uint16_t sq_head_ = 0;
  bool flow_control_ = true;
  const size_t slots_max_;
  SlotTable slots_;
  std::vector<uint16_t> free_;
  SlotRing io_ready_;
  SlotRing waiting_;  // for memory
  SlotRing to_send_;  // R2Ts and answers
  std::vector<uint16_t> being_sent_;
  std::vector<iovec> iov_;
  // Commands in flight by the low byte of their identifier: while those differ nobody must look.
  std::array<uint16_t, 256> ids_{};
  uint16_t first_half_ = kNoSlot;  // of a fused operation whose second half comes next
  bool first_half_failed_ = false;
  std::vector<uint16_t> events_;        // slots of asynchronous event requests
  int receiving_ = -1;                  // slot of the present PDU's data; -1: to be dropped
  std::optional<uint16_t> connecting_;  // slot of a Connect that waits
  bool retry_connect_ = false;
  std::unique_ptr<AuthController> auth_;  // null: the host need not prove itself
  bool authenticated_ = true;
  std::optional<uint16_t> authenticating_;  // slot of a message whose key exchange is computed
  std::optional<PskIdentity> tls_identity_;
  bool aborting_ = false;    // a preempt ended commands that were with the device
  bool long_data_ = false;   // the last data the host sent was
  bool discarding_ = false;  // a refused capsule's data: answer at its end
  uint64_t buffered_bytes_ = 0;
  uint32_t io_in_flight_ = 0;    // with the device, or of its memory
  size_t lent_bytes_ = 0;        // asked for, or lent and not given back
  bool waits_for_peer_ = false;  // the present send does
  QueueMeter meter_;
  uint64_t now_ns_ = 0;  // when the driver last said what time it is
  std::array<std::byte, kIcBytes> hello_{};
  std::array<std::byte, kTermHeaderBytes + kTermDataMaxBytes> term_{};
  size_t term_bytes_ = 0;
  Control hello_state_ = Control::kNone;
  Control term_state_ = Control::kNone;
  bool sending_ = false;
  bool terminating_ = false;
  bool closing_ = false;
  std::string close_reason_;
  std::string local_host_;
  std::string local_address_;
  uint16_t port_ = 0;
  uint32_t home_ = 0;
  bool answered_ = false;
  const AnaPort* ana_;
};

}  // namespace bb::io::nvme
