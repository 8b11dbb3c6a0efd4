// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace bb {

enum class Code : uint8_t {
#define BB_CODE(value, upper, lower, exit_status, action) k_##lower = value,
#include "base/codes.def"
#undef BB_CODE
};

std::string_view code_name(Code code);    // "not_found"
std::string_view code_action(Code code);  // what the caller does next
int code_exit_status(Code code);          // exit status of a program that ends with it
std::optional<Code> code_from_name(std::string_view name);

// An operating error is a value. ok() costs one null pointer; an error carries a code and a text,
// context outermost first: `array "db": read 4096 bytes at 1048576: member 3: connection lost`.
// Copies share the text; safe to hand between threads.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string text);
  Status(const Status& other) noexcept;
  Status(Status&& other) noexcept : rep_(std::exchange(other.rep_, nullptr)) {}
  Status& operator=(Status other) noexcept {
    std::swap(rep_, other.rep_);
    return *this;
  }
  ~Status() {
    if (rep_ != nullptr) [[unlikely]]
      release();
  }

  bool ok() const { return rep_ == nullptr; }
  explicit operator bool() const = delete;  // too easy to read the wrong way round
  Code code() const;
  const std::string& text() const;  // without the code; empty when ok
  std::string to_string() const;    // "text [code]", or "ok"

  // The same error seen from one layer further out: `context: text`.
  Status with_context(std::string_view context) const;

 private:
  struct Rep;
  void release();

  Rep* rep_ = nullptr;
};

inline Status ok_status() { return {}; }

template <typename... Args>
Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit on purpose
    BB_CHECK(!status_.ok(), "a Result without a value needs an error");
  }
  Result(T value) : value_(std::move(value)) {}  // NOLINT: implicit on purpose

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  Code code() const { return status_.code(); }

  T& value() & {
    BB_CHECK(ok(), "value() of an error: {}", status_.to_string());
    return *value_;
  }
  const T& value() const& {
    BB_CHECK(ok(), "value() of an error: {}", status_.to_string());
    return *value_;
  }
  T&& value() && {
    BB_CHECK(ok(), "value() of an error: {}", status_.to_string());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  Status status_;
  std::optional<T> value_;
};

namespace detail {
inline Status as_status(Status status) { return status; }
template <typename T>
Status as_status(const Result<T>& result) {
  return result.status();
}
}  // namespace detail

#define BB_CONCAT_(a, b) a##b
#define BB_CONCAT(a, b) BB_CONCAT_(a, b)

// Returns the error of `expr` from a plain function (BB_CO_TRY: from a coroutine).
#define BB_TRY(expr)                                                               \
  do {                                                                             \
    if (auto bb_try_status_ = ::bb::detail::as_status(expr); !bb_try_status_.ok()) \
      return bb_try_status_;                                                       \
  } while (0)
#define BB_CO_TRY(expr)                                                            \
  do {                                                                             \
    if (auto bb_try_status_ = ::bb::detail::as_status(expr); !bb_try_status_.ok()) \
      co_return bb_try_status_;                                                    \
  } while (0)

// BB_ASSIGN(auto x, f()): x is the value of the Result, or its error is returned.
#define BB_ASSIGN(decl, expr) BB_ASSIGN_(BB_CONCAT(bb_result_, __LINE__), decl, expr, return)
#define BB_CO_ASSIGN(decl, expr) BB_ASSIGN_(BB_CONCAT(bb_result_, __LINE__), decl, expr, co_return)
#define BB_ASSIGN_(result, decl, expr, give_back) \
  auto result = (expr);                           \
  if (!result.ok()) give_back result.status();    \
  decl = std::move(result).value()

}  // namespace bb
