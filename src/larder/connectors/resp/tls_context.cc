// State that TLS connections share, made from the texts of PEM files.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <utility>

#include "larder/connectors/resp/tls_stream.h"

namespace larder::resp {
namespace {

struct Free {
  void operator()(BIO* bio) const noexcept { ::BIO_free(bio); }
  void operator()(X509* certificate) const noexcept { ::X509_free(certificate); }
  void operator()(EVP_PKEY* key) const noexcept { ::EVP_PKEY_free(key); }
  void operator()(STACK_OF(X509_INFO) * infos) const noexcept {
    sk_X509_INFO_pop_free(infos, ::X509_INFO_free);
  }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

Owned<BIO> reader_of(const std::string& text) {
  return Owned<BIO>{::BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
}

/// Instead of OpenSSL's own, which asks on the terminal.
int no_passphrase(char* /*buffer*/, int /*bytes*/, int /*is_writing*/, void* /*user*/) {
  return -1;
}

bool trust_all(SSL_CTX* context, const std::string& text) {
  const Owned<BIO> reader = reader_of(text);
  if (reader == nullptr) return false;
  const Owned<STACK_OF(X509_INFO)> infos{
      ::PEM_X509_INFO_read_bio(reader.get(), nullptr, no_passphrase, nullptr)};
  if (infos == nullptr) return false;
  X509_STORE* const trusted = ::SSL_CTX_get_cert_store(context);
  int certificates = 0;
  for (int i = 0; i < sk_X509_INFO_num(infos.get()); ++i) {
    const X509_INFO* const info = sk_X509_INFO_value(infos.get(), i);
    if (info->x509 != nullptr && ::X509_STORE_add_cert(trusted, info->x509) == 1) ++certificates;
    if (info->crl != nullptr && ::X509_STORE_add_crl(trusted, info->crl) != 1) return false;
  }
  return certificates > 0;
}

bool show_chain(SSL_CTX* context, const std::string& text) {
  const Owned<BIO> reader = reader_of(text);
  if (reader == nullptr) return false;
  const Owned<X509> first{::PEM_read_bio_X509_AUX(reader.get(), nullptr, no_passphrase, nullptr)};
  if (first == nullptr || ::SSL_CTX_use_certificate(context, first.get()) != 1) return false;
  for (;;) {
    const Owned<X509> next{::PEM_read_bio_X509(reader.get(), nullptr, no_passphrase, nullptr)};
    if (next == nullptr) break;
    if (::SSL_CTX_add1_chain_cert(context, next.get()) != 1) return false;
  }
  return ERR_GET_REASON(::ERR_peek_last_error()) == PEM_R_NO_START_LINE;
}

bool use_key(SSL_CTX* context, const std::string& text) {
  const Owned<BIO> reader = reader_of(text);
  if (reader == nullptr) return false;
  const Owned<EVP_PKEY> key{
      ::PEM_read_bio_PrivateKey(reader.get(), nullptr, no_passphrase, nullptr)};
  return key != nullptr && ::SSL_CTX_use_PrivateKey(context, key.get()) == 1 &&
         ::SSL_CTX_check_private_key(context) == 1;
}

SetupError bad_file(const char* parameter, const std::string& file, const char* remedy) {
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{"resp: "} + parameter + "=" + file + " cannot be used: " + remedy};
}

}  // namespace

TlsContext::TlsContext(ssl_ctx_st* context, std::string server_name)
    : context_(context), server_name_(std::move(server_name)) {}

TlsContext::~TlsContext() {
  ::SSL_CTX_free(context_);
}

SetupResult<std::unique_ptr<TlsContext>> TlsContext::create(const TlsOptions& options,
                                                            const TlsTexts& texts) {
  SSL_CTX* const context = ::SSL_CTX_new(::TLS_client_method());
  if (context == nullptr) {
    return SetupError{ErrorCode::kResourceExhausted, "resp: OpenSSL gives no TLS context"};
  }
  std::unique_ptr<TlsContext> made{new TlsContext{context, options.server_name}};
  ::ERR_clear_error();
  ::SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (options.ca_file.empty()) {
    ::SSL_CTX_set_default_verify_paths(context);
  } else if (!trust_all(context, texts.ca)) {
    return bad_file("tls_ca", options.ca_file, "name a PEM file of CA certificates");
  }
  if (options.certificate_file.empty()) return made;
  if (!show_chain(context, texts.certificate)) {
    return bad_file("tls_certificate", options.certificate_file,
                    "name a PEM file with a certificate");
  }
  if (!use_key(context, texts.key)) {
    return bad_file("tls_key", options.key_file,
                    "name a PEM file with the key of tls_certificate, not encrypted");
  }
  return made;
}

}  // namespace larder::resp
