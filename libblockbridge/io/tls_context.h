// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "io/crypto/hash.h"

struct ssl_ctx_st;
struct ssl_st;

namespace bb::io {

enum class TlsRole : uint8_t { kClient, kServer };

// A key both sides know beforehand. The hash names the cipher suite that goes with it:
// TLS_AES_128_GCM_SHA256 or TLS_AES_256_GCM_SHA384.
struct TlsPsk {
  std::string identity;  // travels in the clear
  Secret key;            // as long as the hash
  Hash hash = Hash::kSha256;
};

// How one side of TLS 1.3 connections proves who it is and what it asks of the other: pre-shared
// keys or certificates, not both. Nothing older than TLS 1.3; no tickets, no early data.
struct TlsOptions {
  TlsRole role = TlsRole::kClient;

  // Pre-shared keys. A client has one; a server looks up what a client names (nullopt: unknown),
  // on the loop's thread, for as long as the context lives.
  std::optional<TlsPsk> psk;
  std::function<std::optional<TlsPsk>(std::string_view identity)> find_psk;

  // Certificates, PEM files. A server has a certificate (with its chain) and its key, and with a CA
  // asks clients for one too: whoever has none is refused. A client checks the server against the
  // CA and `server_name` (a DNS name or an IP address, required), and may have a certificate
  // itself.
  std::string certificate_file;
  std::string key_file;
  std::string ca_file;
  std::string server_name;
};

// What connections of one kind share: made once, used for many, on one loop's thread.
class TlsContext {
 public:
  // INVALID_ARGUMENT (options that contradict each other, files that are no certificate or key),
  // NOT_FOUND, PERMISSION_DENIED (a file; a key that others may read). Reads files: at start-up, or
  // on a thread that may block.
  static Result<std::shared_ptr<TlsContext>> create(TlsOptions options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  const TlsOptions& options() const { return options_; }
  ssl_st* new_connection() const;  // for TlsStream, who frees it; null: out of memory

 private:
  explicit TlsContext(TlsOptions options) : options_(std::move(options)) {}
  Status load();

  TlsOptions options_;
  ssl_ctx_st* context_ = nullptr;
};

// The newest of OpenSSL's complaints of this thread, in its words; forgets them all.
std::string tls_complaint();

}  // namespace bb::io
