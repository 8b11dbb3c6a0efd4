// SPDX-License-Identifier: Apache-2.0
#include "io/tls_context.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>

#include "base/check.h"
#include "io/secret_file.h"
#include "io/tls_hello.h"

namespace bb::io {
namespace {

constexpr const char* kSuite128 = "TLS_AES_128_GCM_SHA256";
constexpr const char* kSuite256 = "TLS_AES_256_GCM_SHA384";
constexpr std::array<unsigned char, 2> kId128 = {0x13, 0x01};
constexpr std::array<unsigned char, 2> kId256 = {0x13, 0x02};

const std::array<unsigned char, 2>& suite_id(const TlsPsk& psk) {
  return psk.hash == Hash::kSha384 ? kId256 : kId128;
}
const char* suite_name(const TlsPsk& psk) {
  return psk.hash == Hash::kSha384 ? kSuite256 : kSuite128;
}

const TlsOptions& options_of(SSL* ssl) {
  auto* context = static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  return context->options();
}

// How OpenSSL wants a pre-shared key of TLS 1.3: as a session that never was.
SSL_SESSION* session_of(SSL* ssl, const TlsPsk& psk) {
  const SSL_CIPHER* suite = SSL_CIPHER_find(ssl, suite_id(psk).data());
  SSL_SESSION* session = SSL_SESSION_new();
  if (session == nullptr || suite == nullptr ||
      SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(psk.key.data()),
                                  psk.key.size()) != 1 ||
      SSL_SESSION_set_cipher(session, suite) != 1 ||
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
    SSL_SESSION_free(session);
    return nullptr;
  }
  return session;
}

int use_session(SSL* ssl, const EVP_MD* hash, const unsigned char** identity, size_t* length,
                SSL_SESSION** session) {
  const TlsPsk& psk = *options_of(ssl).psk;
  *session = nullptr;
  *identity = nullptr;
  *length = 0;
  // After a HelloRetryRequest the suite is settled: a key for another one is of no use.
  bool fits = hash == nullptr || static_cast<size_t>(EVP_MD_get_size(hash)) == psk.key.size();
  if (!fits) return 1;
  *session = session_of(ssl, psk);
  *identity = reinterpret_cast<const unsigned char*>(psk.identity.data());
  *length = psk.identity.size();
  return *session != nullptr ? 1 : 0;
}

int find_session(SSL* ssl, const unsigned char* identity, size_t length, SSL_SESSION** session) {
  *session = nullptr;
  auto psk = options_of(ssl).find_psk({reinterpret_cast<const char*>(identity), length});
  if (!psk) return 1;  // unknown: the handshake goes on, and fails for want of a certificate
  *session = session_of(ssl, *psk);
  if (*session == nullptr) return 0;
  auto* known = static_cast<std::string*>(SSL_get_app_data(ssl));
  if (known != nullptr) *known = psk->identity;
  return 1;
}

bool client_offers(SSL* ssl, const std::array<unsigned char, 2>& suite) {
  const unsigned char* ids = nullptr;
  size_t length = SSL_client_hello_get0_ciphers(ssl, &ids);
  for (size_t at = 0; at + 1 < length; at += 2) {
    if (ids[at] == suite[0] && ids[at + 1] == suite[1]) return true;
  }
  return false;
}

// OpenSSL settles the suite by the order of the lists before it looks for a key, and then takes no
// key for another suite: who offers both suites and has a key for one of them would be refused. So
// the suite of the first key that is known becomes the only one.
int choose_suite(SSL* ssl, int* /*alert*/, void* /*argument*/) {
  const unsigned char* data = nullptr;
  size_t length = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &data, &length) != 1) {
    return SSL_CLIENT_HELLO_SUCCESS;
  }
  std::string_view extension(reinterpret_cast<const char*>(data), length);
  for (std::string_view identity : offered_identities(as_bytes(extension))) {
    auto psk = options_of(ssl).find_psk(identity);
    if (!psk || !client_offers(ssl, suite_id(*psk))) continue;
    bool chosen = SSL_set_ciphersuites(ssl, suite_name(*psk)) == 1;
    return chosen ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
  }
  return SSL_CLIENT_HELLO_SUCCESS;
}

