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

// Reads an option's data from the front; `good` turns false when it runs out.
struct Reader {
  ConstBytes left;
  bool good = true;

  template <typename T>
  T be() {
    if (left.size() < sizeof(T)) {
      good = false;
      return 0;
    }
    T value = load_be<T>(left.data());
    left = left.subspan(sizeof(T));
    return value;
  }
  std::string_view text(size_t length) {
    if (left.size() < length || length > kNameMax) {
      good = false;
      return {};
    }
    std::string_view value = as_text(left.first(length));
    left = left.subspan(length);
    return value;
  }
};

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

void Handshake::answer(Option option, ConstBytes data, std::span<const ExportInfo> exports,
                       std::vector<std::byte>& out) {
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
      if (!data.empty()) {
        return reply(out, option, OptionReply::kErrInvalid, "this option carries no data");
      }
      structured_ = true;
      return reply(out, option, OptionReply::kAck);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      return answer_meta_context(option, data, exports, out);
    case Option::kStartTls:
      return reply(out, option, OptionReply::kErrUnsupported, "TLS is not offered");
  }
  reply(out, option, OptionReply::kErrUnsupported, "unknown option");
}

void Handshake::choose(const ExportInfo& device) {
  chosen_ = device.name;
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
  writer.be(device->size_bytes).be(device->transmission_flags(structured_));
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
  Reader reader{.left = data};
  std::string_view name = reader.text(reader.be<uint32_t>());
  uint16_t count = reader.be<uint16_t>();
  bool wants_name = false;
  bool wants_description = false;
  for (uint16_t i = 0; i < count && reader.good; ++i) {
    auto wanted = static_cast<Info>(reader.be<uint16_t>());
    wants_name = wants_name || wanted == Info::kName;
    wants_description = wants_description || wanted == Info::kDescription;
  }
  if (!reader.good || !reader.left.empty()) {
    return reply(out, option, OptionReply::kErrInvalid, "malformed option data");
  }
  const ExportInfo* device = find(exports, name);
  if (device == nullptr) {
    return reply(out, option, OptionReply::kErrUnknown, fmt::format("no export \"{}\"", name));
  }
  std::vector<std::byte> block;
  Writer(block)
      .be(static_cast<uint16_t>(Info::kExport))
      .be(device->size_bytes)
      .be(device->transmission_flags(structured_));
  info_block(out, option, block);
  block.clear();
  Writer(block)
      .be(static_cast<uint16_t>(Info::kBlockSize))
      .be(device->block_min_bytes)
      .be(device->block_preferred_bytes)
      .be(kPayloadMax);
  info_block(out, option, block);
  if (wants_name) {
    block.clear();
    Writer(block).be(static_cast<uint16_t>(Info::kName)).text(device->name);
    info_block(out, option, block);
  }
  if (wants_description && !device->description.empty()) {
    block.clear();
    Writer(block).be(static_cast<uint16_t>(Info::kDescription)).text(device->description);
    info_block(out, option, block);
  }
  reply(out, option, OptionReply::kAck);
  if (option == Option::kGo) choose(*device);
}

// A device has no map of what is allocated, so no context is ever offered: an empty list is the
// protocol's way to say so.
void Handshake::answer_meta_context(Option option, ConstBytes data,
                                    std::span<const ExportInfo> exports,
                                    std::vector<std::byte>& out) {
  if (!structured_) {
    return reply(out, option, OptionReply::kErrInvalid, "structured replies come first");
  }
  Reader reader{.left = data};
  std::string_view name = reader.text(reader.be<uint32_t>());
  uint32_t queries = reader.be<uint32_t>();
  for (uint32_t i = 0; i < queries && reader.good; ++i) {
    [[maybe_unused]] std::string_view query = reader.text(reader.be<uint32_t>());
  }
  if (!reader.good || !reader.left.empty()) {
    return reply(out, option, OptionReply::kErrInvalid, "malformed option data");
  }
  if (find(exports, name) == nullptr) {
    return reply(out, option, OptionReply::kErrUnknown, fmt::format("no export \"{}\"", name));
  }
  reply(out, option, OptionReply::kAck);
}

}  // namespace bb::io::nbd
