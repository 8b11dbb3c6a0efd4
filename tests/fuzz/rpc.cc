// SPDX-License-Identifier: Apache-2.0
// The control channel's decoder. Input: a stream of lines, whole and in pieces; every line is a
// message or refused, and what was decoded survives being sent again.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "fuzz.h"
#include "io/rpc/json_rpc.h"

namespace bb {
namespace {

using namespace io::rpc;
constexpr size_t kShortLine = 200;

std::vector<std::string> lines_of(ConstBytes stream, size_t step) {
  LineSplitter splitter(kShortLine);
  std::vector<std::string> lines;
  for (size_t at = 0; at < stream.size(); at += step) {
    splitter.feed(stream.subspan(at, std::min(step, stream.size() - at)));
    for (;;) {
      auto line = splitter.next();
      if (!line.ok()) return lines;
      if (!line->has_value()) break;
      BB_CHECK((*line)->size() <= kShortLine, "a line of {} bytes", (*line)->size());
      lines.push_back(**line);
    }
    BB_CHECK(splitter.buffered_bytes() <= kShortLine + step, "kept too much");
  }
  return lines;
}

// `answered`: a refusal was written before; once an input is enough, and it costs more than the
// rest.
void check_message(const std::string& line, bool* answered) {
  auto message = decode_message(line);
  if (const auto* request = std::get_if<Request>(&message)) {
    auto again = decode_message(encode_request(*request));
    const auto* same = std::get_if<Request>(&again);
    BB_CHECK(same != nullptr && same->id == request->id && same->method == request->method,
             "another request");
  } else if (const auto* response = std::get_if<Response>(&message)) {
    if (response->result.ok()) return;
    auto again = decode_message(encode_error(response->id, response->result.status()));
    const auto* same = std::get_if<Response>(&again);
    BB_CHECK(same != nullptr && same->result.code() == response->result.code(), "another error");
  } else {
    const auto& bad = std::get<BadMessage>(message);
    BB_CHECK(!bad.status.ok(), "refused for no reason");
    if (std::exchange(*answered, true)) return;
    (void)encode_error(bad.id, bad.status, bad.number);
  }
}

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  auto add = [&all](const char* name, const std::string& text) {
    ConstBytes bytes = as_bytes(text);
    all.emplace_back(name, std::vector<std::byte>(bytes.begin(), bytes.end()));
  };
  Json params{{"name", "db"}, {"members", 3}, {"spread", true}};
  add("request", encode_request({.id = 1, .method = "array.create", .params = params}));
  add("event", encode_request({.method = "progress", .params = {{"percent", 1.5}}}));
  add("result", encode_result(1, Json::array({params, nullptr})));
  add("error", encode_error(2, error(Code::k_busy, "array \"db\": in use")));
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  ConstBytes stream(reinterpret_cast<const std::byte*>(data), size);
  std::vector<std::string> lines = lines_of(stream, std::max<size_t>(size, 1));
  bool answered = false;
  for (const std::string& line : lines) check_message(line, &answered);
  for (size_t step : {size_t{1}, size_t{7}}) {
    BB_CHECK(lines_of(stream, step) == lines, "pieces of {} gave other lines", step);
  }
  return 0;
}