Status check(const TlsOptions& options) {
  bool server = options.role == TlsRole::kServer;
  bool keys = options.psk.has_value() || options.find_psk != nullptr;
  bool files =
      !options.certificate_file.empty() || !options.key_file.empty() || !options.ca_file.empty();
  if (keys == files) {
    return error(Code::k_invalid_argument,
                 "TLS: needed are pre-shared keys or certificates, and not both");
  }
  if (keys && (server ? options.find_psk == nullptr : !options.psk.has_value())) {
    return error(Code::k_invalid_argument, "TLS: a client has a key, a server finds it");
  }
  if (options.psk && (options.psk->hash == Hash::kSha512 ||
                      options.psk->key.size() != hash_bytes(options.psk->hash))) {
    return error(Code::k_invalid_argument, "TLS: a pre-shared key of {} bytes for {}",
                 options.psk->key.size(), hash_name(options.psk->hash));
  }
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return error(Code::k_invalid_argument, "TLS: a certificate and its key go together");
  }
  if (files && server && options.certificate_file.empty()) {
    return error(Code::k_invalid_argument, "TLS: a server without a certificate");
  }
  if (files && !server && (options.ca_file.empty() || options.server_name.empty())) {
    return error(Code::k_invalid_argument,
                 "TLS: a client needs a CA and the server's name to check it");
  }
  return {};
}

Status bad_file(const std::string& path, const char* what) {
  return error(Code::k_invalid_argument, "{}: {}: {}", path, what, tls_complaint());
}

Status load_files(SSL_CTX* context, const TlsOptions& options) {
  if (!options.certificate_file.empty()) {
    BB_TRY(check_readable(options.certificate_file));
    BB_TRY(check_private(options.key_file));
    if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
      return bad_file(options.certificate_file, "no certificate in PEM");
    }
    if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
      return bad_file(options.key_file, "not the certificate's key in PEM");
    }
  }
  if (options.ca_file.empty()) return {};
  BB_TRY(check_readable(options.ca_file));
  if (SSL_CTX_load_verify_file(context, options.ca_file.c_str()) != 1) {
    return bad_file(options.ca_file, "no CA certificate in PEM");
  }
  int mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(context, mode, nullptr);
  return {};
}

bool set_name(SSL* ssl, const std::string& name) {
  in6_addr scratch;
  bool address = inet_pton(AF_INET, name.c_str(), &scratch) == 1 ||
                 inet_pton(AF_INET6, name.c_str(), &scratch) == 1;
  if (address) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
  return SSL_set1_host(ssl, name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
}

}  // namespace

std::string tls_complaint() {
  unsigned long newest = ERR_peek_last_error();  // NOLINT: OpenSSL's type
  const char* reason = newest == 0 ? nullptr : ERR_reason_error_string(newest);
  std::string text = reason != nullptr ? reason : "no reason given";
  ERR_clear_error();
  return text;
}

Result<std::shared_ptr<TlsContext>> TlsContext::create(TlsOptions options) {
  BB_TRY(check(options));
  std::shared_ptr<TlsContext> made(new TlsContext(std::move(options)));
  BB_TRY(made->load());
  return made;
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

Status TlsContext::load() {
  ERR_clear_error();
  bool server = options_.role == TlsRole::kServer;
  context_ = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (context_ == nullptr) return error(Code::k_internal, "TLS: {}", tls_complaint());
  SSL_CTX_set_app_data(context_, this);
  SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
  SSL_CTX_set_options(context_, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context_, 0);
  SSL_CTX_set_max_early_data(context_, 0);
  SSL_CTX_set_recv_max_early_data(context_, 0);
  SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS);
  std::string suites = fmt::format("{}:{}", kSuite128, kSuite256);
  if (options_.psk) suites = suite_name(*options_.psk);
  if (SSL_CTX_set_ciphersuites(context_, suites.c_str()) != 1) {
    return error(Code::k_internal, "TLS: {}: {}", suites, tls_complaint());
  }
  if (options_.psk) SSL_CTX_set_psk_use_session_callback(context_, use_session);
  if (options_.find_psk) {
    SSL_CTX_set_client_hello_cb(context_, choose_suite, nullptr);
    SSL_CTX_set_psk_find_session_callback(context_, find_session);
  }
  return load_files(context_, options_);
}

ssl_st* TlsContext::new_connection() const {
  SSL* ssl = SSL_new(context_);
  if (ssl == nullptr) return nullptr;
  if (options_.role == TlsRole::kServer) {
    SSL_set_accept_state(ssl);
    return ssl;
  }
  SSL_set_connect_state(ssl);
  // A client that asked for a key must not be talked into a certificate nobody checks.
  if (options_.psk) SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  if (!options_.server_name.empty() && !set_name(ssl, options_.server_name)) {
    SSL_free(ssl);
    return nullptr;
  }
  return ssl;
}

}  // namespace bb::io
