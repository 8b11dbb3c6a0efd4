// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/handshake.h"

#include <algorithm>

namespace bb::io::nbd {
namespace {

void reply(std::vector<std::byte>& out, Option option, OptionReply type,
           std::string_view data = "") {
  Writer(out)
      .be(kOptionReplyMagic)
      .be(static_cast<uint32_t>(option))
      .be(static_cast<uint32_t>(type))
      .be(static_cast<uint32_t>(data.size()))
      .text(data);
}

// The empty name means the default export: the only one there is.
const ExportInfo* find(std::span<const ExportInfo> exports, std::string_view name) {
  for (const ExportInfo& each : exports) {
    if (each.name == name) return &each;
  }
  return name.empty() && exports.size() == 1 ? &exports.front() : nullptr;
}

void info_block(std::vector<std::byte>& out, Option option, const std::vector<std::byte>& data) {
  reply(out, option, OptionReply::kInfo, as_text(data));
}

// What an INFO or GO asks for.
struct InfoRequest {
  std::string_view name;
  bool wants_name = false;
  bool wants_description = false;
  bool wants_block_size = false;
};

std::optional<InfoRequest> read_info(ConstBytes data) {
  Reader reader{.left = data};
  InfoRequest request;
  request.name = reader.text(reader.be<uint32_t>());
  uint16_t count = reader.be<uint16_t>();
  for (uint16_t i = 0; i < count && reader.good; ++i) {
    auto wanted = static_cast<Info>(reader.be<uint16_t>());
    request.wants_name |= wanted == Info::kName;
    request.wants_description |= wanted == Info::kDescription;
    request.wants_block_size |= wanted == Info::kBlockSize;
  }
  if (!reader.good || !reader.left.empty()) return std::nullopt;
  return request;
}

void write_info(std::vector<std::byte>& out, Option option, const ExportInfo& device,
                const InfoRequest& request, Framing framing) {
  std::vector<std::byte> block;
  Writer(block)
      .be(static_cast<uint16_t>(Info::kExport))
      .be(device.size_bytes)
      .be(device.transmission_flags(framing));
  info_block(out, option, block);
  block.clear();
  Writer(block)
      .be(static_cast<uint16_t>(Info::kBlockSize))
      .be(device.block_min_bytes)
      .be(device.block_preferred_bytes)
      .be(kPayloadMax);
  info_block(out, option, block);
  if (request.wants_name) {
    block.clear();
    Writer(block).be(static_cast<uint16_t>(Info::kName)).text(device.name);
    info_block(out, option, block);
  }
  if (request.wants_description && !device.description.empty()) {
    block.clear();
    Writer(block).be(static_cast<uint16_t>(Info::kDescription)).text(device.description);
    info_block(out, option, block);
  }
}

// proto.md, "Metadata querying": LIST without a query means all, "base:" all of that namespace;
// SET takes whole names only.
bool selects_allocation(Option option, std::string_view query) {
  return query == kAllocationContext || (option == Option::kListMetaContext && query == "base:");
}

}  // namespace

std::vector<std::byte> Handshake::greeting() {
  std::vector<std::byte> out;
  Writer(out)
      .be(kGreetingMagic)
      .be(kOptionMagic)
      .be(static_cast<uint16_t>(kFixedNewstyle | kNoZeroes));
  return out;
}

size_t Handshake::feed(ConstBytes in, std::span<const ExportInfo> exports,
                       std::vector<std::byte>& out) {
  size_t used = 0;
  while (state_ == State::kHaggling) {
    size_t step = feed_one(in.subspan(used), exports, out);
    if (step == 0) break;
    used += step;
  }
  return used;
}

size_t Handshake::close(std::string reason) {
  state_ = State::kClosed;
  reason_ = std::move(reason);
  return 0;
}

size_t Handshake::take_client_flags(ConstBytes in) {
  if (in.size() < kClientFlagsBytes) return 0;
  uint32_t flags = load_be<uint32_t>(in.data());
  if ((flags & ~uint32_t{kFixedNewstyle | kNoZeroes}) != 0) {
    return close(fmt::format("client flags {:#x}: only 0x1 and 0x2 are known", flags));
  }
  if ((flags & kFixedNewstyle) == 0) return close("the client does not speak fixed newstyle");
  no_zeroes_ = (flags & kNoZeroes) != 0;
  have_client_flags_ = true;
  return kClientFlagsBytes;
}

size_t Handshake::feed_one(ConstBytes in, std::span<const ExportInfo> exports,
                           std::vector<std::byte>& out) {
  if (!have_client_flags_) return take_client_flags(in);
  if (skip_bytes_ > 0) {
    size_t skipped = std::min<size_t>(skip_bytes_, in.size());
    skip_bytes_ -= static_cast<uint32_t>(skipped);
    return skipped;
  }
  if (in.size() < kOptionHeaderBytes) return 0;
  if (load_be<uint64_t>(in.data()) != kOptionMagic) return close("an option without its magic");
  auto option = static_cast<Option>(load_be<uint32_t>(in.data() + 8));
  uint32_t length = load_be<uint32_t>(in.data() + 12);
  if (options_ >= kOptionsMax) {
    return close(fmt::format("more than {} options in one handshake", kOptionsMax));
  }
  if (length > kSkippedOptionMax) {
    return close(fmt::format("an option of {} bytes (limit {})", length, kSkippedOptionMax));
  }
  if (length > kOptionDataMax) {
    if (option == Option::kExportName) return close("an export name too long");
    ++options_;
    skip_bytes_ = length;
    reply(out, option, OptionReply::kErrTooBig,
          fmt::format("{} bytes of option data (limit {})", length, kOptionDataMax));
    return kOptionHeaderBytes;
  }
  if (in.size() < kOptionHeaderBytes + length) return 0;
  ++options_;  // here, not above: an option that comes in pieces is one
  answer(option, in.subspan(kOptionHeaderBytes, length), exports, out);
  return kOptionHeaderBytes + length;
}

void Handshake::secured() {
  secured_ = true;
  state_ = State::kHaggling;
  agreed_ = {};
  context_export_.clear();
}

// proto.md, "TLS versions": FORCEDTLS answers everything but STARTTLS and ABORT with an error.
bool Handshake::must_secure(Option option, std::vector<std::byte>& out) {
  if (tls_ != TlsPolicy::kRequired || secured_) return false;
  if (option == Option::kStartTls || option == Option::kAbort) return false;
  if (option == Option::kExportName) {
    close("the client does not begin TLS");  // there is no error reply to this option
  } else {
    reply(out, option, OptionReply::kErrTlsRequired, "TLS comes first");
  }
  return true;
}

void Handshake::answer_start_tls(ConstBytes data, std::vector<std::byte>& out) {
  auto refuse = [&](OptionReply why, std::string_view text) {
    reply(out, Option::kStartTls, why, text);
  };
  if (!data.empty()) return refuse(OptionReply::kErrInvalid, "this option carries no data");
  if (secured_) return refuse(OptionReply::kErrInvalid, "TLS is established already");
  if (tls_ == TlsPolicy::kOff) return refuse(OptionReply::kErrUnsupported, "TLS is not offered");
  reply(out, Option::kStartTls, OptionReply::kAck);
  state_ = State::kStartTls;
}

void Handshake::answer_framing(Option option, ConstBytes data, std::vector<std::byte>& out) {
  if (!data.empty()) {
    return reply(out, option, OptionReply::kErrInvalid, "this option carries no data");
  }
  bool extended = option == Option::kExtendedHeaders;
  if (!extended && agreed_.framing == Framing::kExtended) {
    return reply(out, option, OptionReply::kErrExtendedHeaders, "extended headers are agreed");
  }
  agreed_.framing = extended ? Framing::kExtended : Framing::kStructured;
  reply(out, option, OptionReply::kAck);
}

void Handshake::answer(Option option, ConstBytes data, std::span<const ExportInfo> exports,
                       std::vector<std::byte>& out) {
  if (must_secure(option, out)) return;
  switch (option) {
    case Option::kExportName:
      return answer_export_name(data, exports, out);
    case Option::kAbort:
      reply(out, option, OptionReply::kAck);
      close("the client ended the handshake");
      return;
    case Option::kList:
      return answer_list(data, exports, out);
    case Option::kInfo:
    case Option::kGo:
      return answer_info(option, data, exports, out);
    case Option::kStructuredReply:
    case Option::kExtendedHeaders:
      return answer_framing(option, data, out);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      return answer_meta_context(option, data, exports, out);
    case Option::kStartTls:
      return answer_start_tls(data, out);
  }
  reply(out, option, OptionReply::kErrUnsupported, "unknown option");
}

void Handshake::choose(const ExportInfo& device) {
  chosen_ = device.name;
  agreed_.allocation = agreed_.allocation && context_export_ == device.name;
  state_ = State::kTransmission;
}

// The one option that has no error reply: the connection ends instead.
void Handshake::answer_export_name(ConstBytes data, std::span<const ExportInfo> exports,
                                   std::vector<std::byte>& out) {
  const ExportInfo* device = find(exports, as_text(data));
  if (device == nullptr) {
    close(fmt::format("no export \"{}\"", as_text(data)));
    return;
  }
  Writer writer(out);
  writer.be(device->size_bytes).be(device->transmission_flags(agreed_.framing));
  if (!no_zeroes_) writer.zeroes(124);
  choose(*device);
}

void Handshake::answer_list(ConstBytes data, std::span<const ExportInfo> exports,
                            std::vector<std::byte>& out) {
  if (!data.empty()) {
    return reply(out, Option::kList, OptionReply::kErrInvalid, "this option carries no data");
  }
  for (const ExportInfo& each : exports) {
    std::vector<std::byte> entry;
    Writer(entry)
        .be(static_cast<uint32_t>(each.name.size()))
        .text(each.name)
        .text(each.description);
    reply(out, Option::kList, OptionReply::kServer, as_text(entry));
  }
  reply(out, Option::kList, OptionReply::kAck);
}

void Handshake::answer_info(Option option, ConstBytes data, std::span<const ExportInfo> exports,
                            std::vector<std::byte>& out) {
  std::optional<InfoRequest> request = read_info(data);
  if (!request) return reply(out, option, OptionReply::kErrInvalid, "malformed option data");
  const ExportInfo* device = find(exports, request->name);
  if (device == nullptr) {
    return reply(out, option, OptionReply::kErrUnknown,
                 fmt::format("no export \"{}\"", request->name));
  }
  write_info(out, option, *device, *request, agreed_.framing);
  if (option == Option::kInfo) return reply(out, option, OptionReply::kAck);
  // proto.md, "Block size constraints": who did not ask would take 512 bytes for granted.
  if (!request->wants_block_size && device->block_min_bytes > 512) {
    return reply(
        out, option, OptionReply::kErrBlockSizeRequired,
        fmt::format("blocks of {} bytes: ask for NBD_INFO_BLOCK_SIZE", device->block_min_bytes));
  }
  reply(out, option, OptionReply::kAck);
  choose(*device);
}

void Handshake::answer_meta_context(Option option, ConstBytes data,
                                    std::span<const ExportInfo> exports,
                                    std::vector<std::byte>& out) {
  if (agreed_.framing == Framing::kSimple) {
    return reply(out, option, OptionReply::kErrInvalid, "structured replies come first");
  }
  bool sets = option == Option::kSetMetaContext;
  if (sets) agreed_.allocation = false;  // each SET replaces the one before, failed or not
  Reader reader{.left = data};
  std::string_view name = reader.text(reader.be<uint32_t>());
  uint32_t queries = reader.be<uint32_t>();
  bool selected = !sets && queries == 0;
  for (uint32_t i = 0; i < queries && reader.good; ++i) {
    std::string_view query = reader.text(reader.be<uint32_t>());
    selected = selected || selects_allocation(option, query);
  }
  if (!reader.good || !reader.left.empty()) {
    return reply(out, option, OptionReply::kErrInvalid, "malformed option data");
  }
  const ExportInfo* device = find(exports, name);
  if (device == nullptr) {
    return reply(out, option, OptionReply::kErrUnknown, fmt::format("no export \"{}\"", name));
  }
  if (selected) {
    std::vector<std::byte> context;
    Writer(context).be(sets ? kAllocationContextId : 0).text(kAllocationContext);
    reply(out, option, OptionReply::kMetaContext, as_text(context));
  }
  if (sets) {
    agreed_.allocation = selected;
    context_export_ = device->name;
  }
  reply(out, option, OptionReply::kAck);
}

}  // namespace bb::io::nbd
