/* SPDX-License-Identifier: MIT */
/* See tls.h. OpenSSL over two memory BIOs; one context serves both roles, and is replaced as a whole by a reload. */
#include "tls.h"

#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MOST (64u << 10)
#define PSK_BYTES 32u
#define ID_PREFIX "larder1."
#define ID_KEY 16u  /* digits that say which key */
#define ID_HOST 32u /* digits that say whose */
#define ID_BYTES (sizeof ID_PREFIX - 1 + ID_KEY + 1 + ID_HOST)

static const unsigned char link_context[] = {'l', 'i', 'n', 'k'}; /* what a pre-shared key is good for */

struct psk {
    uint8_t secret[PSK_BYTES];
    char name[ID_KEY + 1];
};

struct lr_tls {
    SSL_CTX *context;
    unsigned users;
    char host[ID_HOST + 1]; /* random: our own identities are known by it */
    struct psk psk[LR_TLS_KEYS];
    unsigned psk_count;
    char identity[ID_BYTES + 1]; /* what we say when we dial */
    char name[256];
    char text[400];
    bool has_end;
    int64_t end_s;                   /* Unix */
    int64_t list_warn_s, list_end_s; /* of the revocation list that ends first; 0: none has an end */
    unsigned list_count;
};

struct lr_tls_session {
    struct lr_tls *keys;
    SSL *ssl;
    BIO *in, *out; /* the SSL's own */
    enum lr_tls_state state;
    size_t taken;         /* while SHAKING */
    bool other_key, echo; /* the pre-shared key's identity is none of ours, or our own */
    char why[LR_TLS_WHY];
    char with[LR_TLS_WHY];
};

/* ---- files ------------------------------------------------------------------------------------------------------ */

static bool given(const char *text) {
    return text != NULL && text[0] != '\0';
}

/* The contents, of which there are *len, with a NUL behind them. NULL with `why`. */
static char *read_file(const char *option, const char *path, bool secret, size_t *len, char *why) {
    struct stat file;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &file) != 0)
        snprintf(why, LR_WHY_BYTES, "%s: %.300s cannot be opened: %s", option, path, strerror(errno));
    else if (!S_ISREG(file.st_mode))
        snprintf(why, LR_WHY_BYTES, "%s: %.300s is not a regular file", option, path);
    else if (file.st_uid != 0 && file.st_uid != geteuid())
        snprintf(why, LR_WHY_BYTES,
                 "%s: %.300s belongs to user %u; it must belong to root or to user %u, who runs this", option, path,
                 (unsigned)file.st_uid, (unsigned)geteuid());
    else if (secret && (file.st_mode & 077) != 0)
        snprintf(why, LR_WHY_BYTES, "%s: %.300s has mode %04o: others than its owner can use it; chmod 600 it", option,
                 path, (unsigned)file.st_mode & 07777);
    else if ((file.st_mode & 022) != 0)
        snprintf(why, LR_WHY_BYTES, "%s: %.300s has mode %04o: others than its owner can change it; chmod 644 it",
                 option, path, (unsigned)file.st_mode & 07777);
    else if (file.st_size == 0 || file.st_size > (off_t)FILE_MOST)
        snprintf(why, LR_WHY_BYTES, "%s: %.300s has %lld bytes, not 1 to %u", option, path, (long long)file.st_size,
                 FILE_MOST);
    else if ((text = calloc(1, FILE_MOST + 1)) == NULL)
        snprintf(why, LR_WHY_BYTES, "out of memory");
    if (text != NULL) {
        ssize_t got = read(fd, text, FILE_MOST);
        *len = got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    return text;
}

static void wipe(char *text) {
    if (text != NULL)
        OPENSSL_cleanse(text, FILE_MOST);
    free(text);
}

static int no_passphrase(char *buf, int size, int writing, void *context) {
    (void)buf, (void)size, (void)writing, (void)context;
    return -1; /* nobody sits at a terminal */
}

/* ---- certificates ------------------------------------------------------------------------------------------------ */

