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

io::Task<Result<UblkExports::Attached>> UblkExports::start(io::Device* device,
                                                           std::optional<uint32_t> number) {
  size_t index = attachments_.size();
  auto& attachment = attachments_.emplace_back();
  auto attach = [this, index, device, number, &attachment]() -> io::Task<Result<Attached>> {
    io::ublk::AttachOptions options;
    options.device_id = number;
    BB_CO_ASSIGN(attachment, co_await io::ublk::Attachment::start(loops_.at(index), device,
                                                                  std::move(options)));
    co_return Attached{.path = attachment->path(), .recovered = attachment->recovered()};
  };
  auto attached = co_await loops_.run(index, std::move(attach));
  if (!attached.ok()) attachments_.pop_back();
  co_return attached;
}

io::Task<void> UblkExports::stop(bool keep) {
  for (size_t i = 0; i < attachments_.size(); ++i) {
    auto detach = [keep, attachment = std::move(attachments_[i])]() mutable -> io::Task<Status> {
      Status stopped;
      if (!keep) stopped = co_await attachment->stop();
      if (!stopped.ok()) log_warn("{} -> kept for the next server", stopped.to_string());
      if (keep || !stopped.ok()) co_await attachment->leave();
      attachment.reset();
      co_return Status();
    };
    (void)co_await loops_.run(i, std::move(detach));
  }
  attachments_.clear();
}

}  // namespace bb::program
