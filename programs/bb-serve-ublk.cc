// SPDX-License-Identifier: Apache-2.0
#include "bb-serve-ublk.h"

#include <charconv>

#include "base/log.h"

namespace bb::program {
namespace {

Result<std::optional<uint32_t>> parse_number(const std::string& text) {
  if (text == "any") return std::optional<uint32_t>();
  uint32_t number = 0;
  const char* end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || number > io::ublk::kDeviceIdMax) {
    return error(Code::k_invalid_argument, "--ublk \"{}\" is neither any nor a number up to {}",
                 text, io::ublk::kDeviceIdMax);
  }
  return std::optional<uint32_t>(number);
}

}  // namespace

Result<UblkExports::Numbers> UblkExports::parse(const std::vector<std::string>& texts,
                                                size_t device_count) {
  if (texts.size() == 1 && texts.front() == "any") return Numbers(device_count);
  if (!texts.empty() && texts.size() != device_count) {
    return error(Code::k_invalid_argument, "{} times --ublk for {} devices: one for each",
                 texts.size(), device_count);
  }
  Numbers numbers;
  for (const std::string& text : texts) {
    BB_ASSIGN(std::optional<uint32_t> number, parse_number(text));
    numbers.push_back(number);
  }
  return numbers;
}

io::Task<Status> UblkExports::start(io::Context context, io::Device* device,
                                    std::optional<uint32_t> number) {
  io::ublk::AttachOptions options;
  options.device_id = number;
  auto attached = co_await io::ublk::Attachment::start(context, device, std::move(options));
  if (!attached.ok()) co_return attached.status();
  attachments_.push_back(std::move(attached).value());
  co_return Status();
}

io::Task<void> UblkExports::stop(bool keep) {
  for (size_t i = 0; i < attachments_.size(); ++i) {
    io::ublk::Attachment& attachment = *attachments_[i];
    Status stopped;
    if (!keep) stopped = co_await attachment.stop();
    if (!keep && stopped.ok()) continue;
    if (!stopped.ok()) log_warn("{} -> kept for the next server", stopped.to_string());
    co_await attachment.leave();
  }
  attachments_.clear();
}

}  // namespace bb::program