static bool take_own_certificates(SSL_CTX *context, const char *path, char *why) {
    size_t len = 0, total = 0;
    unsigned count = 0;
    char *text = read_file("tls_cert", path, false, &len, why);
    if (text == NULL)
        return false;
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509 *certificate;
    bool fine = bio != NULL;
    while (fine && (certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        total += (size_t)i2d_X509(certificate, NULL);
        fine = (count++ == 0 ? SSL_CTX_use_certificate(context, certificate)
                             : SSL_CTX_add1_chain_cert(context, certificate)) == 1;
        X509_free(certificate);
    }
    BIO_free(bio);
    wipe(text);
    if (!fine || count == 0)
        snprintf(why, LR_WHY_BYTES, "tls_cert: %.300s holds no certificate that can be used: PEM is expected", path);
    else if (total > LR_TLS_OWN_CHAIN)
        snprintf(why, LR_WHY_BYTES, "tls_cert: the certificates of %.300s have %zu bytes, and peers take at most %u",
                 path, total, LR_TLS_OWN_CHAIN);
    return fine && count > 0 && total <= LR_TLS_OWN_CHAIN;
}

static bool take_key(SSL_CTX *context, const char *path, char *why) {
    size_t len = 0;
    char *text = read_file("tls_key", path, true, &len, why);
    if (text == NULL)
        return false;
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    bool fits = key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
    if (key == NULL)
        snprintf(why, LR_WHY_BYTES,
                 "tls_key: %.300s holds no private key that can be used: PEM without a pass phrase is "
                 "expected",
                 path);
    else if (!fits)
        snprintf(why, LR_WHY_BYTES, "tls_key: the key of %.300s does not belong to the certificate of tls_cert", path);
    EVP_PKEY_free(key);
    BIO_free(bio);
    wipe(text);
    return fits;
}

static bool take_authorities(SSL_CTX *context, const char *path, char *why) {
    size_t len = 0;
    unsigned count = 0;
    char *text = read_file("tls_ca", path, false, &len, why);
    if (text == NULL)
        return false;
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509 *certificate;
    while (bio != NULL && (certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        count += X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1;
        X509_free(certificate);
    }
    BIO_free(bio);
    wipe(text);
    if (count == 0)
        snprintf(why, LR_WHY_BYTES, "tls_ca: %.300s holds no certificate that can be used: PEM is expected", path);
    return count > 0;
}

static int64_t seconds_until(const ASN1_TIME *time) {
    int days = 0, seconds = 0;
    return ASN1_TIME_diff(&days, &seconds, NULL, time) == 1 ? (int64_t)days * 86400 + seconds : INT64_MIN;
}

static void note_end(struct lr_tls *keys, const X509_CRL *list) {
    const ASN1_TIME *from = X509_CRL_get0_lastUpdate(list), *to = X509_CRL_get0_nextUpdate(list);
    const int64_t end_s = to != NULL ? (int64_t)time(NULL) + seconds_until(to) : 0;
    int days = 0, seconds = 0;
    if (to == NULL || (keys->list_end_s != 0 && keys->list_end_s <= end_s) ||
        ASN1_TIME_diff(&days, &seconds, from, to) != 1)
        return;
    keys->list_end_s = end_s;
    keys->list_warn_s = end_s - ((int64_t)days * 86400 + seconds) / 5;
}

/* Who was disowned by those who signed for him. */
static bool take_revoked(struct lr_tls *keys, const char *path, char *why) {
    SSL_CTX *context = keys->context;
    size_t len = 0;
    unsigned count = 0;
    bool ended = false;
    char *text = read_file("tls_crl", path, false, &len, why);
    if (text == NULL)
        return false;
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509_CRL *list;
    while (bio != NULL && (list = PEM_read_bio_X509_CRL(bio, NULL, no_passphrase, NULL)) != NULL) {
        const ASN1_TIME *end = X509_CRL_get0_nextUpdate(list);
        ended |= end != NULL && seconds_until(end) <= 0;
        note_end(keys, list);
        count += X509_STORE_add_crl(SSL_CTX_get_cert_store(context), list) == 1;
        X509_CRL_free(list);
    }
    keys->list_count = count;
    BIO_free(bio);
    wipe(text);
    if (count == 0)
        snprintf(why, LR_WHY_BYTES, "tls_crl: %.300s holds no list that can be used: PEM is expected", path);
    else if (ended)
        snprintf(why, LR_WHY_BYTES, "tls_crl: a list of %.300s should have been replaced by a later one: get that",
                 path);
    return count > 0 && !ended &&
           X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) ==
               1;
}

static void name_of(X509_NAME *name, char *out, size_t cap) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len = 0;
    if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_ONELINE & ~XN_FLAG_SPC_EQ) >= 0)
        len = BIO_get_mem_data(bio, &text);
    snprintf(out, cap, "%.*s", (int)(len < 100 ? len : 100), text != NULL ? text : "");
    BIO_free(bio);
}

