// SPDX-License-Identifier: Apache-2.0
#include "bb-serve-nbd.h"

namespace bb::program {

void add_nbd_arguments(CLI::App& app, NbdArguments* arguments) {
  app.add_option("--nbd", arguments->listen,
                 "listen for NBD: ADDRESS:PORT (port 0 picks one) or unix:PATH; may be repeated");
  app.add_flag("--nbd-read-only", arguments->exports.read_only, "NBD: clients may not write");
  app.add_flag("--nbd-exclusive", arguments->exports.exclusive,
               "NBD: one connection for each device; a new one ends the one before it, and is "
               "served once nothing that was asked on that can happen any more");
  app.add_option("--nbd-tls", arguments->tls,
                 "NBD: TLS off, allowed (a client may ask for it) or required")
      ->capture_default_str();
  io::TlsOptions& files = arguments->certificates;
  app.add_option("--nbd-tls-certificate", files.certificate_file, "NBD: PEM file, with its chain");
  app.add_option("--nbd-tls-key", files.key_file,
                 "NBD: PEM file of the certificate's key, which only its owner may read");
  app.add_option("--nbd-tls-ca", files.ca_file,
                 "NBD: PEM file of an authority; with it clients must show a certificate of it");
}

Result<io::nbd::ServerTls> make_nbd_tls(const NbdArguments& arguments) {
  io::nbd::ServerTls tls;
  const io::TlsOptions& files = arguments.certificates;
  BB_ASSIGN(tls.policy, io::parse_tls_policy("--nbd-tls", arguments.tls));
  if (tls.policy == io::TlsPolicy::kOff) {
    if (files.certificate_file.empty() && files.key_file.empty() && files.ca_file.empty()) {
      return tls;
    }
    return error(Code::k_invalid_argument,
                 "certificates for NBD without --nbd-tls allowed or required");
  }
  if (files.certificate_file.empty() || files.key_file.empty()) {
    return error(Code::k_invalid_argument,
                 "--nbd-tls {} needs --nbd-tls-certificate and --nbd-tls-key", arguments.tls);
  }
  BB_ASSIGN(tls.context, io::TlsContext::create(files));
  return tls;
}

}  // namespace bb::program
