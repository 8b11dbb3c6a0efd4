// SPDX-License-Identifier: Apache-2.0
// pure: the option haggling before transmission, as a state machine on bytes
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/nbd/export_info.h"
#include "io/tls_policy.h"

namespace bb::io::nbd {

// Fixed newstyle, server side. The driver sends greeting(), then feeds what the client sends and
// sends what comes out, until the state is no longer kHaggling.
class Handshake {
 public:
  enum class State : uint8_t {
    kHaggling,
    kStartTls,      // after the output is sent, TLS begins; then secured()
    kTransmission,  // after the output is sent; chosen() and agreed() hold
    kClosed,        // after the output is sent, close; reason() says why
  };

  explicit Handshake(TlsPolicy tls = TlsPolicy::kOff) : tls_(tls) {}

  static std::vector<std::byte> greeting();

  // Takes whole units from the front of `in` (what is left over must come again, with more behind
  // it) and appends answers to `out`. `exports` are those of this moment.
  size_t feed(ConstBytes in, std::span<const ExportInfo> exports, std::vector<std::byte>& out);

  // The largest unit feed() may wait for: the driver's buffer holds at least this.
  static constexpr size_t kUnitMax = kOptionHeaderBytes + kOptionDataMax;

  // TLS is established: what was agreed before is forgotten, for anybody could have asked for it.
  void secured();

  State state() const { return state_; }
  Agreed agreed() const { return agreed_; }
  const std::string& chosen() const { return chosen_; }  // the export's own name
  const std::string& reason() const { return reason_; }

 private:
  size_t feed_one(ConstBytes in, std::span<const ExportInfo> exports, std::vector<std::byte>& out);
  size_t take_client_flags(ConstBytes in);
  size_t close(std::string reason);
  bool must_secure(Option option, std::vector<std::byte>& out);
  void answer(Option option, ConstBytes data, std::span<const ExportInfo> exports,
              std::vector<std::byte>& out);
  void answer_start_tls(ConstBytes data, std::vector<std::byte>& out);
  void answer_framing(Option option, ConstBytes data, std::vector<std::byte>& out);
  void answer_export_name(ConstBytes data, std::span<const ExportInfo> exports,
                          std::vector<std::byte>& out);
  void answer_list(ConstBytes data, std::span<const ExportInfo> exports,
                   std::vector<std::byte>& out);
  void answer_info(Option option, ConstBytes data, std::span<const ExportInfo> exports,
                   std::vector<std::byte>& out);
  void answer_meta_context(Option option, ConstBytes data, std::span<const ExportInfo> exports,
                           std::vector<std::byte>& out);
  void choose(const ExportInfo& device);

  TlsPolicy tls_;
  State state_ = State::kHaggling;
  bool have_client_flags_ = false;
  bool no_zeroes_ = false;
  bool secured_ = false;
  Agreed agreed_;
  std::string context_export_;  // whose metadata context was set
  uint32_t options_ = 0;
  uint32_t skip_bytes_ = 0;  // rest of an option too big to keep
  std::string chosen_;
  std::string reason_;
};

}  // namespace bb::io::nbd
