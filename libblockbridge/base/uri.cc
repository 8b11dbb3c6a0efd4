// SPDX-License-Identifier: Apache-2.0
#include "base/uri.h"

#include "base/units.h"

namespace bb {
namespace {

Result<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    auto digit = [](char c) {
      if (c >= '0' && c <= '9') return c - '0';
      if (c >= 'a' && c <= 'f') return c - 'a' + 10;
      if (c >= 'A' && c <= 'F') return c - 'A' + 10;
      return -1;
    };
    int high = i + 2 < text.size() ? digit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return error(Code::k_invalid_argument, "\"{}\": % must be followed by two hexadecimal digits",
                   text.substr(0, 200));
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

std::string uri_escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '?' || c == '&' || c == '%' || c == '=' || c == '#') {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

Result<Uri> Uri::parse(std::string_view text) {
  size_t colon = text.find(':');
  size_t question = text.find('?');
  if (colon == std::string_view::npos || colon == 0 || colon > question) {
    return error(
        Code::k_invalid_argument,
        "\"{}\" is not a device URI: expected scheme:name, for example file:/path or mem:1G",
        text.substr(0, 200));
  }
  Uri uri;
  uri.scheme = text.substr(0, colon);
  std::string_view options;
  if (question != std::string_view::npos) {
    options = text.substr(question + 1);
    text = text.substr(0, question);
  }
  BB_ASSIGN(uri.rest, unescape(text.substr(colon + 1)));
  while (!options.empty()) {
    size_t end = options.find('&');
    std::string_view pair = options.substr(0, end);
    options = end == std::string_view::npos ? "" : options.substr(end + 1);
    size_t equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return error(Code::k_invalid_argument, "URI option \"{}\": expected key=value",
                   pair.substr(0, 64));
    }
    std::string key(pair.substr(0, equals));
    BB_ASSIGN(std::string value, unescape(pair.substr(equals + 1)));
    if (!uri.options.emplace(key, std::move(value)).second) {
      return error(Code::k_invalid_argument, "URI option \"{}\" is given twice", key);
    }
  }
  return uri;
}

std::string Uri::take(std::string_view key, std::string_view otherwise) {
  auto found = options.find(key);
  if (found == options.end()) return std::string(otherwise);
  std::string value = std::move(found->second);
  options.erase(found);
  return value;
}

Result<uint64_t> Uri::take_size(std::string_view key, uint64_t otherwise) {
  if (!options.contains(key)) return otherwise;
  auto value = parse_size_bytes(take(key));
  if (!value.ok()) return value.status().with_context(fmt::format("URI option {}", key));
  return value;
}

Result<uint64_t> Uri::take_u64(std::string_view key, uint64_t otherwise, uint64_t max) {
  if (!options.contains(key)) return otherwise;
  auto value = parse_u64(take(key), max);
  if (!value.ok()) return value.status().with_context(fmt::format("URI option {}", key));
  return value;
}

Result<uint64_t> Uri::take_duration_ns(std::string_view key, uint64_t otherwise) {
  if (!options.contains(key)) return otherwise;
  auto value = parse_duration_ns(take(key));
  if (!value.ok()) return value.status().with_context(fmt::format("URI option {}", key));
  return value;
}

Result<bool> Uri::take_bool(std::string_view key, bool otherwise) {
  if (!options.contains(key)) return otherwise;
  std::string value = take(key);
  if (value == "1" || value == "on" || value == "true") return true;
  if (value == "0" || value == "off" || value == "false") return false;
  return error(Code::k_invalid_argument, "URI option {}: \"{}\" is neither on nor off", key, value);
}

Status Uri::reject_unknown() const {
  if (options.empty()) return {};
  return error(Code::k_invalid_argument, "{}: unknown URI option \"{}\"", scheme,
               options.begin()->first);
}

Result<HostPort> HostPort::parse(std::string_view text) {
  HostPort out;
  std::string_view port;
  if (text.starts_with('[')) {
    size_t close = text.find(']');
    if (close == std::string_view::npos) {
      return error(Code::k_invalid_argument, "\"{}\": [ without ]", text.substr(0, 200));
    }
    out.host = text.substr(1, close - 1);
    port = text.substr(close + 1);
    if (!port.empty() && port.front() != ':') {
      return error(Code::k_invalid_argument, "\"{}\": expected :port after ]", text.substr(0, 200));
    }
    if (!port.empty()) port.remove_prefix(1);
  } else {
    size_t colon = text.rfind(':');
    out.host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon + 1);
  }
  bool brackets = text.starts_with('[');
  if (out.host.find_first_of(brackets ? "[" : "[]:") != std::string::npos) {
    return error(Code::k_invalid_argument, "\"{}\": expected host:port, or [::1]:port for IPv6",
                 text.substr(0, 200));
  }
  if (!port.empty()) {
    auto number = parse_u64(port, UINT16_MAX);
    if (!number.ok())
      return number.status().with_context(fmt::format("port of \"{}\"", text.substr(0, 200)));
    out.port = static_cast<uint16_t>(*number);
  }
  return out;
}

std::string HostPort::to_string() const {
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

}  // namespace bb
