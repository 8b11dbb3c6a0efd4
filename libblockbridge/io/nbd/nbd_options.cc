// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"
#include "io/nbd/nbd_device.h"

namespace bb::io::nbd {
namespace {

constexpr uint16_t kDefaultPort = 10809;

// nbd://host:port/export
Status take_tcp(std::string_view rest, NbdOptions& options) {
  auto bad = [&] {
    return error(Code::k_invalid_argument, "\"nbd:{}\": expected nbd://host:port/export", rest);
  };
  if (!rest.starts_with("//")) return bad();
  std::string_view place = rest.substr(2);
  size_t slash = place.find('/');
  BB_ASSIGN(HostPort at, HostPort::parse(place.substr(0, slash)));
  if (at.host.empty()) return bad();
  if (at.port == 0) at.port = kDefaultPort;
  options.address = at.to_string();
  options.tls.server_name = at.host;
  if (slash != std::string_view::npos) options.wishes.export_name = place.substr(slash + 1);
  return {};
}

// nbd+unix:///export?socket=/path
Status take_unix(Uri& uri, NbdOptions& options) {
  std::string socket = uri.take("socket");
  if (!uri.rest.starts_with("///") || socket.empty()) {
    return error(Code::k_invalid_argument,
                 "\"nbd+unix:{}\": expected nbd+unix:///export?socket=/path", uri.rest);
  }
  options.address = "unix:" + socket;
  options.wishes.export_name = uri.rest.substr(3);
  return {};
}

// The name a server's certificate must carry is that by which we go to it, unless tls_name= says
// another.
Status take_tls(Uri& uri, NbdOptions& options) {
  std::string policy = uri.take("tls", "off");
  TlsOptions& tls = options.tls;
  tls.ca_file = uri.take("tls_ca");
  tls.certificate_file = uri.take("tls_certificate");
  tls.key_file = uri.take("tls_key");
  tls.server_name = uri.take("tls_name", tls.server_name);
  BB_ASSIGN(options.wishes.tls, parse_tls_policy("URI option tls", policy));
  if (options.wishes.tls == TlsPolicy::kOff) {
    bool more = !tls.ca_file.empty() || !tls.certificate_file.empty() || !tls.key_file.empty();
    if (!more) return {};
    return error(Code::k_invalid_argument,
                 "URI options tls_ca, tls_certificate, tls_key: they need tls=required or allowed");
  }
  if (tls.ca_file.empty() || tls.server_name.empty()) {
    return error(Code::k_invalid_argument,
                 "URI option tls={}: it needs tls_ca=FILE and, over a Unix socket, tls_name=NAME",
                 policy);
  }
  return {};
}

}  // namespace

Result<NbdOptions> parse_nbd_options(Uri uri) {
  NbdOptions options;
  BB_TRY(uri.scheme == "nbd+unix" ? take_unix(uri, options) : take_tcp(uri.rest, options));
  if (options.wishes.export_name.size() > kNameMax) {
    return error(Code::k_invalid_argument, "an export name of {} bytes (limit {})",
                 options.wishes.export_name.size(), kNameMax);
  }
  BB_ASSIGN(uint64_t depth, uri.take_u64("queue_depth", 128, 1024));
  BB_ASSIGN(uint64_t connections, uri.take_u64("connections", 1, 16));
  BB_ASSIGN(options.read_only, uri.take_bool("read_only", false));
  BB_ASSIGN(options.wishes.structured, uri.take_bool("structured", true));
  BB_ASSIGN(options.wishes.extended, uri.take_bool("extended", options.wishes.structured));
  BB_ASSIGN(options.io_timeout_ns, uri.take_duration_ns("io_timeout", 30 * kNsPerSecond));
  BB_ASSIGN(options.connect_timeout_ns, uri.take_duration_ns("connect_timeout", 5 * kNsPerSecond));
  BB_ASSIGN(options.wait_ns, uri.take_duration_ns("wait", 0));
  BB_TRY(take_tls(uri, options));
  BB_TRY(uri.reject_unknown());
  struct Positive {
    std::string_view key;
    uint64_t value;
  };
  for (Positive p : {Positive{"queue_depth", depth},
                     {"connections", connections},
                     {"io_timeout", options.io_timeout_ns},
                     {"connect_timeout", options.connect_timeout_ns}}) {
    if (p.value == 0) {
      return error(Code::k_invalid_argument, "URI option {}: 0 is too small", p.key);
    }
  }
  options.queue_depth = static_cast<uint16_t>(depth);
  options.connections = static_cast<uint16_t>(connections);
  return options;
}

}  // namespace bb::io::nbd