static bool judge_own(struct lr_tls *keys, const char *path, char *why) {
    X509 *own = SSL_CTX_get0_certificate(keys->context);
    char subject[128], issuer[128];
    struct tm end = {0};
    int64_t left = seconds_until(X509_get0_notAfter(own));
    ASN1_TIME_to_tm(X509_get0_notAfter(own), &end);
    name_of(X509_get_subject_name(own), subject, sizeof subject);
    name_of(X509_get_issuer_name(own), issuer, sizeof issuer);
    snprintf(keys->text, sizeof keys->text, "certificate %s of %s, until %04d-%02d-%02d", subject, issuer,
             end.tm_year + 1900, end.tm_mon + 1, end.tm_mday);
    keys->has_end = true;
    keys->end_s = (int64_t)time(NULL) + left;
    if (left <= 0)
        snprintf(why, LR_WHY_BYTES, "tls_cert: the certificate of %.300s ended on %04d-%02d-%02d", path,
                 end.tm_year + 1900, end.tm_mon + 1, end.tm_mday);
    return left > 0;
}

/* ---- pre-shared keys --------------------------------------------------------------------------------------------- */

static void digits(const uint8_t *bytes, size_t len, char *out) {
    for (size_t i = 0; i < len; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* One line of the file: 64 hexadecimal digits. */
static bool take_secret(struct lr_tls *keys, const char *line, size_t len) {
    if (len != 2 * PSK_BYTES || keys->psk_count == LR_TLS_KEYS)
        return false;
    struct psk *psk = &keys->psk[keys->psk_count];
    for (size_t i = 0; i < PSK_BYTES; i++) {
        int high = OPENSSL_hexchar2int((unsigned char)line[2 * i]);
        int low = OPENSSL_hexchar2int((unsigned char)line[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        psk->secret[i] = (uint8_t)(high << 4 | low);
    }
    /* The name tells two keys apart and gives nothing away that could be used: it is a hash of 256 random bits. */
    static const char label[] = "larder pre-shared key name";
    uint8_t bytes[sizeof label + PSK_BYTES], hash[32];
    memcpy(bytes, label, sizeof label);
    memcpy(bytes + sizeof label, psk->secret, PSK_BYTES);
    bool hashed = EVP_Digest(bytes, sizeof bytes, hash, NULL, EVP_sha256(), NULL) == 1;
    digits(hash, ID_KEY / 2, psk->name);
    OPENSSL_cleanse(bytes, sizeof bytes);
    keys->psk_count += hashed;
    return hashed;
}

static bool take_secrets(struct lr_tls *keys, const char *path, char *why) {
    size_t len = 0;
    char *text = read_file("tls_psk_file", path, true, &len, why);
    if (text == NULL)
        return false;
    bool fine = true;
    unsigned line = 0;
    for (char *at = text; fine && at < text + len; line++) {
        size_t chars = strcspn(at, "\r\n");
        fine = chars == 0 || at[0] == '#' || take_secret(keys, at, chars);
        at += chars + 1;
    }
    wipe(text);
    if (!fine)
        snprintf(why, LR_WHY_BYTES,
                 "tls_psk_file: line %u of %.250s is no key: 64 hexadecimal digits are expected (openssl "
                 "rand -hex 32), and at most %u lines",
                 line, path, LR_TLS_KEYS);
    else if (keys->psk_count == 0)
        snprintf(why, LR_WHY_BYTES, "tls_psk_file: %.300s holds no key: make one by openssl rand -hex 32", path);
    if (!fine || keys->psk_count == 0)
        return false;
    snprintf(keys->identity, sizeof keys->identity, ID_PREFIX "%s.%s", keys->psk[0].name, keys->host);
    snprintf(keys->text, sizeof keys->text, "pre-shared key %s, accepting %u", keys->psk[0].name, keys->psk_count);
    return true;
}

static SSL_SESSION *session_of(SSL *ssl, const struct psk *psk) {
    static const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
    SSL_SESSION *session = SSL_SESSION_new();
    if (session != NULL && SSL_SESSION_set1_master_key(session, psk->secret, PSK_BYTES) == 1 &&
        SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, aes_128_gcm_sha256)) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1 &&
        SSL_SESSION_set1_id_context(session, link_context, sizeof link_context) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

/* OpenSSL asks what to offer, when we dial. */
static int offer_psk(SSL *ssl, const EVP_MD *digest, const unsigned char **id, size_t *id_len, SSL_SESSION **out) {
    struct lr_tls_session *session = SSL_get_app_data(ssl);
    *out = NULL;
    if (digest != NULL && !EVP_MD_is_a(digest, "SHA256"))
        return 1;
    *id = (const unsigned char *)session->keys->identity;
    *id_len = ID_BYTES;
    *out = session_of(ssl, &session->keys->psk[0]);
    return *out != NULL;
}

/* OpenSSL asks what an identity stands for, when we are dialled. */
static int find_psk(SSL *ssl, const unsigned char *id, size_t len, SSL_SESSION **out) {
    struct lr_tls_session *session = SSL_get_app_data(ssl);
    const struct lr_tls *keys = session->keys;
    const char *key_at = (const char *)id + sizeof ID_PREFIX - 1;
    *out = NULL;
    session->other_key = true;
    if (len != ID_BYTES || CRYPTO_memcmp(id, ID_PREFIX, sizeof ID_PREFIX - 1) != 0)
        return 1;
    session->echo = CRYPTO_memcmp(key_at + ID_KEY + 1, keys->host, ID_HOST) == 0;
    for (unsigned i = 0; i < keys->psk_count && !session->echo && *out == NULL; i++)
        if (CRYPTO_memcmp(key_at, keys->psk[i].name, ID_KEY) == 0)
            *out = session_of(ssl, &keys->psk[i]);
    session->other_key = *out == NULL;
    return 1;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static bool set_rules(struct lr_tls *keys, bool by_psk) {
    SSL_CTX *context = keys->context;
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_early_data(context, 0);
    SSL_CTX_set_max_cert_list(context, LR_TLS_UNPROVED);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (by_psk) {
        SSL_CTX_set_psk_use_session_callback(context, offer_psk);
        SSL_CTX_set_psk_find_session_callback(context, find_psk);
    }
    /* A pre-shared key goes with one hash, and this is the cipher that it is bound to. */
    return SSL_CTX_set_session_id_context(context, link_context, sizeof link_context) == 1 &&
           SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
           (!by_psk || SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1);
}

struct lr_tls *lr_tls_load(const struct lr_tls_files *files, char *why) {
    bool by_psk = given(files->psk);
    uint8_t host[ID_HOST / 2];
    struct lr_tls *keys = calloc(1, sizeof *keys);
    if (keys == NULL || (keys->context = SSL_CTX_new(TLS_method())) == NULL || !set_rules(keys, by_psk) ||
        RAND_bytes(host, sizeof host) != 1) {
        snprintf(why, LR_WHY_BYTES, "TLS 1.3 is not to be had: %.300s", ERR_reason_error_string(ERR_peek_last_error()));
        lr_tls_free(keys);
        ERR_clear_error();
        return NULL;
    }
    keys->users = 1;
    digits(host, sizeof host, keys->host);
    snprintf(keys->name, sizeof keys->name, "%s", given(files->name) ? files->name : "");
    bool loaded =
        by_psk ? take_secrets(keys, files->psk, why)
               : take_own_certificates(keys->context, files->cert, why) && take_key(keys->context, files->key, why) &&
                     take_authorities(keys->context, files->ca, why) &&
                     (!given(files->crl) || take_revoked(keys, files->crl, why)) && judge_own(keys, files->cert, why);
    ERR_clear_error(); /* the end of a PEM file is one */
    if (loaded)
        return keys;
    lr_tls_free(keys);
    return NULL;
}

void lr_tls_free(struct lr_tls *keys) {
    if (keys == NULL || (keys->users > 0 && --keys->users > 0))
        return;
    SSL_CTX_free(keys->context);
    OPENSSL_cleanse(keys, sizeof *keys);
    free(keys);
}

const char *lr_tls_describe(const struct lr_tls *keys) {
    return keys->text;
}

int64_t lr_tls_seconds_left(const struct lr_tls *keys) {
    return keys->has_end ? keys->end_s - (int64_t)time(NULL) : INT64_MAX;
}

unsigned lr_tls_list_count(const struct lr_tls *keys) {
    return keys->list_count;
}

int64_t lr_tls_lists_seconds_left(const struct lr_tls *keys) {
    return keys->list_end_s != 0 ? keys->list_end_s - (int64_t)time(NULL) : INT64_MAX;
}

enum lr_tls_lists lr_tls_lists(const struct lr_tls *keys) {
    const int64_t now = (int64_t)time(NULL);
    if (keys->list_end_s == 0 || now < keys->list_warn_s)
        return LR_TLS_LISTS_FINE;
    return now < keys->list_end_s ? LR_TLS_LISTS_ENDING : LR_TLS_LISTS_ENDED;
}

/* ---- the beginning and the end of a session ---------------------------------------------------------------------- */

/* What the certificate must bear, for OpenSSL to judge in the handshake. */
static bool expect_name(SSL *ssl, const char *name) {
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set1_ip_asc(rules, name) == 1 || X509_VERIFY_PARAM_set1_host(rules, name, 0) == 1;
}

struct lr_tls_session *lr_tls_begin(struct lr_tls *keys, const char *host) {
    struct lr_tls_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->keys = keys;
    session->ssl = SSL_new(keys->context);
    session->in = BIO_new(BIO_s_mem());
    session->out = BIO_new(BIO_s_mem());
    const char *name = keys->name[0] != '\0' ? keys->name : host;
    bool fine = session->ssl != NULL && session->in != NULL && session->out != NULL &&
                (keys->psk_count > 0 || name == NULL || expect_name(session->ssl, name));
    if (!fine) {
        BIO_free(session->in);
        BIO_free(session->out);
        SSL_free(session->ssl);
        free(session);
        ERR_clear_error();
        return NULL;
    }
    keys->users++;
    SSL_set_app_data(session->ssl, session);
    SSL_set_bio(session->ssl, session->in, session->out);
    if (host != NULL)
        SSL_set_connect_state(session->ssl);
    else
        SSL_set_accept_state(session->ssl);
    lr_tls_take(session, "", 0); /* who dials speaks first */
    return session;
}

void lr_tls_end(struct lr_tls_session *session) {
    if (session == NULL)
        return;
    SSL_free(session->ssl);
    lr_tls_free(session->keys);
    free(session);
}

static void fail(struct lr_tls_session *session, const char *why) {
    if (session->state == LR_TLS_ENDED)
        return;
    session->state = LR_TLS_ENDED;
    snprintf(session->why, sizeof session->why, "%s", why);
}

/* OpenSSL's last error in the words of somebody who has to mend it. */
static void fail_as_told(struct lr_tls_session *session) {
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    long verdict = SSL_get_verify_result(session->ssl);
    const char *text = ERR_reason_error_string(error);
    char why[LR_TLS_WHY];
    if (session->echo)
        snprintf(why, sizeof why, "it sends us our own bytes back");
    else if (session->other_key)
        snprintf(why, sizeof why, "its pre-shared key is none of ours");
    else if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
        snprintf(why, sizeof why, "it refuses us: %.150s", SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
    else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        snprintf(why, sizeof why, "its certificate is refused: %.150s", X509_verify_cert_error_string(verdict));
    else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        snprintf(why, sizeof why, "it shows no certificate");
    else if (reason == SSL_R_UNSUPPORTED_PROTOCOL)
        snprintf(why, sizeof why, "it does not speak TLS 1.3");
    else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
             reason == SSL_R_HTTPS_PROXY_REQUEST)
        snprintf(why, sizeof why, "it does not speak TLS: it has no keys, or is no larderd");
    else if (reason == SSL_R_NO_SHARED_CIPHER || reason == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM)
        snprintf(why, sizeof why, "one of us has a pre-shared key and the other a certificate");
    else
        snprintf(why, sizeof why, "TLS: %.150s", text != NULL ? text : "the bytes make no sense");
    ERR_clear_error();
    fail(session, why);
}

static void opened(struct lr_tls_session *session) {
    X509 *certificate = SSL_get0_peer_certificate(session->ssl);
    char subject[128];
    /* OpenSSL has judged already; nothing must be able to get here by another way. */
    if (session->keys->psk_count > 0 ? SSL_session_reused(session->ssl) != 1
                                     : certificate == NULL || SSL_get_verify_result(session->ssl) != X509_V_OK) {
        fail(session, "it has not proved who it is");
        return;
    }
    session->state = LR_TLS_OPEN;
    if (certificate != NULL)
        name_of(X509_get_subject_name(certificate), subject, sizeof subject);
    snprintf(session->with, sizeof session->with, "%s, %s%s, %s", SSL_get_version(session->ssl),
             certificate != NULL ? "certificate " : "pre-shared key", certificate != NULL ? subject : "",
             SSL_get_cipher_name(session->ssl));
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static void shake(struct lr_tls_session *session) {
    ERR_clear_error();
    int result = SSL_do_handshake(session->ssl);
    int error = SSL_get_error(session->ssl, result);
    if (result == 1)
        opened(session);
    else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        fail_as_told(session);
    else if (session->taken == LR_TLS_UNPROVED)
        fail(session, "it has sent 8 KiB without proving who it is");
}

size_t lr_tls_take(struct lr_tls_session *session, const void *bytes, size_t len) {
    if (session->state == LR_TLS_ENDED)
        return len;
    if (session->state == LR_TLS_SHAKING) {
        /* What is not TLS from its first byte on is told from what is broken later. */
        if (session->taken == 0 && len > 0 && ((const uint8_t *)bytes)[0] != SSL3_RT_HANDSHAKE &&
            ((const uint8_t *)bytes)[0] != SSL3_RT_ALERT) {
            fail(session, "it does not speak TLS: it has no keys, or is no larderd");
            return len;
        }
        if (len > LR_TLS_UNPROVED - session->taken)
            len = LR_TLS_UNPROVED - session->taken;
        session->taken += len;
    }
    if (len > 0 && BIO_write(session->in, bytes, (int)len) != (int)len)
        fail(session, "out of memory");
    else if (session->state == LR_TLS_SHAKING)
        shake(session);
    return len;
}

enum lr_tls_state lr_tls_state(const struct lr_tls_session *session) {
    return session->state;
}

size_t lr_tls_read(struct lr_tls_session *session, void *out, size_t cap) {
    size_t got = 0;
    if (session->state != LR_TLS_OPEN)
        return 0;
    ERR_clear_error();
    int result = SSL_read_ex(session->ssl, out, cap, &got);
    int error = SSL_get_error(session->ssl, result);
    if (result == 1)
        return got;
    if (error == SSL_ERROR_ZERO_RETURN)
        fail(session, "closed by the other side");
    else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        fail_as_told(session);
    return 0;
}

bool lr_tls_write(struct lr_tls_session *session, const void *bytes, size_t len) {
    size_t written;
    if (session->state != LR_TLS_OPEN)
        return false;
    ERR_clear_error();
    if (len == 0 || SSL_write_ex(session->ssl, bytes, len, &written) == 1)
        return true;
    fail_as_told(session);
    return false;
}

void lr_tls_say_end(struct lr_tls_session *session) {
    if (session->state == LR_TLS_OPEN)
        SSL_shutdown(session->ssl);
    ERR_clear_error();
}

size_t lr_tls_out(struct lr_tls_session *session, const uint8_t **bytes) {
    char *data = NULL;
    long len = BIO_get_mem_data(session->out, &data);
    *bytes = (const uint8_t *)data;
    return len > 0 ? (size_t)len : 0;
}

void lr_tls_out_taken(struct lr_tls_session *session) {
    (void)BIO_reset(session->out);
}

/* ---- who it is --------------------------------------------------------------------------------------------------- */

bool lr_tls_proves(const struct lr_tls_session *session, const char *host) {
    if (session->state != LR_TLS_OPEN)
        return false;
    if (session->keys->psk_count > 0)
        return true;
    X509 *certificate = SSL_get0_peer_certificate(session->ssl);
    const char *name = session->keys->name[0] != '\0' ? session->keys->name : host;
    bool proves =
        X509_check_ip_asc(certificate, name, 0) == 1 ||
        X509_check_host(certificate, name, 0,
                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
    ERR_clear_error();
    return proves;
}

const char *lr_tls_why(const struct lr_tls_session *session) {
    return session->why;
}

const char *lr_tls_with(const struct lr_tls_session *session) {
    return session->with;
}

int64_t lr_tls_proof_seconds_left(const struct lr_tls_session *session) {
    X509 *certificate = session->state == LR_TLS_OPEN ? SSL_get0_peer_certificate(session->ssl) : NULL;
    return certificate != NULL ? seconds_until(X509_get0_notAfter(certificate)) : INT64_MAX;
}
