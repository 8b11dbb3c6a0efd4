// SPDX-License-Identifier: Apache-2.0
// pure: values only
#include "io/rpc/json_rpc.h"

#include <nlohmann/json.hpp>

namespace bb::io::rpc {
namespace {

std::optional<uint64_t> id_of(const Json& message) {
  auto field = message.find("id");
  if (field == message.end()) return std::nullopt;
  const auto* number = field->get_ptr<const Json::number_unsigned_t*>();
  return number == nullptr ? std::nullopt : std::optional<uint64_t>(*number);
}

BadMessage invalid(std::optional<uint64_t> id, std::string_view text) {
  return {.id = id,
          .number = kInvalidRequest,
          .status = error(Code::k_invalid_argument, "not a JSON-RPC 2.0 message: {}", text)};
}

// The Status in an error object; a foreign server's error becomes INTERNAL with its message.
Status status_of(const Json& failure) {
  std::string text = "error without a text";
  Code code = Code::k_internal;
  if (auto message = failure.find("message"); message != failure.end() && message->is_string()) {
    text = message->get_ref<const std::string&>();
  }
  auto data = failure.find("data");
  if (data != failure.end() && data->is_object()) {
    auto name = data->find("code");
    if (name != data->end() && name->is_string()) {
      auto known = code_from_name(name->get_ref<const std::string&>());
      if (known.has_value() && *known != Code::k_ok) code = *known;
    }
    auto original = data->find("text");
    if (original != data->end() && original->is_string()) {
      text = original->get_ref<const std::string&>();
    }
  }
  return Status(code, std::move(text));
}

std::variant<Request, Response, BadMessage> decode_request(Json message) {
  bool has_id = message.contains("id");
  std::optional<uint64_t> id = id_of(message);
  if (has_id && !id.has_value()) return invalid({}, "\"id\" must be a whole number");
  const auto* method = message["method"].get_ptr<const std::string*>();
  if (method == nullptr || method->empty() || method->size() > kMethodMax) {
    return invalid(id, fmt::format("\"method\" must be a text of 1 to {} bytes", kMethodMax));
  }
  Request request{.id = id, .method = *method};
  auto params = message.find("params");
  if (params != message.end()) {
    if (!params->is_object()) return invalid(id, "\"params\" must be an object");
    request.params = std::move(*params);
  }
  return request;
}

std::variant<Request, Response, BadMessage> decode_response(Json message) {
  Response response{.id = id_of(message)};
  auto failure = message.find("error");
  if (failure != message.end()) {
    if (!failure->is_object()) return invalid(response.id, "\"error\" must be an object");
    response.result = status_of(*failure);
    return response;
  }
  if (!response.id.has_value()) return invalid({}, "a result needs a whole number as \"id\"");
  response.result = std::move(message["result"]);
  return response;
}

}  // namespace

std::string encode_request(const Request& request) {
  Json message{{"jsonrpc", "2.0"}, {"method", request.method}, {"params", request.params}};
  if (request.id.has_value()) message["id"] = *request.id;
  return dump_json(message) + "\n";
}

std::string encode_result(uint64_t id, const Json& result) {
  return dump_json(Json{{"jsonrpc", "2.0"}, {"id", id}, {"result", result}}) + "\n";
}

std::string encode_error(std::optional<uint64_t> id, const Status& status, int number) {
  BB_CHECK(!status.ok(), "an error reply needs an error");
  if (number == 0) number = kServerError - static_cast<int>(status.code());
  Json data{{"code", code_name(status.code())},
            {"text", status.text()},
            {"hint", code_action(status.code())}};
  Json failure{{"code", number}, {"message", status.text()}, {"data", std::move(data)}};
  Json message{{"jsonrpc", "2.0"}, {"id", nullptr}, {"error", std::move(failure)}};
  if (id.has_value()) message["id"] = *id;
  return dump_json(message) + "\n";
}

std::variant<Request, Response, BadMessage> decode_message(std::string_view line) {
  auto message = parse_json(line);
  if (!message.ok()) return BadMessage{.status = message.status()};
  if (!message->is_object()) return invalid({}, "expected an object");
  auto version = message->find("jsonrpc");
  if (version == message->end() || *version != "2.0") {
    return invalid(id_of(*message), "\"jsonrpc\" must be \"2.0\"");
  }
  if (message->contains("method")) return decode_request(std::move(message).value());
  if (message->contains("result") || message->contains("error")) {
    return decode_response(std::move(message).value());
  }
  return invalid(id_of(*message), "neither \"method\" nor \"result\" nor \"error\"");
}

void LineSplitter::feed(ConstBytes bytes) {
  if (start_ > 0) {
    buffer_.erase(0, start_);
    scanned_ -= start_;
    start_ = 0;
  }
  buffer_.append(as_text(bytes));
}

Result<std::optional<std::string>> LineSplitter::next() {
  size_t end = buffer_.find('\n', scanned_);
  size_t length = (end == std::string::npos ? buffer_.size() : end) - start_;
  if (length > line_max_) {
    return error(Code::k_invalid_argument, "a line of more than {} bytes", line_max_);
  }
  if (end == std::string::npos) {
    scanned_ = buffer_.size();
    return std::optional<std::string>();
  }
  std::string line = buffer_.substr(start_, length);
  if (line.ends_with('\r')) line.pop_back();
  start_ = scanned_ = end + 1;
  return std::optional<std::string>(std::move(line));
}

}  // namespace bb::io::rpc
