/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end? Two sessions (sidecar/tls.h) in one process, and what somebody in between or at the other
 * end can do to them. Daemons with keys: 95_keys.
 */
#include "tls.h"

#include "certs.h"
#include "fixture.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/stat.h>

#define FILES 8u

/* ---- keys of the test ---------------------------------------------------------------------------------------------
 */

static char files[FILES][1024]; /* paths, used in turn */
static struct cert authority, stranger;

static const char *path_of(unsigned i) {
    snprintf(files[i], sizeof files[i], "%s/tls.%u", fixture_folder(), i);
    return files[i];
}

static void make_authorities(void) {
    if (authority.key != NULL)
        return;
    authority = cert_make(&(struct cert_wish){.subject = "our authority"}, NULL);
    stranger = cert_make(&(struct cert_wish){.subject = "another authority"}, NULL);
}

/* Keys by a certificate that `issuer` signs, believing in `believed`. */
static struct lr_tls *keys_by(const struct cert_wish *wish, const struct cert *issuer, const struct cert *believed,
                              const char *name) {
    char why[LR_WHY_BYTES] = "";
    struct cert cert = cert_make(wish, issuer);
    struct lr_tls_files from = {.cert = path_of(0), .key = path_of(1), .ca = path_of(2), .name = name};
    cert_write(&cert, from.cert, from.key);
    cert_write(believed, from.ca, NULL);
    struct lr_tls *keys = lr_tls_load(&from, why);
    if (keys == NULL)
        printf("\n    %s\n", why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(keys);
    cert_free(&cert);
    return keys;
}

static struct lr_tls *keys_of(const char *names) {
    make_authorities();
    return keys_by(&(struct cert_wish){.subject = "a host", .names = names}, &authority, &authority, NULL);
}

static struct lr_tls *keys_with(const char *secrets) {
    char why[LR_WHY_BYTES] = "";
    struct lr_tls_files from = {.psk = path_of(3)};
    cert_write_text(from.psk, secrets, 0600);
    struct lr_tls *keys = lr_tls_load(&from, why);
    if (keys == NULL)
        printf("\n    %s\n", why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(keys);
    return keys;
}

/* ---- two sessions --------------------------------------------------------------------------------------------------
 */

struct end {
    struct lr_tls_session *session;
    uint8_t sent[1 << 17]; /* all that it has put on the network */
    size_t sent_len, flip; /* flip: byte whose lowest bit is changed on the way; SIZE_MAX none */
    uint8_t got[1 << 17];  /* what it has read */
    size_t got_len;
};

static struct end dialler, listener;

static void begin(struct lr_tls *from, struct lr_tls *to, const char *host) {
    dialler.sent_len = listener.sent_len = dialler.got_len = listener.got_len = 0;
    dialler.flip = listener.flip = SIZE_MAX;
    dialler.session = lr_tls_begin(from, host);
    listener.session = lr_tls_begin(to, NULL);
    CU_ASSERT_FATAL(dialler.session != NULL && listener.session != NULL);
}

static void finish(void) {
    lr_tls_end(dialler.session);
    lr_tls_end(listener.session);
}

static void read_all(struct end *end) {
    size_t got;
    while ((got = lr_tls_read(end->session, end->got + end->got_len, sizeof end->got - end->got_len)) > 0)
        end->got_len += got;
}

static void hand_over(struct lr_tls_session *session, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        size_t taken = lr_tls_take(session, bytes, len);
        bytes += taken;
        len -= taken;
    }
}

/* What one end has to say goes to the other. False: nothing. */
static bool carry(struct end *from, struct end *to) {
    const uint8_t *bytes;
    size_t len = lr_tls_out(from->session, &bytes);
    if (len == 0)
        return false;
    CU_ASSERT_FATAL(from->sent_len + len <= sizeof from->sent);
    uint8_t *copy = from->sent + from->sent_len;
    memcpy(copy, bytes, len);
    lr_tls_out_taken(from->session);
    if (from->flip >= from->sent_len && from->flip < from->sent_len + len)
        copy[from->flip - from->sent_len] ^= 1;
    from->sent_len += len;
    hand_over(to->session, copy, len);
    read_all(to);
    return true;
}

/* Until both have nothing more to say. */
static void pump(void) {
    for (bool more = true; more;) {
        more = carry(&dialler, &listener);
        more |= carry(&listener, &dialler);
    }
}

static bool open_both(void) {
    pump();
    return lr_tls_state(dialler.session) == LR_TLS_OPEN && lr_tls_state(listener.session) == LR_TLS_OPEN;
}

static void say(struct end *from, const char *text) {
    lr_tls_write(from->session, text, strlen(text));
}

static bool heard(const struct end *end, const char *text) {
    return end->got_len == strlen(text) && memcmp(end->got, text, end->got_len) == 0;
}

/* The one at `end` gives this reason for its end. */
static void expect_why(const struct end *end, const char *why) {
    const char *told = lr_tls_why(end->session);
    if (lr_tls_state(end->session) != LR_TLS_ENDED || strstr(told, why) == NULL)
        printf("\n    \"%s\" in place of \"%s\"\n", told, why);
    CU_ASSERT_EQUAL(lr_tls_state(end->session), LR_TLS_ENDED);
    CU_ASSERT_PTR_NOT_NULL(strstr(told, why));
}

/* A session between the two must fail, by the judgement of `judge`, for this reason, and nothing is read by it. */
static void expect_refusal(struct lr_tls *from, struct lr_tls *to, const char *host, const struct end *judge,
                           const char *why) {
    begin(from, to, host);
    pump();
    say(&dialler, "secret"); /* a dialler may believe for a moment that it is open */
    pump();
    expect_why(judge, why);
    CU_ASSERT_EQUAL(judge->got_len, 0);
    CU_ASSERT_NOT_EQUAL(lr_tls_state(dialler.session), LR_TLS_OPEN);
    CU_ASSERT_NOT_EQUAL(lr_tls_state(listener.session), LR_TLS_OPEN);
    finish();
}

/* ---- what works -----------------------------------------------------------------------------------------------------
 */

static void carry_both_ways(struct lr_tls *from, struct lr_tls *to, const char *host) {
    static uint8_t large[100000];
    begin(from, to, host);
    CU_ASSERT_FATAL(open_both());
    say(&dialler, "there");
    say(&listener, "and back");
    pump();
    CU_ASSERT(heard(&listener, "there") && heard(&dialler, "and back"));
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 7);
    listener.got_len = 0;
    CU_ASSERT(lr_tls_write(dialler.session, large, sizeof large));
    pump();
    CU_ASSERT(listener.got_len == sizeof large && memcmp(listener.got, large, sizeof large) == 0);
    lr_tls_say_end(dialler.session);
    pump();
    expect_why(&listener, "closed by the other side");
    finish();
}

