// SPDX-License-Identifier: Apache-2.0
// pure: the client's side of the option haggling, as a state machine on bytes
#pragma once

#include <string>
#include <vector>

#include "io/nbd/wire.h"
#include "io/tls_policy.h"

namespace bb::io::nbd {

// What a client wants of a handshake.
struct ClientWishes {
  std::string export_name;
  TlsPolicy tls = TlsPolicy::kOff;  // required: nothing else goes in the clear
  bool extended = true;             // else, or where the server cannot: structured replies
  bool structured = true;
};

// What the server says of the export, and what was agreed.
struct RemoteExport {
  uint64_t size_bytes = 0;
  uint16_t flags = 0;  // TransmissionFlag
  uint32_t block_min_bytes = 1;
  uint32_t block_preferred_bytes = 4096;
  uint32_t payload_max_bytes = kPayloadMax;
  Framing framing = Framing::kSimple;
  bool allocation = false;  // base:allocation was selected, as context_id
  uint32_t context_id = 0;
};

// The greeting; TLS if wished; extended headers or structured replies; base:allocation; then GO,
// or EXPORT_NAME where the server knows no GO. One option at a time, as the protocol wants it.
class ClientHandshake {
 public:
  enum class State : uint8_t {
    kHaggling,
    kStartTls,      // TLS begins now; then secured()
    kTransmission,  // result() holds
    kFailed,        // after the output is sent, close; why() holds
  };

  explicit ClientHandshake(ClientWishes wishes) : wishes_(std::move(wishes)) {}

  // Takes whole units from the front of `in` (what is left over must come again, with more behind
  // it) and appends what is to be sent to `out`.
  size_t feed(ConstBytes in, std::vector<std::byte>& out);
  void secured(std::vector<std::byte>& out);

  // The largest unit feed() may wait for: the driver's buffer holds at least this.
  static constexpr uint32_t kReplyDataMax = 16 * 1024;
  static constexpr size_t kUnitMax = kOptionReplyHeaderBytes + kReplyDataMax;

  State state() const { return state_; }
  const RemoteExport& result() const { return result_; }
  const Status& why() const { return why_; }

 private:
  enum class Step : uint8_t { kGreeting, kTls, kExtended, kStructured, kContext, kGo, kName };
  struct Reply {
    Option option;
    OptionReply type;
    ConstBytes data;
  };

  size_t feed_one(ConstBytes in, std::vector<std::byte>& out);
  size_t take_greeting(ConstBytes in, std::vector<std::byte>& out);
  size_t take_export(ConstBytes in);
  size_t take_reply(ConstBytes in, std::vector<std::byte>& out);
  void ask(Step step, std::vector<std::byte>& out);
  void on_reply(const Reply& reply, std::vector<std::byte>& out);
  void on_refusal(const Reply& reply, std::vector<std::byte>& out);
  void on_context(ConstBytes data);
  void on_info(ConstBytes data);
  void finish();
  void fail(Status why);
  Option option() const;

  ClientWishes wishes_;
  State state_ = State::kHaggling;
  Step step_ = Step::kGreeting;
  bool no_zeroes_ = false;
  bool have_export_ = false;
  uint32_t replies_ = 0;
  RemoteExport result_;
  Status why_;
};

}  // namespace bb::io::nbd
