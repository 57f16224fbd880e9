/* SPDX-License-Identifier: MIT */
/* Certificates for the tests, made when they are needed and never kept. */
#ifndef CERTS_H
#define CERTS_H

#include <openssl/x509.h>

struct cert {
    X509 *certificate;
    EVP_PKEY *key;
};

struct cert_wish {
    const char *subject; /* common name */
    const char *names;   /* subject alternative names: "IP:127.0.0.1,DNS:zero.example"; NULL none */
    long from_s, to_s;   /* seconds from now; both 0: from a minute ago for an hour */
    const char *usage;   /* extended key usage; NULL any */
};

/* `issuer` NULL: an authority, signed by itself. Fails the test, fatally, if it cannot. */
struct cert cert_make(const struct cert_wish *wish, const struct cert *issuer);
void cert_free(struct cert *cert);
/* PEM files; the key's has mode 0600. Either path may be NULL. */
void cert_write(const struct cert *cert, const char *certificate_path, const char *key_path);
/* What `issuer` has revoked: `revoked`, or nothing if that is NULL; the next list is due `to_s` from now. Appended to
 * the file. */
void cert_write_revoked(const struct cert *issuer, const struct cert *revoked, long to_s, const char *path);
/* A file of that mode; "" as text: empty. */
void cert_write_text(const char *path, const char *text, unsigned mode);
/* 64 random hexadecimal digits. */
void cert_draw_secret(char out[65]);

#endif
