/* SPDX-License-Identifier: MIT */
/* See certs.h. */
#include "certs.h"

#include "fixture.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    CU_ASSERT_PTR_NOT_NULL_FATAL(extension);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

struct cert cert_make(const struct cert_wish *wish, const struct cert *issuer) {
    struct cert cert = {.certificate = X509_new(), .key = EVP_EC_gen("P-256")};
    CU_ASSERT_FATAL(cert.certificate != NULL && cert.key != NULL);
    long serial;
    RAND_bytes((unsigned char *)&serial, sizeof serial);
    bool standing = wish->from_s == 0 && wish->to_s == 0;
    X509 *by = issuer != NULL ? issuer->certificate : cert.certificate;
    X509_NAME *subject = X509_get_subject_name(cert.certificate);
    X509_set_version(cert.certificate, X509_VERSION_3);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(cert.certificate), serial & INT64_MAX);
    X509_gmtime_adj(X509_getm_notBefore(cert.certificate), standing ? -60 : wish->from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert.certificate), standing ? 3600 : wish->to_s);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)wish->subject, -1, -1, 0);
    X509_set_issuer_name(cert.certificate, X509_get_subject_name(by));
    X509_set_pubkey(cert.certificate, cert.key);
    if (issuer == NULL) {
        extend(cert.certificate, by, NID_basic_constraints, "critical,CA:TRUE");
        extend(cert.certificate, by, NID_key_usage, "critical,keyCertSign,cRLSign");
    }
    extend(cert.certificate, by, NID_subject_key_identifier, "hash");
    extend(cert.certificate, by, NID_authority_key_identifier, "keyid");
    if (wish->names != NULL)
        extend(cert.certificate, by, NID_subject_alt_name, wish->names);
    if (wish->usage != NULL)
        extend(cert.certificate, by, NID_ext_key_usage, wish->usage);
    CU_ASSERT_FATAL(X509_sign(cert.certificate, issuer != NULL ? issuer->key : cert.key, EVP_sha256()) > 0);
    return cert;
}

void cert_free(struct cert *cert) {
    X509_free(cert->certificate);
    EVP_PKEY_free(cert->key);
    *cert = (struct cert){0};
}

static FILE *create(const char *path, unsigned mode) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0 && fchmod(fd, mode) == 0);
    return fdopen(fd, "w");
}

void cert_write(const struct cert *cert, const char *certificate_path, const char *key_path) {
    if (certificate_path != NULL) {
        FILE *file = create(certificate_path, 0644);
        PEM_write_X509(file, cert->certificate);
        fclose(file);
    }
    if (key_path != NULL) {
        FILE *file = create(key_path, 0600);
        PEM_write_PrivateKey(file, cert->key, NULL, NULL, 0, NULL, NULL);
        fclose(file);
    }
}

void cert_write_revoked(const struct cert *issuer, const struct cert *revoked, long to_s, const char *path) {
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *from = X509_gmtime_adj(NULL, -3600), *to = X509_gmtime_adj(NULL, to_s);
    FILE *file = fopen(path, "a");
    CU_ASSERT_FATAL(list != NULL && file != NULL);
    X509_CRL_set_version(list, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(issuer->certificate));
    X509_CRL_set1_lastUpdate(list, from);
    X509_CRL_set1_nextUpdate(list, to);
    if (revoked != NULL) {
        X509_REVOKED *row = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(row, X509_get_serialNumber(revoked->certificate));
        X509_REVOKED_set_revocationDate(row, from);
        X509_CRL_add0_revoked(list, row);
    }
    CU_ASSERT_FATAL(X509_CRL_sign(list, issuer->key, EVP_sha256()) > 0);
    PEM_write_X509_CRL(file, list);
    fchmod(fileno(file), 0644);
    fclose(file);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    X509_CRL_free(list);
}

void cert_write_text(const char *path, const char *text, unsigned mode) {
    FILE *file = create(path, mode);
    fputs(text, file);
    fclose(file);
}

void cert_draw_secret(char out[65]) {
    unsigned char bytes[32];
    CU_ASSERT_EQUAL(RAND_bytes(bytes, sizeof bytes), 1);
    for (unsigned i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}
