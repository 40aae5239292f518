#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

// Macros of OpenSSL that Swift does not see.

static inline int hf_ssl_set_minimum_tls12(SSL_CTX *context) {
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

static inline long hf_ssl_set_server_name(SSL *ssl, const char *name) { return SSL_set_tlsext_host_name(ssl, name); }

static inline void hf_ssl_partial_writes(SSL *ssl) {
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static inline size_t hf_bio_pending(BIO *bio) { return BIO_ctrl_pending(bio); }

// An empty BIO means "later", and not the end.
static inline void hf_bio_never_ends(BIO *bio) { BIO_set_mem_eof_return(bio, -1); }

static inline long hf_bio_memory(BIO *bio, char **bytes) { return BIO_get_mem_data(bio, bytes); }
