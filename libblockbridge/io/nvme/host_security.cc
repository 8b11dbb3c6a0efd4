// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/host_security.h"

#include "io/crypto/random.h"
#include "io/nvme/initiator_connection.h"
#include "io/offload.h"
#include "io/secret_file.h"
#include "io/tls_stream.h"

namespace bb::io::nvme {
namespace {

template <typename T>
Result<T> load(const std::string& path) {
  BB_ASSIGN(Secret text, read_secret_file(path));
  Result<T> parsed = T::parse(as_text(text.bytes()));
  if (!parsed.ok()) return parsed.status().with_context(path);
  return parsed;
}

template <typename T>
Status load_option(const char* option, const std::string& path, std::optional<T>& into) {
  if (path.empty()) return {};
  Result<T> loaded = load<T>(path);
  if (!loaded.ok()) return loaded.status().with_context(option);
  into = std::move(*loaded);
  return {};
}

Status load_all(const SecurityFiles& files, HostSecurity& into) {
  BB_TRY(load_option("URI option dhchap_secret_file", files.dhchap_secret, into.host));
  BB_TRY(
      load_option("URI option dhchap_ctrl_secret_file", files.dhchap_ctrl_secret, into.controller));
  return load_option("URI option tls_psk_file", files.tls_psk, into.psk);
}

Sqe auth_sqe(FabricsType type, size_t length) {
  Sqe sqe;
  sqe.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  sqe.nsid = static_cast<uint32_t>(type);
  sqe.cdw10 = kAuthProtocol;
  sqe.cdw11 = static_cast<uint32_t>(length);
  return sqe;
}

Task<Status> send_message(Context context, InitiatorConnection* connection,
                          std::vector<std::byte> message, uint64_t deadline_ns) {
  SyncCommand command(context.loop);
  command.sqe = auth_sqe(FabricsType::kAuthSend, message.size());
  command.carry(message, true);
  co_return co_await connection->run(&command, deadline_ns);
}

Task<Status> receive_message(Context context, InitiatorConnection* connection, AuthHost* host,
                             uint64_t deadline_ns) {
  std::vector<std::byte> message(kAuthMessageMaxBytes);
  SyncCommand command(context.loop);
  command.sqe = auth_sqe(FabricsType::kAuthReceive, message.size());
  command.carry(message, false);
  BB_CO_TRY(co_await connection->run(&command, deadline_ns));
  host->on_message(message);
  if (DhExchange* exchange = host->exchange()) {
    if (context.offload != nullptr) {
      co_await context.offload->run(context.loop, [exchange] { exchange->compute(); });
    } else {
      exchange->compute();
    }
    host->on_computed();
  }
  co_return Status();
}

}  // namespace

Result<SecurityFiles> take_security_files(Uri& uri) {
  SecurityFiles files{.dhchap_secret = uri.take("dhchap_secret_file"),
                      .dhchap_ctrl_secret = uri.take("dhchap_ctrl_secret_file"),
                      .tls_psk = uri.take("tls_psk_file")};
  BB_ASSIGN(bool tls, uri.take_bool("tls", !files.tls_psk.empty()));
  if (tls && files.tls_psk.empty()) {
    return error(Code::k_invalid_argument, "URI option tls=1: no tls_psk_file");
  }
  if (!tls && !files.tls_psk.empty()) {
    return error(Code::k_invalid_argument, "URI option tls=0 with a tls_psk_file");
  }
  if (files.dhchap_secret.empty() && !files.dhchap_ctrl_secret.empty()) {
    return error(Code::k_invalid_argument,
                 "URI option dhchap_ctrl_secret_file: needs a dhchap_secret_file, too");
  }
  return files;
}

Result<AuthSecret> load_auth_secret(const std::string& path) { return load<AuthSecret>(path); }
Result<PskSecret> load_psk(const std::string& path) { return load<PskSecret>(path); }

Task<Result<std::shared_ptr<const HostSecurity>>> load_security(Context context,
                                                                SecurityFiles files) {
  if (!files.any()) co_return std::shared_ptr<const HostSecurity>();
  auto loaded = std::make_shared<HostSecurity>();
  Status status;
  auto job = [&] { status = load_all(files, *loaded); };
  if (context.offload != nullptr) {
    co_await context.offload->run(context.loop, job);
  } else {
    job();
  }
  if (!status.ok()) co_return status;
  co_return std::shared_ptr<const HostSecurity>(std::move(loaded));
}

Task<Status> authenticate(Context context, InitiatorConnection* connection, bool wanted,
                          std::shared_ptr<const HostSecurity> security, std::string host_nqn,
                          std::string subsystem_nqn, uint64_t deadline_ns) {
  if (!wanted) {
    // Discovery tells names and addresses: whoever is found there has yet to prove itself.
    bool discovery = subsystem_nqn == kDiscoveryNqn;
    if (security == nullptr || !security->controller || discovery) co_return Status();
    co_return error(Code::k_permission_denied,
                    "{}: {} does not ask for authentication, so it cannot prove who it is",
                    connection->peer(), subsystem_nqn);
  }
  if (security == nullptr || !security->host) {
    co_return error(Code::k_permission_denied,
                    "{}: {} wants {} to authenticate itself: give a dhchap_secret_file",
                    connection->peer(), subsystem_nqn, host_nqn);
  }
  std::byte transaction[2];
  secure_random(transaction);
  AuthHost::Options options{.policy = {},
                            .host = *security->host,
                            .controller = security->controller,
                            .host_nqn = host_nqn,
                            .subsystem_nqn = subsystem_nqn,
                            .transaction = load_le<uint16_t>(transaction),
                            .random = secure_random};
  // The controller decides; without a key exchange only if it insists.
  options.policy.groups.push_back(DhGroup::kNull);
  AuthHost host(std::move(options));
  std::string context_text =
      fmt::format("{}: authenticate {} to {}", connection->peer(), host_nqn, subsystem_nqn);
  Status status;
  int sent = 0;
  while (status.ok() && !host.done()) {
    std::vector<std::byte> message = host.next();
    if (!message.empty()) ++sent;
    status = message.empty()
                 ? co_await receive_message(context, connection, &host, deadline_ns)
                 : co_await send_message(context, connection, std::move(message), deadline_ns);
  }
  // Why we refuse matters more than how the controller took the news.
  if (!host.status().ok()) status = host.status();
  // Linux resets the connection together with its verdict, which may then be lost.
  bool responded = sent >= 2;
  if (!status.ok() && status.code() == Code::k_unavailable && responded) {
    status = status.with_context("no verdict on our secret, which it may have refused so");
  }
  co_return status.ok() ? status : status.with_context(context_text);
}

Task<Result<std::unique_ptr<Stream>>> secured(Context context, std::unique_ptr<Stream> stream,
                                              std::shared_ptr<const HostSecurity> security,
                                              std::string host_nqn, std::string subsystem_nqn,
                                              uint64_t deadline_ns) {
  if (security == nullptr || !security->psk) co_return stream;
  PskIdentity identity{
      .hash = security->psk->suite_hash(), .host_nqn = host_nqn, .subsystem_nqn = subsystem_nqn};
  TlsOptions options;
  auto key = security->psk->tls_key(identity);
  Status status = key.status();
  std::shared_ptr<TlsContext> made;
  if (status.ok()) {
    options.psk =
        TlsPsk{.identity = identity.to_string(), .key = std::move(*key), .hash = identity.hash};
    auto created = TlsContext::create(std::move(options));
    status = created.status();
    if (status.ok()) made = std::move(*created);
  }
  if (!status.ok()) {
    co_await stream->close();
    co_return status;
  }
  auto tls = std::make_unique<TlsStream>(context.loop, made, std::move(stream));
  status = co_await tls->handshake(deadline_ns);
  if (!status.ok()) {
    co_await tls->close();
    co_return status;
  }
  co_return std::unique_ptr<Stream>(std::move(tls));
}

}  // namespace bb::io::nvme