static void both_sides_prove_who_they_are_by_certificates(void) {
    struct lr_tls *zero = keys_of("IP:10.0.0.1,DNS:zero.example"), *one = keys_of("IP:10.0.0.2,DNS:one.example");
    carry_both_ways(zero, one, "10.0.0.2");
    carry_both_ways(one, zero, "zero.example");
    begin(zero, one, "one.example");
    CU_ASSERT(open_both());
    CU_ASSERT_STRING_EQUAL(lr_tls_with(dialler.session), "TLSv1.3, certificate CN=a host, TLS_AES_256_GCM_SHA384");
    CU_ASSERT(lr_tls_proof_seconds_left(listener.session) > 3500 &&
              lr_tls_proof_seconds_left(listener.session) <= 3600);
    CU_ASSERT(lr_tls_proves(listener.session, "zero.example") && lr_tls_proves(listener.session, "10.0.0.1"));
    CU_ASSERT_FALSE(lr_tls_proves(listener.session, "one.example"));
    CU_ASSERT_FALSE(lr_tls_proves(listener.session, "10.0.0.2"));
    CU_ASSERT_FALSE(lr_tls_proves(listener.session, "a host"));
    finish();
    CU_ASSERT_PTR_NOT_NULL(strstr(lr_tls_describe(zero), "certificate CN=a host of CN=our authority, until 20"));
    CU_ASSERT(lr_tls_seconds_left(zero) > 3500 && lr_tls_seconds_left(zero) <= 3600);
    lr_tls_free(zero);
    lr_tls_free(one);
}

static void a_key_that_both_have_is_a_proof(void) {
    char secrets[2][65], both[160];
    cert_draw_secret(secrets[0]);
    cert_draw_secret(secrets[1]);
    struct lr_tls *zero = keys_with(secrets[0]), *one = keys_with(secrets[0]), *other = keys_with(secrets[1]);
    carry_both_ways(zero, one, "10.0.0.2");
    begin(zero, one, "10.0.0.2");
    CU_ASSERT(open_both() && lr_tls_proves(listener.session, "any"));
    CU_ASSERT_STRING_EQUAL(lr_tls_with(listener.session), "TLSv1.3, pre-shared key, TLS_AES_128_GCM_SHA256");
    CU_ASSERT_EQUAL(lr_tls_proof_seconds_left(listener.session), INT64_MAX);
    finish();
    expect_refusal(zero, other, "10.0.0.2", &listener, "its pre-shared key is none of ours");
    /* From one key to the next: the file of those who go ahead has both. */
    snprintf(both, sizeof both, "# new first\n%s\n\n%s\n", secrets[1], secrets[0]);
    struct lr_tls *changing = keys_with(both);
    carry_both_ways(zero, changing, "10.0.0.2");
    carry_both_ways(changing, other, "10.0.0.2");
    expect_refusal(changing, zero, "10.0.0.2", &listener, "its pre-shared key is none of ours");
    lr_tls_free(zero);
    lr_tls_free(one);
    lr_tls_free(other);
    lr_tls_free(changing);
}

