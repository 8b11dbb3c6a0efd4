// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/client_handshake.h"

namespace bb::io::nbd {
namespace {

constexpr uint32_t kRepliesMax = 1024;
constexpr size_t kExportBytes = 10;  // the answer to EXPORT_NAME, without its zeroes
constexpr size_t kExportZeroes = 124;

void send_option(std::vector<std::byte>& out, Option option, ConstBytes data = {}) {
  Writer(out)
      .be(kOptionMagic)
      .be(static_cast<uint32_t>(option))
      .be(static_cast<uint32_t>(data.size()))
      .text(as_text(data));
}

Code refusal_code(OptionReply type) {
  switch (type) {
    case OptionReply::kErrUnknown:
      return Code::k_not_found;
    case OptionReply::kErrPolicy:
    case OptionReply::kErrTlsRequired:
      return Code::k_permission_denied;
    case OptionReply::kErrShutdown:
      return Code::k_unavailable;
    case OptionReply::kErrUnsupported:
    case OptionReply::kErrBlockSizeRequired:
    case OptionReply::kErrExtendedHeaders:
      return Code::k_not_supported;
    case OptionReply::kErrInvalid:
    case OptionReply::kErrTooBig:
      return Code::k_invalid_argument;
    case OptionReply::kAck:
    case OptionReply::kServer:
    case OptionReply::kInfo:
    case OptionReply::kMetaContext:
      break;
  }
  return Code::k_io_error;
}

}  // namespace

void ClientHandshake::fail(Status why) {
  state_ = State::kFailed;
  why_ = std::move(why);
}

size_t ClientHandshake::feed(ConstBytes in, std::vector<std::byte>& out) {
  size_t used = 0;
  while (state_ == State::kHaggling) {
    size_t step = feed_one(in.subspan(used), out);
    if (step == 0) break;
    used += step;
  }
  return used;
}

size_t ClientHandshake::feed_one(ConstBytes in, std::vector<std::byte>& out) {
  if (step_ == Step::kGreeting) return take_greeting(in, out);
  if (step_ == Step::kName) return take_export(in);
  return take_reply(in, out);
}

size_t ClientHandshake::take_greeting(ConstBytes in, std::vector<std::byte>& out) {
  if (in.size() < kGreetingBytes) return 0;
  if (load_be<uint64_t>(in.data()) != kGreetingMagic) {
    fail(error(Code::k_io_error, "the peer is no NBD server"));
    return 0;
  }
  uint16_t flags = load_be<uint16_t>(in.data() + 16);
  if (load_be<uint64_t>(in.data() + 8) != kOptionMagic || (flags & kFixedNewstyle) == 0) {
    fail(error(Code::k_not_supported, "the server does not speak fixed newstyle"));
    return 0;
  }
  no_zeroes_ = (flags & kNoZeroes) != 0;
  Writer(out).be(uint32_t{kFixedNewstyle} | (no_zeroes_ ? uint32_t{kNoZeroes} : 0));
  if (wishes_.tls != TlsPolicy::kOff) {
    ask(Step::kTls, out);
  } else {
    secured(out);
  }
  return kGreetingBytes;
}

void ClientHandshake::secured(std::vector<std::byte>& out) {
  state_ = State::kHaggling;
  if (wishes_.extended) return ask(Step::kExtended, out);
  ask(wishes_.structured ? Step::kStructured : Step::kGo, out);
}

Option ClientHandshake::option() const {
  switch (step_) {
    case Step::kTls:
      return Option::kStartTls;
    case Step::kExtended:
      return Option::kExtendedHeaders;
    case Step::kStructured:
      return Option::kStructuredReply;
    case Step::kContext:
      return Option::kSetMetaContext;
    case Step::kGo:
      return Option::kGo;
    case Step::kGreeting:
    case Step::kName:
      break;
  }
  return Option::kExportName;
}

void ClientHandshake::ask(Step step, std::vector<std::byte>& out) {
  step_ = step;
  const std::string& name = wishes_.export_name;
  std::vector<std::byte> data;
  Writer writer(data);
  if (step == Step::kContext) {
    writer.be(static_cast<uint32_t>(name.size()))
        .text(name)
        .be(uint32_t{1})
        .be(static_cast<uint32_t>(kAllocationContext.size()))
        .text(kAllocationContext);
  } else if (step == Step::kGo) {
    writer.be(static_cast<uint32_t>(name.size()))
        .text(name)
        .be(uint16_t{1})
        .be(static_cast<uint16_t>(Info::kBlockSize));
  } else if (step == Step::kName) {
    writer.text(name);
  }
  send_option(out, option(), data);
}

size_t ClientHandshake::take_reply(ConstBytes in, std::vector<std::byte>& out) {
  if (in.size() < kOptionReplyHeaderBytes) return 0;
  uint32_t length = load_be<uint32_t>(in.data() + 16);
  auto about = static_cast<Option>(load_be<uint32_t>(in.data() + 8));
  if (load_be<uint64_t>(in.data()) != kOptionReplyMagic || about != option()) {
    fail(error(Code::k_io_error, "the server answers an option that was not sent"));
    return 0;
  }
  if (length > kReplyDataMax || ++replies_ > kRepliesMax) {
    fail(error(Code::k_io_error, "an option reply of {} bytes (limit {}), the {}th (limit {})",
               length, kReplyDataMax, replies_, kRepliesMax));
    return 0;
  }
  if (in.size() < kOptionReplyHeaderBytes + length) {
    --replies_;  // it will come again, whole
    return 0;
  }
  on_reply({.option = about,
            .type = static_cast<OptionReply>(load_be<uint32_t>(in.data() + 12)),
            .data = in.subspan(kOptionReplyHeaderBytes, length)},
           out);
  return kOptionReplyHeaderBytes + length;
}

void ClientHandshake::on_reply(const Reply& reply, std::vector<std::byte>& out) {
  if ((static_cast<uint32_t>(reply.type) & kOptionReplyError) != 0) return on_refusal(reply, out);
  if (reply.type == OptionReply::kInfo && step_ == Step::kGo) return on_info(reply.data);
  if (reply.type == OptionReply::kMetaContext && step_ == Step::kContext) {
    return on_context(reply.data);
  }
  if (reply.type != OptionReply::kAck) {
    return fail(error(Code::k_io_error, "the server answers option {} by reply {}",
                      static_cast<uint32_t>(reply.option), static_cast<uint32_t>(reply.type)));
  }
  switch (step_) {
    case Step::kTls:
      state_ = State::kStartTls;
      return;
    case Step::kExtended:
      result_.framing = Framing::kExtended;
      return ask(Step::kContext, out);
    case Step::kStructured:
      result_.framing = Framing::kStructured;
      return ask(Step::kContext, out);
    case Step::kContext:
      return ask(Step::kGo, out);
    case Step::kGo:
      if (!have_export_) {
        return fail(error(Code::k_io_error, "the server does not say how large the export is"));
      }
      return finish();
    case Step::kGreeting:
    case Step::kName:
      break;
  }
  fail(error(Code::k_internal, "a reply out of step"));
}

void ClientHandshake::on_refusal(const Reply& reply, std::vector<std::byte>& out) {
  bool fatal =
      reply.type == OptionReply::kErrTlsRequired || reply.type == OptionReply::kErrShutdown;
  if (step_ == Step::kTls) {
    bool goes_without = wishes_.tls == TlsPolicy::kAllowed && !fatal;
    if (goes_without) return secured(out);
    fatal = true;
  }
  if (!fatal) {
    if (step_ == Step::kExtended) {
      return ask(wishes_.structured ? Step::kStructured : Step::kGo, out);
    }
    if (step_ == Step::kStructured || step_ == Step::kContext) return ask(Step::kGo, out);
    if (step_ == Step::kGo && reply.type == OptionReply::kErrUnsupported) {
      return ask(Step::kName, out);
    }
  }
  send_option(out, Option::kAbort);
  std::string text =
      printable(as_text(reply.data.first(std::min<size_t>(reply.data.size(), kErrorTextMax))));
  if (reply.type == OptionReply::kErrTlsRequired) text = "it requires TLS, see tls=";
  fail(error(refusal_code(reply.type), "the server refuses {} (reply 0x{:08x}){}{}",
             step_ == Step::kTls ? "TLS" : fmt::format("export \"{}\"", wishes_.export_name),
             static_cast<uint32_t>(reply.type), text.empty() ? "" : ": ", text));
}

void ClientHandshake::on_context(ConstBytes data) {
  Reader reader{.left = data};
  auto id = reader.be<uint32_t>();
  if (!reader.good || as_text(reader.left) != kAllocationContext) return;  // not asked for
  result_.allocation = true;
  result_.context_id = id;
}

void ClientHandshake::on_info(ConstBytes data) {
  Reader reader{.left = data};
  auto info = static_cast<Info>(reader.be<uint16_t>());
  if (info == Info::kExport) {
    result_.size_bytes = reader.be<uint64_t>();
    result_.flags = reader.be<uint16_t>();
    have_export_ = true;
  } else if (info == Info::kBlockSize) {
    result_.block_min_bytes = reader.be<uint32_t>();
    result_.block_preferred_bytes = reader.be<uint32_t>();
    result_.payload_max_bytes = reader.be<uint32_t>();
  } else {
    return;  // nothing we asked for, which is allowed
  }
  if (!reader.good || !reader.left.empty()) {
    fail(error(Code::k_io_error, "the server sends malformed information"));
  }
}

size_t ClientHandshake::take_export(ConstBytes in) {
  size_t length = kExportBytes + (no_zeroes_ ? 0 : kExportZeroes);
  if (in.size() < length) return 0;
  result_.size_bytes = load_be<uint64_t>(in.data());
  result_.flags = load_be<uint16_t>(in.data() + 8);
  finish();
  return length;
}

// proto.md, "Block size constraints": powers of two, the minimum at most 64 KiB.
void ClientHandshake::finish() {
  auto power = [](uint32_t x) { return x != 0 && (x & (x - 1)) == 0; };
  const RemoteExport& all = result_;
  if (!power(all.block_min_bytes) || all.block_min_bytes > 65536 ||
      all.payload_max_bytes < all.block_min_bytes) {
    return fail(error(Code::k_io_error, "the server's block sizes make no sense: {} to {} bytes",
                      all.block_min_bytes, all.payload_max_bytes));
  }
  if ((all.flags & kHasFlags) == 0) {
    return fail(error(Code::k_io_error, "the server sends no transmission flags"));
  }
  state_ = State::kTransmission;
}

}  // namespace bb::io::nbd
