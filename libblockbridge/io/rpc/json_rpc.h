// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>

#include "base/bytes.h"
#include "base/json.h"

namespace bb::io::rpc {

// JSON-RPC 2.0, one object a line, ended by \n. No batches: calls overlap on one connection anyway.
inline constexpr size_t kLineMax = 1024 * 1024;
inline constexpr size_t kMethodMax = 64;

struct Request {
  std::optional<uint64_t> id;  // none: a notification, nobody waits for an answer
  std::string method;
  Json params = Json::object();
};

struct Response {
  std::optional<uint64_t> id;  // none: the request was too broken to have one
  Result<Json> result{Json()};
};

// Every error travels as {"code":-32xxx,"message":text,"data":{"code","text","hint"}}; `data`
// carries a Status through unchanged, the number tells other JSON-RPC clients what they expect.
inline constexpr int kParseError = -32700;
inline constexpr int kInvalidRequest = -32600;
inline constexpr int kMethodNotFound = -32601;
inline constexpr int kServerError = -32000;  // minus the number of the Code

std::string encode_request(const Request& request);
std::string encode_result(uint64_t id, const Json& result);
std::string encode_error(std::optional<uint64_t> id, const Status& status, int number = 0);

using Message = std::variant<Request, Response>;

// A line that is no message: what to answer. `id` is set if the line had a usable one.
struct BadMessage {
  std::optional<uint64_t> id;
  int number = kParseError;
  Status status;
};
std::variant<Request, Response, BadMessage> decode_message(std::string_view line);

// Cuts a stream of bytes into lines without ever holding more than one line and a bit.
class LineSplitter {
 public:
  explicit LineSplitter(size_t line_max = kLineMax) : line_max_(line_max) {}

  void feed(ConstBytes bytes);
  // The next whole line without its end; nothing when more bytes are needed; INVALID_ARGUMENT once
  // a line is too long, and from then on.
  Result<std::optional<std::string>> next();
  size_t buffered_bytes() const { return buffer_.size() - start_; }

 private:
  size_t line_max_;
  std::string buffer_;
  size_t start_ = 0;    // of the first line not yet taken
  size_t scanned_ = 0;  // no \n between start_ and here
};

}  // namespace bb::io::rpc