static void keys_outlive_their_reload_in_open_sessions(void) {
    struct lr_tls *zero = keys_of("DNS:zero"), *one = keys_of("DNS:one");
    begin(zero, one, "one");
    CU_ASSERT(open_both());
    lr_tls_free(zero);
    lr_tls_free(one);
    say(&dialler, "still here");
    pump();
    CU_ASSERT(heard(&listener, "still here"));
    finish();
}

/* ---- who is refused -------------------------------------------------------------------------------------------------
 */

static void a_certificate_of_another_authority_is_refused(void) {
    struct lr_tls *ours = keys_of("DNS:zero");
    struct cert_wish wish = {.subject = "a host", .names = "DNS:zero"};
    struct lr_tls *theirs = keys_by(&wish, &stranger, &authority, NULL); /* believes us, but we not them */
    expect_refusal(theirs, ours, "zero", &listener, "its certificate is refused: unable to get local issuer");
    expect_refusal(ours, theirs, "zero", &dialler, "its certificate is refused: unable to get local issuer");
    /* One that its holder has signed himself, with our authority's name. */
    struct cert forged = cert_make(&(struct cert_wish){.subject = "our authority"}, NULL);
    struct lr_tls *forger = keys_by(&wish, &forged, &authority, NULL);
    expect_refusal(forger, ours, "zero", &listener, "its certificate is refused");
    expect_refusal(ours, forger, "zero", &dialler, "its certificate is refused");
    cert_free(&forged);
    /* A host's certificate is no authority. */
    struct cert host = cert_make(&wish, &authority);
    struct lr_tls *issued = keys_by(&wish, &host, &authority, NULL);
    expect_refusal(issued, ours, "zero", &listener, "its certificate is refused");
    cert_free(&host);
    lr_tls_free(ours);
    lr_tls_free(theirs);
    lr_tls_free(forger);
    lr_tls_free(issued);
}

static void a_certificate_outside_its_dates_is_refused(void) {
    make_authorities();
    struct lr_tls *ours = keys_of("DNS:zero");
    struct cert_wish brief = {.subject = "brief", .names = "DNS:zero", .from_s = -60, .to_s = 2};
    struct cert_wish early = {.subject = "early", .names = "DNS:zero", .from_s = 600, .to_s = 1200};
    struct lr_tls *not_yet = keys_by(&early, &authority, &authority, NULL);
    expect_refusal(not_yet, ours, "zero", &listener, "certificate is not yet valid");
    struct lr_tls *ending = keys_by(&brief, &authority, &authority, NULL);
    carry_both_ways(ending, ours, "zero");
    begin(ending, ours, "zero");
    CU_ASSERT(open_both());
    static struct end open[2];
    open[0] = dialler, open[1] = listener;
    for (unsigned ms = 0; lr_tls_seconds_left(ending) >= 0 && ms < 5000; ms += 50)
        fixture_sleep_ms(50);
    expect_refusal(ending, ours, "zero", &listener, "certificate has expired");
    expect_refusal(ours, ending, "zero", &dialler, "certificate has expired");
    dialler = open[0], listener = open[1];
    say(&dialler, "a link that is open stays open");
    pump();
    CU_ASSERT(heard(&listener, "a link that is open stays open"));
    finish();
    char why[LR_WHY_BYTES] = "";
    struct cert cert = cert_make(&(struct cert_wish){.subject = "late", .from_s = -600, .to_s = -60}, &authority);
    struct lr_tls_files from = {.cert = path_of(0), .key = path_of(1), .ca = path_of(2)};
    cert_write(&cert, from.cert, from.key);
    CU_ASSERT_PTR_NULL(lr_tls_load(&from, why)); /* nor do we show one */
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "ended on"));
    cert_free(&cert);
    lr_tls_free(ours);
    lr_tls_free(not_yet);
    lr_tls_free(ending);
}

