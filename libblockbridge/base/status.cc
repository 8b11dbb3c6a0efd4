// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <array>
#include <atomic>

namespace bb {
namespace {

struct CodeRow {
  Code code;
  std::string_view name;
  int exit_status;
  std::string_view action;
};

constexpr std::array kCodes = {
#define BB_CODE(value, upper, lower, exit_status, action) \
  CodeRow{Code::k_##lower, #lower, exit_status, action},
#include "base/codes.def"
#undef BB_CODE
};

const CodeRow& row(Code code) {
  auto index = static_cast<size_t>(code);
  BB_CHECK(index < kCodes.size() && kCodes[index].code == code, "no code {}", index);
  return kCodes[index];
}

}  // namespace

std::string_view code_name(Code code) { return row(code).name; }
std::string_view code_action(Code code) { return row(code).action; }
int code_exit_status(Code code) { return row(code).exit_status; }

std::optional<Code> code_from_name(std::string_view name) {
  for (const CodeRow& r : kCodes) {
    if (r.name == name) return r.code;
  }
  return std::nullopt;
}

struct Status::Rep {
  std::atomic<uint32_t> references{1};
  Code code;
  std::string text;
};

Status::Status(Code code, std::string text) {
  BB_CHECK(code != Code::k_ok, "an error needs a code other than ok: {}", text);
  rep_ = new Rep{.code = code, .text = std::move(text)};
}

Status::Status(const Status& other) noexcept : rep_(other.rep_) {
  if (rep_ != nullptr) rep_->references.fetch_add(1, std::memory_order_relaxed);
}

void Status::release() {
  if (rep_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete rep_;
}

Code Status::code() const { return rep_ == nullptr ? Code::k_ok : rep_->code; }

const std::string& Status::text() const {
  static const std::string kEmpty;
  return rep_ == nullptr ? kEmpty : rep_->text;
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return fmt::format("{} [{}]", rep_->text, code_name(rep_->code));
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return {};
  return Status(rep_->code, fmt::format("{}: {}", context, rep_->text));
}

}  // namespace bb
