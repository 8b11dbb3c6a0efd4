// SPDX-License-Identifier: Apache-2.0
// What people write on command lines and in configurations: device URIs, addresses, sizes, times.
// Input: the text. What is understood can be written out and is understood the same.
#include "base/uri.h"

#include "base/check.h"
#include "base/prng.h"
#include "base/units.h"
#include "base/uuid.h"
#include "fuzz.h"
#include "io/nvme/nvme_device.h"

namespace bb {
namespace {

void check_uri(std::string_view text) {
  auto uri = Uri::parse(text);
  if (!uri.ok()) {
    BB_CHECK(uri.code() == Code::k_invalid_argument, "{}", uri.status().to_string());
    return;
  }
  BB_CHECK(!uri->scheme.empty(), "no scheme");
  if (uri->scheme == "nvme-tcp") {
    Prng prng(1);
    auto options = io::nvme::parse_nvme_options(*uri, prng);
    BB_CHECK(!options.ok() || options->association.queue_depth > 0, "a queue of no commands");
  }
  for (const auto& [key, value] : uri->options) {
    auto again = Uri::parse("x:?" + key + "=" + uri_escape(value));
    BB_CHECK(again.ok() && again->take(key) == value, "another value of {}", key);
  }
  (void)uri->take_size("size", 0);
  (void)uri->take_duration_ns("timeout", 0);
  (void)uri->take_bool("create", false);
  (void)uri->reject_unknown();
}

}  // namespace

const size_t fuzz::kInputMax = 128;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  auto add = [&all](const char* name, std::string_view text) {
    ConstBytes bytes = as_bytes(text);
    all.emplace_back(name, std::vector<std::byte>(bytes.begin(), bytes.end()));
  };
  add("uri", "nvme-tcp://[::1]:4420/nqn.x?nsid=1&timeout=5s");
  add("options",
      "nvme-tcp://h/nqn.x?digest=off&queues=2&queue_depth=8&keep_alive=1s&hostnqn=nqn.y");
  add("uuid", "00112233-4455-4677-8899-aabbccddeeff");
  add("nested", "fault:file:/a%3Fsize=1G?create=1&size=1.5GiB");
  add("address", "[::1]:4420");
  add("size", "400GB");
  add("duration", "250ms");
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  check_uri(text);
  auto at = HostPort::parse(text);
  if (at.ok()) {
    auto again = HostPort::parse(at->to_string());
    BB_CHECK(again.ok() && again->host == at->host && again->port == at->port, "another address");
  }
  auto bytes = parse_size_bytes(text);
  if (bytes.ok()) {
    auto again = parse_size_bytes(format_size_bytes(*bytes));
    BB_CHECK(again.ok(), "{} was written as {}", *bytes, format_size_bytes(*bytes));
  }
  auto uuid = Uuid::parse(text);
  if (uuid.ok()) BB_CHECK(*Uuid::parse(uuid->to_string()) == *uuid, "another uuid");
  (void)parse_duration_ns(text);
  (void)parse_u64(text);
  return 0;
}