static void a_certificate_that_was_revoked_is_refused(void) {
    char why[LR_WHY_BYTES] = "";
    make_authorities();
    struct cert_wish wish = {.subject = "a host", .names = "DNS:zero"};
    struct cert good = cert_make(&wish, &authority), bad = cert_make(&wish, &authority);
    struct lr_tls_files ours = {.cert = path_of(0), .key = path_of(1), .ca = path_of(2)}, theirs = ours;
    theirs.cert = path_of(3), theirs.key = path_of(4);
    cert_write(&good, ours.cert, ours.key);
    cert_write(&bad, theirs.cert, theirs.key);
    cert_write(&authority, ours.ca, NULL);
    struct lr_tls *them = lr_tls_load(&theirs, why), *us = lr_tls_load(&ours, why);
    carry_both_ways(them, us, "zero"); /* so the refusals are for the list's sake */
    lr_tls_free(us);
    ours.crl = path_of(5);
    unlink(ours.crl);
    cert_write_revoked(&authority, &bad, 600, ours.crl);
    us = lr_tls_load(&ours, why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(us);
    CU_ASSERT_EQUAL(lr_tls_lists(us), LR_TLS_LISTS_ENDING); /* made an hour ago for ten minutes more */
    CU_ASSERT_EQUAL(lr_tls_lists(them), LR_TLS_LISTS_FINE);
    expect_refusal(them, us, "zero", &listener, "its certificate is refused: certificate revoked");
    expect_refusal(us, them, "zero", &dialler, "its certificate is refused: certificate revoked");
    struct lr_tls *third = keys_of("DNS:zero"); /* another one of the same authority is not on the list */
    carry_both_ways(third, us, "zero");
    carry_both_ways(us, third, "zero");
    /* Whose authority has no list there, of him nobody knows. */
    struct lr_tls *strange = keys_by(&wish, &stranger, &authority, NULL);
    cert_write(&good, ours.cert, ours.key);
    cert_write(&stranger, ours.ca, NULL);
    struct lr_tls *listless = lr_tls_load(&ours, why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(listless);
    expect_refusal(strange, listless, "zero", &listener, "unable to get certificate CRL");
    lr_tls_free(strange);
    lr_tls_free(listless);
    lr_tls_free(third);
    lr_tls_free(them);
    lr_tls_free(us);
    cert_free(&good);
    cert_free(&bad);
}

static void a_certificate_of_another_host_is_refused(void) {
    struct lr_tls *zero = keys_of("DNS:zero,IP:10.0.0.1"), *one = keys_of("DNS:one,IP:10.0.0.2");
    struct lr_tls *nameless = keys_of(NULL);
    expect_refusal(zero, one, "two", &dialler, "ostname mismatch");
    expect_refusal(zero, one, "10.0.0.1", &dialler, "IP address mismatch");
    expect_refusal(zero, nameless, "a host", &dialler, "ostname mismatch"); /* the common name is no name */
    /* One name for all. */
    struct cert_wish member = {.subject = "member", .names = "DNS:larder.example"};
    struct lr_tls *two = keys_by(&member, &authority, &authority, "larder.example");
    struct lr_tls *three = keys_by(&member, &authority, &authority, "larder.example");
    carry_both_ways(two, three, "10.9.9.9");
    expect_refusal(two, one, "one", &dialler, "ostname mismatch");
    expect_refusal(one, two, "larder.example", &listener, "ostname mismatch");
    /* What it may be used for, if it says so. */
    struct cert_wish mail = {.subject = "mail", .names = "DNS:one", .usage = "emailProtection"};
    struct lr_tls *other_use = keys_by(&mail, &authority, &authority, NULL);
    expect_refusal(zero, other_use, "one", &dialler, "purpose");
    expect_refusal(other_use, one, "one", &listener, "purpose");
    lr_tls_free(zero);
    lr_tls_free(one);
    lr_tls_free(two);
    lr_tls_free(three);
    lr_tls_free(nameless);
    lr_tls_free(other_use);
}

/* ---- other people's TLS ---------------------------------------------------------------------------------------------
 */

struct foreign {
    SSL_CTX *context;
    SSL *ssl;
};

/* A stranger's end, with its certificate or none, that believes anybody. */
static struct foreign new_foreign(bool dials, int least, int most, const struct cert *cert) {
    struct foreign foreign = {.context = SSL_CTX_new(TLS_method())};
    SSL_CTX_set_security_level(foreign.context, 0);
    SSL_CTX_set_min_proto_version(foreign.context, least);
    SSL_CTX_set_max_proto_version(foreign.context, most);
    if (cert != NULL) {
        SSL_CTX_use_certificate(foreign.context, cert->certificate);
        SSL_CTX_use_PrivateKey(foreign.context, cert->key);
    }
    foreign.ssl = SSL_new(foreign.context);
    SSL_set_bio(foreign.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (dials)
        SSL_set_connect_state(foreign.ssl);
    else
        SSL_set_accept_state(foreign.ssl);
    return foreign;
}

static void free_foreign(struct foreign *foreign) {
    SSL_free(foreign->ssl);
    SSL_CTX_free(foreign->context);
}

/* A few rounds between a stranger's end and ours. What we read is left in end->got. */
static void talk(struct foreign *foreign, struct end *end) {
    char bytes[32768];
    end->got_len = 0;
    for (unsigned round = 0; round < 6; round++) {
        const uint8_t *out;
        if (SSL_do_handshake(foreign->ssl) == 1 && round == 3)
            SSL_write(foreign->ssl, "let me in", 9);
        int len = BIO_read(SSL_get_wbio(foreign->ssl), bytes, sizeof bytes);
        if (len > 0)
            hand_over(end->session, (uint8_t *)bytes, (size_t)len);
        read_all(end);
        size_t out_len = lr_tls_out(end->session, &out);
        BIO_write(SSL_get_rbio(foreign->ssl), out, (int)out_len);
        lr_tls_out_taken(end->session);
        (void)SSL_read(foreign->ssl, bytes, sizeof bytes);
    }
}

static void nobody_gets_in_without_a_proof_or_by_an_older_tls(void) {
    struct lr_tls *ours = keys_of("DNS:zero");
    char secret[65];
    cert_draw_secret(secret);
    struct lr_tls *shared = keys_with(secret);
    struct cert host = cert_make(&(struct cert_wish){.subject = "a host", .names = "DNS:zero"}, &authority);
    const struct {
        bool dials;
        int least, most;
        const struct cert *cert;
        struct lr_tls *keys;
        const char *why;
    } cases[] = {
        {true, TLS1_3_VERSION, TLS1_3_VERSION, NULL, ours, "it shows no certificate"},
        {true, TLS1_VERSION, TLS1_2_VERSION, &host, ours, "it does not speak TLS 1.3"},
        {false, TLS1_VERSION, TLS1_2_VERSION, &host, ours, "it refuses us: protocol version"},
        {true, TLS1_3_VERSION, TLS1_3_VERSION, NULL, shared, "one of us has a pre-shared key"},
        {true, TLS1_VERSION, TLS1_2_VERSION, NULL, shared, "it does not speak TLS 1.3"},
        {true, TLS1_3_VERSION, TLS1_3_VERSION, &host, shared, "one of us has a pre-shared key"},
        {false, TLS1_3_VERSION, TLS1_3_VERSION, &host, shared, "its certificate is refused"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct end end = {.session = lr_tls_begin(cases[i].keys, cases[i].dials ? NULL : "zero")};
        struct foreign foreign = new_foreign(cases[i].dials, cases[i].least, cases[i].most, cases[i].cert);
        talk(&foreign, &end);
        expect_why(&end, cases[i].why);
        CU_ASSERT_EQUAL(end.got_len, 0);
        free_foreign(&foreign);
        lr_tls_end(end.session);
    }
    /* The same stranger with all that is asked for does get in, and no ticket to come back with. */
    struct end end = {.session = lr_tls_begin(ours, NULL)};
    struct foreign foreign = new_foreign(true, TLS1_VERSION, TLS1_3_VERSION, &host);
    talk(&foreign, &end);
    CU_ASSERT(heard(&end, "let me in"));
    CU_ASSERT_FALSE(SSL_SESSION_is_resumable(SSL_get_session(foreign.ssl)));
    free_foreign(&foreign);
    lr_tls_end(end.session);
    cert_free(&host);
    lr_tls_free(ours);
    lr_tls_free(shared);
}

/* ---- somebody in between
 * --------------------------------------------------------------------------------------------- */

static void a_recorded_session_is_worth_nothing(void) {
    char secret[65];
    cert_draw_secret(secret);
    struct lr_tls *keys[2][2] = {{keys_of("DNS:zero"), keys_of("DNS:one")}, {keys_with(secret), keys_with(secret)}};
    for (unsigned kind = 0; kind < 2; kind++) {
        begin(keys[kind][0], keys[kind][1], "one");
        CU_ASSERT(open_both());
        say(&dialler, "do it");
        pump();
        CU_ASSERT(heard(&listener, "do it"));
        static struct end recorded[2];
        recorded[0] = dialler, recorded[1] = listener;
        finish();
        begin(keys[kind][0], keys[kind][1], "one");
        hand_over(listener.session, recorded[0].sent, recorded[0].sent_len);
        read_all(&listener);
        CU_ASSERT_EQUAL(lr_tls_state(listener.session), LR_TLS_ENDED);
        CU_ASSERT_EQUAL(listener.got_len, 0);
        hand_over(dialler.session, recorded[1].sent, recorded[1].sent_len);
        read_all(&dialler);
        CU_ASSERT_EQUAL(lr_tls_state(dialler.session), LR_TLS_ENDED);
        CU_ASSERT_EQUAL(dialler.got_len, 0);
        finish();
        lr_tls_free(keys[kind][0]);
        lr_tls_free(keys[kind][1]);
    }
}

static void a_record_that_is_repeated_or_left_out_ends_the_session(void) {
    struct lr_tls *zero = keys_of("DNS:zero"), *one = keys_of("DNS:one");
    for (unsigned leave_out = 0; leave_out < 2; leave_out++) {
        const uint8_t *bytes;
        uint8_t record[256];
        begin(zero, one, "one");
        CU_ASSERT(open_both());
        say(&dialler, "first");
        size_t len = lr_tls_out(dialler.session, &bytes);
        CU_ASSERT_FATAL(len < sizeof record);
        memcpy(record, bytes, len);
        lr_tls_out_taken(dialler.session);
        if (leave_out) {
            say(&dialler, "second");
            pump();
            CU_ASSERT_EQUAL(listener.got_len, 0);
        } else {
            hand_over(listener.session, record, len);
            read_all(&listener);
            hand_over(listener.session, record, len);
            read_all(&listener);
            CU_ASSERT(heard(&listener, "first"));
        }
        CU_ASSERT_EQUAL(lr_tls_state(listener.session), LR_TLS_ENDED);
        finish();
    }
    lr_tls_free(zero);
    lr_tls_free(one);
}

/* With one bit of one side's bytes changed, nothing but what was said arrives, and what lies behind it not at all. */
static void expect_flip_noticed(struct lr_tls *from, struct lr_tls *to, struct end *flipped, size_t at) {
    begin(from, to, "one");
    flipped->flip = at;
    pump();
    say(&dialler, "there");
    say(&listener, "and back");
    pump();
    size_t there = listener.got_len, back = dialler.got_len;
    bool exact = memcmp(listener.got, "there", there) == 0 && memcmp(dialler.got, "and back", back) == 0;
    if (!exact || there > 5 || back > 8)
        printf("\n    a changed byte %zu was believed\n", at);
    CU_ASSERT(exact && there <= 5 && back <= 8);
    finish();
}

static void a_changed_bit_is_never_believed(void) {
    struct fixture_random random = fixture_seed("changed bits");
    char secret[65];
    cert_draw_secret(secret);
    struct lr_tls *zero = keys_with(secret), *one = keys_with(secret);
    unsigned opened = 0;
    for (unsigned side = 0; side < 2; side++) {
        struct end *flipped = side == 0 ? &dialler : &listener;
        begin(zero, one, "one");
        CU_ASSERT(open_both());
        size_t shaken = flipped->sent_len;
        say(&dialler, "there");
        say(&listener, "and back");
        pump();
        size_t all = flipped->sent_len;
        finish();
        for (size_t at = 0; at < all; at++) {
            expect_flip_noticed(zero, one, flipped, at);
            bool complete = listener.got_len == 5 && dialler.got_len == 8;
            opened += complete;
            if (at >= shaken && flipped == &dialler)
                CU_ASSERT_EQUAL(listener.got_len, 0);
            if (at >= shaken && flipped == &listener)
                CU_ASSERT_EQUAL(dialler.got_len, 0);
        }
    }
    CU_ASSERT(opened <= 8); /* the version number of a record's header means nothing in TLS 1.3 */
    lr_tls_free(zero);
    lr_tls_free(one);
    zero = keys_of("DNS:zero"), one = keys_of("DNS:one");
    for (unsigned i = 0; i < 100; i++)
        expect_flip_noticed(zero, one, i % 2 ? &dialler : &listener, fixture_below(&random, 1000));
    lr_tls_free(zero);
    lr_tls_free(one);
}

static void a_host_does_not_talk_to_itself(void) {
    char secret[65];
    cert_draw_secret(secret);
    struct lr_tls *keys[2] = {keys_with(secret), keys_of("DNS:zero")};
    expect_refusal(keys[0], keys[0], "one", &listener, "it sends us our own bytes back");
    for (unsigned i = 0; i < 2; i++) { /* and one that gets its own bytes back does not take them for an answer */
        begin(keys[i], keys[i], "zero");
        CU_ASSERT(carry(&dialler, &listener));
        hand_over(dialler.session, dialler.sent, dialler.sent_len);
        CU_ASSERT_EQUAL(lr_tls_state(dialler.session), LR_TLS_ENDED);
        finish();
        lr_tls_free(keys[i]);
    }
}

static void what_is_not_tls_is_told_at_its_first_byte(void) {
    struct lr_tls *keys = keys_of("DNS:zero");
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "\x70\x00\x00\x00\x01\x00\x52\x4c", "\x00"};
    for (unsigned i = 0; i < 3; i++) {
        struct end end = {.session = lr_tls_begin(keys, i == 0 ? "zero" : NULL)};
        hand_over(end.session, (const uint8_t *)texts[i], 1 + strlen(texts[i]));
        expect_why(&end, "it does not speak TLS: it has no keys, or is no larderd");
        lr_tls_end(end.session);
    }
    lr_tls_free(keys);
}

static void a_stranger_costs_a_few_kilobytes(void) {
    struct fixture_random random = fixture_seed("strangers' bytes");
    struct lr_tls *keys = keys_of("DNS:zero");
    static uint8_t bytes[65536];
    unsigned limited = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct lr_tls_session *session = lr_tls_begin(keys, NULL);
        size_t taken = 0;
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t)fixture_next(&random);
        /* Records of a handshake message that goes on and on, of every length; then noise. */
        for (size_t at = 0; at + 5 < sizeof bytes && i < 150;) {
            size_t len = i < 50 ? 16384 : 1 + fixture_below(&random, 1 + i * 8);
            bytes[at] = 22, bytes[at + 1] = 3, bytes[at + 2] = 1;
            bytes[at + 3] = (uint8_t)(len >> 8), bytes[at + 4] = (uint8_t)len;
            if (at == 0)
                memcpy(bytes + 5, i % 2 ? "\x01\x00\xff\x00\x03\x03" : "\x01\x00\x00\x60\x03\x03", 6);
            at += 5 + len;
        }
        while (lr_tls_state(session) == LR_TLS_SHAKING && taken < sizeof bytes)
            taken += lr_tls_take(session, bytes + taken, sizeof bytes - taken);
        CU_ASSERT_EQUAL(lr_tls_state(session), LR_TLS_ENDED);
        limited += strstr(lr_tls_why(session), "8 KiB") != NULL;
        CU_ASSERT(taken <= 8192 || i >= 150); /* noise is told at its first byte, and not kept */
        lr_tls_end(session);
    }
    CU_ASSERT(limited > 0);
    lr_tls_free(keys);
}

/* ---- files
 * ------------------------------------------------------------------------------------------------------------ */

static void expect_unusable(const struct lr_tls_files *from, const char *text) {
    char why[LR_WHY_BYTES] = "";
    struct lr_tls *keys = lr_tls_load(from, why);
    if (keys != NULL || strstr(why, text) == NULL)
        printf("\n    \"%s\" in place of \"%s\"\n", why, text);
    CU_ASSERT(keys == NULL && strstr(why, text) != NULL);
    lr_tls_free(keys);
}

static void files_that_others_can_use_or_change_are_refused(void) {
    char secret[65], why[LR_WHY_BYTES];
    make_authorities();
    cert_draw_secret(secret);
    struct cert cert = cert_make(&(struct cert_wish){.subject = "a host", .names = "DNS:zero"}, &authority);
    struct lr_tls_files by_cert = {.cert = path_of(0), .key = path_of(1), .ca = path_of(2)};
    struct lr_tls_files by_psk = {.psk = path_of(3)};
    cert_write(&cert, by_cert.cert, by_cert.key);
    cert_write(&authority, by_cert.ca, NULL);
    cert_write_text(by_psk.psk, secret, 0600);
    struct lr_tls *keys = lr_tls_load(&by_cert, why);
    CU_ASSERT_PTR_NOT_NULL(keys); /* so each refusal below is for its own reason */
    lr_tls_free(keys);
    static const unsigned secret_modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0666};
    for (size_t i = 0; i < sizeof secret_modes / sizeof *secret_modes; i++) {
        chmod(by_cert.key, secret_modes[i]);
        chmod(by_psk.psk, secret_modes[i]);
        expect_unusable(&by_cert, "others than its owner can use it");
        expect_unusable(&by_psk, "chmod 600 it");
    }
    chmod(by_cert.key, 0400);
    chmod(by_cert.ca, 0664);
    expect_unusable(&by_cert, "tls_ca");
    expect_unusable(&by_cert, "others than its owner can change it; chmod 644 it");
    chmod(by_cert.ca, 0644);
    chmod(by_cert.cert, 0646);
    expect_unusable(&by_cert, "tls_cert");
    chmod(by_cert.cert, 0644);
    if (geteuid() == 0) {
        CU_ASSERT_EQUAL(chown(by_cert.key, 65534, 65534), 0);
        expect_unusable(&by_cert, "belongs to user 65534; it must belong to root or to user 0");
    } else {
        fixture_skip(__func__, "giving a file to another user takes root");
    }
    cert_free(&cert);
}

