// SPDX-License-Identifier: Apache-2.0
#include "io/crypto/dh.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <array>
#include <memory>

#include "base/check.h"

namespace bb::io {
namespace {

struct Row {
  DhGroup group;
  std::string_view name;
  size_t bytes;
};
constexpr std::array<Row, 6> kGroups = {{{DhGroup::kNull, "null", 0},
                                         {DhGroup::kFfdhe2048, "ffdhe2048", 256},
                                         {DhGroup::kFfdhe3072, "ffdhe3072", 384},
                                         {DhGroup::kFfdhe4096, "ffdhe4096", 512},
                                         {DhGroup::kFfdhe6144, "ffdhe6144", 768},
                                         {DhGroup::kFfdhe8192, "ffdhe8192", 1024}}};

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* one) const {
    kFree(one);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;
using Number = std::unique_ptr<BIGNUM, Free<BN_clear_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Free<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Free<OSSL_PARAM_free>>;

Number number(ConstBytes bytes) {
  return Number(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                          static_cast<int>(bytes.size()), nullptr));
}

KeyContext new_context() { return KeyContext(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr)); }

Key generate(DhGroup group) {
  KeyContext context = new_context();
  std::string name(dh_name(group));
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, name.data(), 0),
      OSSL_PARAM_construct_end()};
  EVP_PKEY* key = nullptr;
  bool made = context != nullptr && EVP_PKEY_keygen_init(context.get()) == 1 &&
              EVP_PKEY_CTX_set_params(context.get(), params) == 1 &&
              EVP_PKEY_generate(context.get(), &key) == 1;
  return made ? Key(key) : nullptr;
}

// A key from its numbers; each of the two may be absent.
Key key_from(DhGroup group, const BIGNUM* public_value, const BIGNUM* private_key) {
  Builder builder(OSSL_PARAM_BLD_new());
  std::string name(dh_name(group));
  bool filled =
      builder != nullptr && OSSL_PARAM_BLD_push_utf8_string(
                                builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, name.c_str(), 0) == 1;
  if (filled && public_value != nullptr) {
    filled = OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, public_value) == 1;
  }
  if (filled && private_key != nullptr) {
    filled = OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, private_key) == 1;
  }
  Params params(filled ? OSSL_PARAM_BLD_to_param(builder.get()) : nullptr);
  KeyContext context = new_context();
  EVP_PKEY* key = nullptr;
  bool made = params != nullptr && context != nullptr &&
              EVP_PKEY_fromdata_init(context.get()) == 1 &&
              EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, params.get()) == 1;
  return made ? Key(key) : nullptr;
}

bool take_number(const EVP_PKEY* key, const char* what, Bytes into) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(key, what, &raw) != 1) return false;
  Number owned(raw);
  return BN_bn2binpad(raw, reinterpret_cast<unsigned char*>(into.data()),
                      static_cast<int>(into.size())) >= 0;
}

bool derive(EVP_PKEY* ours, EVP_PKEY* theirs, Bytes into) {
  KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, ours, nullptr));
  size_t length = into.size();
  // Padded to the prime's length: leading zeroes count (base 2.0 §8.13.5.3).
  return context != nullptr && EVP_PKEY_derive_init(context.get()) == 1 &&
         EVP_PKEY_CTX_set_dh_pad(context.get(), 1) == 1 &&
         EVP_PKEY_derive_set_peer(context.get(), theirs) == 1 &&
         EVP_PKEY_derive(context.get(), reinterpret_cast<unsigned char*>(into.data()), &length) ==
             1 &&
         length == into.size();
}

Status failed(DhGroup group, const char* what) {
  ERR_clear_error();
  return error(Code::k_internal, "{}: {} failed", dh_name(group), what);
}

Status make_key(DhExchange& exchange, Key& key) {
  key = generate(exchange.group);
  exchange.ours.resize(dh_bytes(exchange.group));
  exchange.private_key = Secret(dh_bytes(exchange.group));
  if (key == nullptr || !take_number(key.get(), OSSL_PKEY_PARAM_PUB_KEY, exchange.ours) ||
      !take_number(key.get(), OSSL_PKEY_PARAM_PRIV_KEY, exchange.private_key.bytes())) {
    return failed(exchange.group, "making a key");
  }
  return {};
}

// 1, p - 1 and what is not below p make a secret that everybody knows (RFC 7919 §5.1).
Status check_public(DhGroup group, const EVP_PKEY* any_of_group, const BIGNUM* value) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(any_of_group, OSSL_PKEY_PARAM_FFC_P, &raw) != 1) {
    return failed(group, "finding the prime");
  }
  Number top(raw);
  BN_sub_word(top.get(), 1);
  if (BN_cmp(value, BN_value_one()) <= 0 || BN_cmp(value, top.get()) >= 0) {
    return error(Code::k_invalid_argument, "{}: a public value out of range", dh_name(group));
  }
  return {};
}

Status run(DhExchange& exchange) {
  Key key;
  if (exchange.private_key.empty()) {
    BB_TRY(make_key(exchange, key));
  } else {
    Number mine = number(exchange.private_key.bytes());
    Number pub = number(exchange.ours);
    key = key_from(exchange.group, exchange.ours.empty() ? nullptr : pub.get(), mine.get());
    if (key == nullptr) return failed(exchange.group, "taking a key");
  }
  if (exchange.theirs.empty()) return {};
  if (exchange.theirs.size() != dh_bytes(exchange.group)) {
    return error(Code::k_invalid_argument, "{}: a public value of {} bytes, needed are {}",
                 dh_name(exchange.group), exchange.theirs.size(), dh_bytes(exchange.group));
  }
  Number value = number(exchange.theirs);
  BB_TRY(check_public(exchange.group, key.get(), value.get()));
  Key theirs = key_from(exchange.group, value.get(), nullptr);
  exchange.shared = Secret(dh_bytes(exchange.group));
  if (theirs == nullptr || !derive(key.get(), theirs.get(), exchange.shared.bytes())) {
    exchange.shared.wipe();
    ERR_clear_error();
    return error(Code::k_invalid_argument, "{}: a public value that is of no use",
                 dh_name(exchange.group));
  }
  exchange.private_key.wipe();
  return {};
}

}  // namespace

size_t dh_bytes(DhGroup group) {
  for (const Row& row : kGroups) {
    if (row.group == group) return row.bytes;
  }
  return 0;
}

std::string_view dh_name(DhGroup group) {
  for (const Row& row : kGroups) {
    if (row.group == group) return row.name;
  }
  return "?";
}

std::optional<DhGroup> dh_from_name(std::string_view name) {
  for (const Row& row : kGroups) {
    if (row.name == name) return row.group;
  }
  return std::nullopt;
}

void DhExchange::compute() {
  BB_CHECK(group != DhGroup::kNull, "nothing to compute");
  status = run(*this);
}

}  // namespace bb::io
