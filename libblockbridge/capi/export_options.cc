// SPDX-License-Identifier: Apache-2.0
#include "capi/export_options.h"

#include "io/nvme/host_security.h"

namespace bb::capi {
namespace {

Status bad(std::string_view why) {
  return error(Code::k_invalid_argument, "bb_export_start: {}", why);
}

std::string text_of(const char* text) { return text == nullptr ? "" : text; }

Status check_kind(const bb_export_options& options) {
  bool nbd = options.nbd_read_only != 0 || options.nbd_exclusive != 0 ||
             options.nbd_tls_certificate_file != nullptr || options.nbd_tls_key_file != nullptr ||
             options.nbd_tls_ca_file != nullptr;
  bool nvme = options.allowed_host_count > 0 || options.host_secret_count > 0 ||
              options.ctrl_secret_file != nullptr;
  if (options.kind > BB_EXPORT_UBLK) return bad(fmt::format("no kind {}", options.kind));
  if (options.tls > BB_EXPORT_TLS_REQUIRED) return bad(fmt::format("no tls {}", options.tls));
  if (options.listen == nullptr && options.kind != BB_EXPORT_UBLK) {
    return bad("options.listen is NULL");
  }
  if (nbd && options.kind != BB_EXPORT_NBD) {
    return bad("options whose names begin with nbd_ are for NBD");
  }
  if (nvme && options.kind != BB_EXPORT_NVME_TCP) {
    return bad(
        fmt::format("{} knows no host names: allowed_hosts, host_secrets and "
                    "ctrl_secret_file are for NVMe/TCP",
                    options.kind == BB_EXPORT_NBD ? "NBD" : "ublk"));
  }
  if (options.tls != BB_EXPORT_TLS_OFF && options.kind == BB_EXPORT_UBLK) {
    return bad("tls is for NVMe/TCP and NBD");
  }
  return {};
}

Status read_certificates(const bb_export_options& options, ExportRequest& into) {
  io::TlsOptions files{.role = io::TlsRole::kServer,
                       .certificate_file = text_of(options.nbd_tls_certificate_file),
                       .key_file = text_of(options.nbd_tls_key_file),
                       .ca_file = text_of(options.nbd_tls_ca_file)};
  if (into.tls == io::TlsPolicy::kOff) {
    bool given =
        !files.certificate_file.empty() || !files.key_file.empty() || !files.ca_file.empty();
    return given ? bad("certificates, but tls is off") : Status();
  }
  if (files.certificate_file.empty() || files.key_file.empty()) {
    return bad("tls needs nbd_tls_certificate_file and nbd_tls_key_file");
  }
  BB_ASSIGN(into.certificates, io::TlsContext::create(std::move(files)));
  return {};
}

Status read_host(const bb_host_secret& given, io::nvme::SecurityConfig& into) {
  std::string nqn = text_of(given.host_nqn);
  BB_TRY(io::nvme::check_nqn(nqn).with_context("bb_export_start: a host secret's host_nqn"));
  if (given.dhchap_secret_file == nullptr && given.tls_psk_file == nullptr) {
    return bad(fmt::format("host {}: neither dhchap_secret_file nor tls_psk_file is given", nqn));
  }
  bool twice = false;
  if (given.dhchap_secret_file != nullptr) {
    BB_ASSIGN(auto secret, io::nvme::load_auth_secret(given.dhchap_secret_file));
    twice = !into.hosts.emplace(nqn, std::move(secret)).second;
  }
  if (given.tls_psk_file != nullptr) {
    BB_ASSIGN(auto psk, io::nvme::load_psk(given.tls_psk_file));
    twice = !into.psks.emplace(nqn, std::move(psk)).second || twice;
  }
  return twice ? bad(fmt::format("host {}: its secret comes twice", nqn)) : Status();
}

Status read_hosts(const bb_export_options& options, ExportRequest& into) {
  if (options.allowed_host_count > 0 && options.allowed_hosts == nullptr) {
    return bad("options.allowed_hosts is NULL");
  }
  if (options.host_secret_count > 0 && options.host_secrets == nullptr) {
    return bad("options.host_secrets is NULL");
  }
  for (size_t i = 0; i < options.allowed_host_count; ++i) {
    if (options.allowed_hosts[i] == nullptr) return bad("an allowed host is NULL");
    into.allowed_hosts.emplace_back(options.allowed_hosts[i]);
  }
  for (size_t i = 0; i < options.host_secret_count; ++i) {
    BB_TRY(read_host(options.host_secrets[i], into.security));
  }
  if (into.security.psks.empty() != (into.tls == io::TlsPolicy::kOff)) {
    return bad("tls and the tls_psk_file of a host go together");
  }
  if (options.ctrl_secret_file == nullptr) return {};
  if (into.security.hosts.empty()) return bad("ctrl_secret_file: no host has a dhchap_secret_file");
  BB_ASSIGN(into.security.controller, io::nvme::load_auth_secret(options.ctrl_secret_file));
  return {};
}

}  // namespace

Status read_export_options(const bb_export_options& options, ExportRequest& into) {
  BB_TRY(check_kind(options));
  into.listen = text_of(options.listen);
  into.name = text_of(options.name);
  into.tls = static_cast<io::TlsPolicy>(options.tls);
  into.nbd.read_only = options.nbd_read_only != 0;
  into.nbd.exclusive = options.nbd_exclusive != 0;
  if (options.kind == BB_EXPORT_NBD) return read_certificates(options, into);
  return options.kind == BB_EXPORT_NVME_TCP ? read_hosts(options, into) : Status();
}

}  // namespace bb::capi