static void files_that_are_no_keys_are_refused(void) {
    char text[65 * 6] = "", secret[65];
    make_authorities();
    struct cert cert = cert_make(&(struct cert_wish){.subject = "a host"}, &authority);
    struct lr_tls_files from = {.cert = path_of(0), .key = path_of(1), .ca = path_of(2)}, by_psk = {.psk = path_of(3)};
    cert_write(&cert, from.cert, NULL);
    cert_write(&authority, from.ca, from.key);
    expect_unusable(&from, "does not belong to the certificate");
    cert_write_text(from.key, "-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n", 0600);
    expect_unusable(&from, "holds no private key");
    FILE *file = fopen(from.key, "w"); /* nobody sits there to type a pass phrase */
    PEM_write_PrivateKey(file, cert.key, EVP_aes_128_cbc(), (const unsigned char *)"word", 4, NULL, NULL);
    fclose(file);
    expect_unusable(&from, "without a pass phrase");
    cert_write(&cert, from.cert, from.key);
    cert_write_text(from.ca, "none", 0644);
    expect_unusable(&from, "tls_ca");
    cert_write(&authority, from.ca, NULL);
    from.crl = path_of(4);
    cert_write(&authority, from.crl, NULL);
    expect_unusable(&from, "tls_crl");
    unlink(from.crl);
    cert_write_revoked(&authority, NULL, -60, from.crl);
    expect_unusable(&from, "should have been replaced by a later one");
    from.crl = NULL;
    cert_write_text(from.cert, "", 0644);
    expect_unusable(&from, "has 0 bytes");
    unlink(from.cert);
    expect_unusable(&from, "cannot be opened: No such file");
    from.cert = fixture_folder();
    expect_unusable(&from, "is not a regular file");
    from.cert = path_of(0);
    file = fopen(from.cert, "w"); /* longer than what a peer takes from a stranger */
    for (unsigned i = 0; i < 20; i++)
        PEM_write_X509(file, cert.certificate);
    fclose(file);
    expect_unusable(&from, "peers take at most");
    cert_free(&cert);
    cert_draw_secret(secret);
    cert_write_text(by_psk.psk, "# nothing\n", 0600);
    expect_unusable(&by_psk, "holds no key");
    snprintf(text, sizeof text, "%s\n%.63s\n", secret, secret);
    cert_write_text(by_psk.psk, text, 0600);
    expect_unusable(&by_psk, "line 2");
    secret[5] = 'x';
    cert_write_text(by_psk.psk, secret, 0600);
    expect_unusable(&by_psk, "64 hexadecimal digits");
    secret[5] = '5';
    for (unsigned i = 0; i < 5; i++)
        snprintf(text + i * 65, sizeof text - i * 65, "%s\n", secret);
    cert_write_text(by_psk.psk, text, 0600);
    expect_unusable(&by_psk, "at most 4 lines");
}

