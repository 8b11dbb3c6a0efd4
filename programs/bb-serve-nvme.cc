// SPDX-License-Identifier: Apache-2.0
#include "bb-serve-nvme.h"

#include "base/units.h"
#include "io/nvme/host_security.h"

namespace bb::program {
namespace {

Result<io::nvme::DigestPolicy> parse_digest(std::string_view text) {
  if (text == "on") return io::nvme::DigestPolicy::kAllow;
  if (text == "off") return io::nvme::DigestPolicy::kOff;
  if (text == "require") return io::nvme::DigestPolicy::kRequire;
  return error(Code::k_invalid_argument, "--digest \"{}\" is none of on, off, require", text);
}

Result<uint32_t> parse_bytes(const char* option, const std::string& text) {
  Result<uint64_t> bytes = parse_size_bytes(text);
  if (!bytes.ok()) return bytes.status().with_context(option);
  if (*bytes > UINT32_MAX) {
    return error(Code::k_invalid_argument, "{}: {} bytes, at most {} are allowed", option, *bytes,
                 UINT32_MAX);
  }
  return static_cast<uint32_t>(*bytes);
}

// NQN=FILE, as --host-secret and --host-psk take it.
template <typename T, typename Load>
Status load_named(const char* option, const std::vector<std::string>& given, const Load& load,
                  std::map<std::string, T, std::less<>>& into) {
  for (const std::string& text : given) {
    size_t equals = text.rfind('=');
    if (equals == std::string::npos) {
      return error(Code::k_invalid_argument, "{} \"{}\": expected NQN=FILE", option, text);
    }
    std::string nqn = text.substr(0, equals);
    BB_TRY(io::nvme::check_nqn(nqn).with_context(option));
    Result<T> loaded = load(text.substr(equals + 1));
    if (!loaded.ok()) return loaded.status().with_context(option);
    if (!into.emplace(nqn, std::move(*loaded)).second) {
      return error(Code::k_invalid_argument, "{}: {} comes twice", option, nqn);
    }
  }
  return {};
}

Result<io::nvme::SecurityConfig> load_security(const NvmeArguments& arguments) {
  io::nvme::SecurityConfig security;
  BB_TRY(load_named("--host-secret", arguments.host_secrets, io::nvme::load_auth_secret,
                    security.hosts));
  BB_TRY(load_named("--host-psk", arguments.host_psks, io::nvme::load_psk, security.psks));
  if (arguments.ctrl_secret.empty()) return security;
  if (security.hosts.empty()) {
    return error(Code::k_invalid_argument, "--ctrl-secret: no host has a --host-secret");
  }
  Result<io::nvme::AuthSecret> secret = io::nvme::load_auth_secret(arguments.ctrl_secret);
  if (!secret.ok()) return secret.status().with_context("--ctrl-secret");
  security.controller = std::move(*secret);
  return security;
}

struct AnaChange {
  uint16_t port = 0;
  uint32_t group = 0;
  io::nvme::AnaState state = io::nvme::AnaState::kOptimized;
};

Result<AnaChange> parse_ana_change(std::string_view text) {
  auto bad = [text](const Status& why) {
    return why.with_context(fmt::format("--ana-state \"{}\"", text));
  };
  size_t equals = text.find('=');
  size_t slash = text.substr(0, equals).find('/');
  size_t group_at = slash == std::string_view::npos ? 0 : slash + 1;
  if (equals == std::string_view::npos) {
    return bad(error(Code::k_invalid_argument, "it is not [PORT/]GROUP=STATE"));
  }
  AnaChange change;
  if (group_at > 0) {
    auto port = parse_u64(text.substr(0, slash), UINT16_MAX);
    if (!port.ok()) return bad(port.status());
    change.port = static_cast<uint16_t>(*port);
  }
  auto group = parse_u64(text.substr(group_at, equals - group_at), UINT32_MAX);
  if (!group.ok()) return bad(group.status());
  change.group = static_cast<uint32_t>(*group);
  auto state = io::nvme::parse_ana_state(text.substr(equals + 1));
  if (!state.ok()) return bad(state.status());
  change.state = *state;
  return change;
}

// The n-th --uuid, or a fresh one: two machines must never show hosts the same disk by accident.
Result<Uuid> uuid_of(io::Context context, const NvmeArguments& arguments, size_t index) {
  if (index < arguments.uuids.size()) return Uuid::parse(arguments.uuids[index]);
  return Uuid::random(context.loop.prng());
}

}  // namespace

void add_nvme_arguments(CLI::App& app, NvmeArguments* arguments) {
  app.add_option("--nvme-tcp", arguments->listen,
                 "listen for NVMe/TCP: ADDRESS:PORT (port 0 picks one); may be repeated");
  app.add_option("--uuid", arguments->uuids,
                 "uuid of the n-th device, part of its NQN; fresh ones otherwise");
  app.add_flag("--one-subsystem", arguments->one_subsystem,
               "NVMe/TCP: the devices are namespaces 1, 2, ... of one subsystem, named after the "
               "first, instead of a subsystem each");
  app.add_option("--ana-group", arguments->ana_groups,
                 "NVMe/TCP: group of asymmetric access of the n-th device, 1 to 32; 1 otherwise");
  app.add_option(
      "--ana-state", arguments->ana_states,
      "NVMe/TCP: [PORT/]GROUP=STATE at the start: optimized, non-optimized, inaccessible, "
      "persistent-loss or change; PORT is the place of a --nvme-tcp, from 1 on; may be "
      "repeated");
  app.add_option("--allow-host", arguments->allowed_hosts,
                 "NQN of a host that NVMe/TCP admits; may be repeated; any without");
  app.add_flag("--single-association", arguments->single_association,
               "NVMe/TCP: a host that connects anew by an address ends what it had there, and is "
               "let in once nothing of that can happen any more; for our own initiator, whose "
               "writes then go on at once after a lost connection");
  app.add_option("--host-secret", arguments->host_secrets,
                 "NQN=FILE: this host must prove that it knows the DH-HMAC-CHAP secret in FILE "
                 "(DHHC-1:..., mode 0600); hosts without one are refused then; may be repeated");
  app.add_option("--ctrl-secret", arguments->ctrl_secret,
                 "FILE with the DH-HMAC-CHAP secret that proves us to hosts that ask for it");
  app.add_option("--tls", arguments->tls,
                 "NVMe/TCP over TLS 1.3: off, allowed (hosts without keys come in the clear), "
                 "required")
      ->capture_default_str();
  app.add_option("--host-psk", arguments->host_psks,
                 "NQN=FILE: this host comes by TLS with the key in FILE (NVMeTLSkey-1:..., mode "
                 "0600); hosts without one are refused then; may be repeated");
  app.add_option("--digest", arguments->digest,
                 "NVMe/TCP digests: on (when the host asks), off, require")
      ->capture_default_str();
  io::nvme::TargetLimits& limits = arguments->limits;
  app.add_option("--nvme-controllers", limits.controllers,
                 "NVMe/TCP: associations at once, of all hosts")
      ->capture_default_str();
  app.add_option("--nvme-queues", limits.io_queues, "NVMe/TCP: I/O queues of a controller")
      ->capture_default_str();
  app.add_option("--nvme-queue-depth", limits.io_queue_depth, "NVMe/TCP: entries of an I/O queue")
      ->capture_default_str();
  app.add_option("--nvme-transfer", arguments->transfer,
                 "NVMe/TCP: most data of one command (MDTS), a power of two from 8KiB on; less "
                 "where a device takes less")
      ->capture_default_str();
  app.add_option("--nvme-capsule-data", arguments->capsule_data,
                 "NVMe/TCP: most data that a write may carry in its capsule, up to 64KiB")
      ->capture_default_str();
  app.add_option("--nvme-keep-alive-grace", arguments->keep_alive_grace,
                 "NVMe/TCP: how long after its keep alive timeout a silent host is cut off")
      ->capture_default_str();
  app.add_option("--reservations", arguments->reservations,
                 "NVMe/TCP: folder where reservations outlive this program, for hosts that ask for "
                 "it; needs a --uuid for each --device");
}

Result<io::nvme::TargetOptions> nvme_target_options(const NvmeArguments& arguments) {
  io::nvme::TargetOptions options;
  options.slow_ns = arguments.slow_ns;
  for (const std::string& address : arguments.listen) options.listen.push_back({address});
  BB_ASSIGN(options.digests, parse_digest(arguments.digest));
  BB_ASSIGN(options.tls, io::parse_tls_policy("--tls", arguments.tls));
  options.limits = arguments.limits;
  BB_ASSIGN(options.limits.transfer_bytes, parse_bytes("--nvme-transfer", arguments.transfer));
  BB_ASSIGN(options.limits.capsule_data_bytes,
            parse_bytes("--nvme-capsule-data", arguments.capsule_data));
  Result<uint64_t> grace_ns = parse_duration_ns(arguments.keep_alive_grace);
  if (!grace_ns.ok()) return grace_ns.status().with_context("--nvme-keep-alive-grace");
  options.limits.keep_alive_grace_ns = *grace_ns;
  BB_TRY(io::nvme::check_limits(options.limits));
  for (const std::string& text : arguments.ana_states) BB_TRY(parse_ana_change(text).status());
  return options;
}

io::Task<Status> set_ana_states(io::nvme::TargetGroup* target, const NvmeArguments* arguments) {
  for (const std::string& text : arguments->ana_states) {
    BB_CO_ASSIGN(AnaChange change, parse_ana_change(text));
    BB_CO_TRY(co_await target->set_ana_state(change.port, change.group, change.state));
  }
  co_return Status();
}

io::Task<Result<std::vector<std::string>>> publish_nvme(Loops* loops,
                                                        const NvmeArguments* arguments,
                                                        const std::vector<io::Device*>* devices,
                                                        io::nvme::TargetGroup* target,
                                                        Reservations* reservations) {
  BB_CO_ASSIGN(io::nvme::SecurityConfig security, load_security(*arguments));
  std::vector<io::nvme::SubsystemOptions> subsystems;
  for (size_t i = 0; i < devices->size(); ++i) {
    BB_CO_ASSIGN(Uuid uuid, uuid_of(loops->front(), *arguments, i));
    if (i == 0 || !arguments->one_subsystem) {
      subsystems.push_back({.nqn = "nqn.2026-11.io.blockbridge:disk:" + uuid.to_string(),
                            .uuid = uuid,
                            .allowed_hosts = arguments->allowed_hosts,
                            .security = security,
                            .single_association = arguments->single_association});
    }
    bool grouped = i < arguments->ana_groups.size();
    io::nvme::NamespaceOptions one{
        .device = (*devices)[i], .uuid = uuid, .ana_group = grouped ? arguments->ana_groups[i] : 1};
    if (!arguments->reservations.empty()) {
      reservations->push_back(
          std::make_unique<io::nvme::ReservationFile>(loops->at(i), arguments->reservations, uuid));
      one.reservation_store = reservations->back().get();
      auto load = [file = reservations->back().get()] { return file->load(); };
      BB_CO_ASSIGN(one.reservation, co_await loops->run(i, load));
    }
    subsystems.back().namespaces.push_back(std::move(one));
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < subsystems.size(); ++i) {
    names.push_back(subsystems[i].nqn);
    BB_CO_TRY(co_await target->add_subsystem(loops->place(i), std::move(subsystems[i])));
  }
  co_return names;
}

}  // namespace bb::program