void larder_suite_92_tls(void);
void larder_suite_92_tls(void) {
    CU_pSuite suite = CU_add_suite("92_tls", NULL, NULL);
    CU_ADD_TEST(suite, both_sides_prove_who_they_are_by_certificates);
    CU_ADD_TEST(suite, a_key_that_both_have_is_a_proof);
    CU_ADD_TEST(suite, keys_outlive_their_reload_in_open_sessions);
    CU_ADD_TEST(suite, a_certificate_of_another_authority_is_refused);
    CU_ADD_TEST(suite, a_certificate_outside_its_dates_is_refused);
    CU_ADD_TEST(suite, a_certificate_that_was_revoked_is_refused);
    CU_ADD_TEST(suite, a_certificate_of_another_host_is_refused);
    CU_ADD_TEST(suite, nobody_gets_in_without_a_proof_or_by_an_older_tls);
    CU_ADD_TEST(suite, a_recorded_session_is_worth_nothing);
    CU_ADD_TEST(suite, a_record_that_is_repeated_or_left_out_ends_the_session);
    CU_ADD_TEST(suite, a_changed_bit_is_never_believed);
    CU_ADD_TEST(suite, a_host_does_not_talk_to_itself);
    CU_ADD_TEST(suite, what_is_not_tls_is_told_at_its_first_byte);
    CU_ADD_TEST(suite, a_stranger_costs_a_few_kilobytes);
    CU_ADD_TEST(suite, files_that_others_can_use_or_change_are_refused);
    CU_ADD_TEST(suite, files_that_are_no_keys_are_refused);
}
