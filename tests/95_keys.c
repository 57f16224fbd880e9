/* SPDX-License-Identifier: MIT */
/*
 * Real larderd processes with keys: both sides prove who they are or nothing flows, keys are exchanged under way, and
 * strangers cost little. What a session itself refuses: 92_tls.
 */
#include "certs.h"
#include "daemons.h"
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

static struct host hosts[2];
static struct cert authority, stranger;
static char ca[1024], cert_of[2][1024], key_of[2][1024], psk[1024], other_psk[1024];

static void set_up(void) {
    if (authority.key == NULL) {
        authority = cert_make(&(struct cert_wish){.subject = "our authority"}, NULL);
        stranger = cert_make(&(struct cert_wish){.subject = "another authority"}, NULL);
    }
    snprintf(ca, sizeof ca, "%s/keys.ca", fixture_folder());
    snprintf(psk, sizeof psk, "%s/keys.psk", fixture_folder());
    snprintf(other_psk, sizeof other_psk, "%s/keys.other", fixture_folder());
    cert_write(&authority, ca, NULL);
    char secret[65];
    cert_draw_secret(secret);
    cert_write_text(psk, secret, 0600);
    cert_draw_secret(secret);
    cert_write_text(other_psk, secret, 0600);
    for (unsigned i = 0; i < 2; i++) {
        host_make(&hosts[i]);
        snprintf(cert_of[i], sizeof cert_of[i], "%s/keys.cert.%u", fixture_folder(), i);
        snprintf(key_of[i], sizeof key_of[i], "%s/keys.key.%u", fixture_folder(), i);
    }
}

static void tear_down(void) {
    for (unsigned i = 0; i < 2; i++)
        host_remove(&hosts[i]);
}

static void issue(unsigned i, const struct cert_wish *wish, const struct cert *issuer) {
    struct cert cert = cert_make(wish, issuer);
    cert_write(&cert, cert_of[i], key_of[i]);
    cert_free(&cert);
}

static void configure(unsigned i, const char *more) {
    char lines[12000];
    snprintf(lines, sizeof lines, "peer = %s\n%s", hosts[1 - i].address, more);
    host_configure(&hosts[i], lines);
}

static void configure_certificates(unsigned i, const char *more) {
    char lines[8192];
    snprintf(lines, sizeof lines, "tls-cert = %s\ntls-key = %s\ntls-ca = %s\n%s", cert_of[i], key_of[i], ca, more);
    configure(i, lines);
}

static void configure_secret(unsigned i, const char *file) {
    char lines[8192];
    snprintf(lines, sizeof lines, "tls-psk-file = %s\n", file);
    configure(i, lines);
}

static void start_both(void) {
    host_start(&hosts[0]);
    host_start(&hosts[1]);
}

static void expect_exchange(const char *value) {
    CU_ASSERT(host_will_link(&hosts[0], 1) && host_will_link(&hosts[1], 1));
    CU_ASSERT_EQUAL(host_put(&hosts[0], "there", value), 0);
    CU_ASSERT_EQUAL(host_put(&hosts[1], "back", value), 0);
    CU_ASSERT(host_will_have(&hosts[1], "there", value));
    CU_ASSERT(host_will_have(&hosts[0], "back", value));
    CU_ASSERT(host_will_agree(&hosts[0], &hosts[1]));
}

/* Whatever they try, nothing flows. */
static void expect_nothing(void) {
    CU_ASSERT_EQUAL(host_put(&hosts[0], "there", "secret"), 0);
    CU_ASSERT_EQUAL(host_put(&hosts[1], "back", "secret"), 0);
    fixture_sleep_ms(500);
    CU_ASSERT_FALSE(host_has(&hosts[1], "there", "secret"));
    CU_ASSERT_FALSE(host_has(&hosts[0], "back", "secret"));
    CU_ASSERT_FALSE(host_log_says(&hosts[0], "to SYNC"));
}

/* What the inspector says of the first host. */
static void expect_told(const char *verb, const char *text) {
    char command[1024], out[16384];
    snprintf(command, sizeof command, "%s %s --name %s", fixture_program("larder"), verb, hosts[0].name);
    CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
    if (strstr(out, text) == NULL)
        printf("\n    \"%s\" is missing in %s", text, out);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, text));
}

static const struct cert_wish here = {.subject = "a host", .names = "IP:127.0.0.1,DNS:localhost"};

/* ---- two hosts
 * ------------------------------------------------------------------------------------------------------- */

static void changes_travel_between_hosts_with_certificates(void) {
    set_up();
    issue(0, &here, &authority);
    issue(1, &here, &authority);
    configure_certificates(0, "");
    configure_certificates(1, "");
    start_both();
    expect_exchange("one");
    CU_ASSERT(host_will_log(&hosts[0], "keys: certificate CN=a host of CN=our authority, until 20"));
    CU_ASSERT(host_will_log(&hosts[0], "connection secured by TLSv1.3, certificate CN=a host"));
    expect_told("peers", "secured by TLSv1.3, certificate CN=a host, TLS_AES_256_GCM_SHA384, 0 days to its end");
    expect_told("stat", "links          1 by TLS, 0 plain; keys: certificate CN=a host of CN=our authority, until 20");
    expect_told("peers --json", "\"proof_ends_s\": 3");
    expect_told("stat --json", "\"keys_end_s\": 3");
    expect_told("peers", "revoked    no list is loaded (tls_crl)");
    expect_told("peers --json", "\"revocation_lists\": 0,\n  \"revocation_lists_end_s\": null");
    CU_ASSERT(host_will_log(&hosts[0], "keys: this host's certificate ends within two weeks"));
    CU_ASSERT_EQUAL(host_stop(&hosts[0], SIGKILL), -SIGKILL);
    CU_ASSERT_EQUAL(host_put(&hosts[1], "meanwhile", "x"), 0);
    host_start(&hosts[0]);
    CU_ASSERT(host_will_have(&hosts[0], "meanwhile", "x"));
    tear_down();
}

static void values_larger_than_a_record_travel_sealed(void) {
    set_up();
    configure_secret(0, psk);
    configure_secret(1, psk);
    start_both();
    CU_ASSERT(host_will_link(&hosts[0], 1));
    size_t len = lr_max_value(hosts[0].cache, 5);
    char *value = malloc(len), *got = malloc(len);
    for (size_t i = 0; i < len; i++)
        value[i] = (char)(i * 31 >> 3);
    struct lr_put put = {.key = "large", .key_len = 5, .value = value, .value_len = len};
    CU_ASSERT_EQUAL(lr_put(hosts[0].cache, &put), 0);
    CU_ASSERT(host_will_agree(&hosts[0], &hosts[1]));
    CU_ASSERT_EQUAL(lr_get(hosts[1].cache, "large", 5, got, len, NULL, LR_PEEK), 0);
    CU_ASSERT(memcmp(got, value, len) == 0);
    free(value);
    free(got);
    CU_ASSERT(host_will_log(&hosts[1], "connection secured by TLSv1.3, pre-shared key"));
    tear_down();
}

static void hosts_with_other_keys_get_nothing(void) {
    set_up();
    configure_secret(0, psk);
    configure_secret(1, other_psk);
    start_both();
    expect_nothing();
    CU_ASSERT(host_will_log(&hosts[0], "link refused: its pre-shared key is none of ours"));
    tear_down();
    set_up();
    issue(0, &here, &authority);
    issue(1, &here, &stranger);
    configure_certificates(0, "");
    configure_certificates(1, "");
    start_both();
    expect_nothing();
    CU_ASSERT(host_will_log(&hosts[0], "its certificate is refused: unable to get local issuer certificate"));
    CU_ASSERT(host_will_log(&hosts[1], "it refuses us: unknown CA"));
    tear_down();
}

/* A host of the same authority that claims to be another: it dials us, and says in HELLO that it is our peer. */
static void a_host_that_claims_to_be_another_is_refused(void) {
    set_up();
    struct cert_wish other = {.subject = "a third host", .names = "DNS:third.example"};
    issue(0, &here, &authority);
    issue(1, &other, &authority);
    char lines[4096]; /* host zero listens where nobody dials it, so that the claim comes in by host one's dial only */
    configure_certificates(0, "");
    configure_certificates(1, "tls_name = localhost\n"); /* which host zero does bear */
    start_both();
    expect_nothing();
    CU_ASSERT(host_will_log(&hosts[0], "link refused: its certificate is not one of peer"));
    CU_ASSERT(host_will_log(&hosts[0], "its certificate is refused: IP address mismatch")); /* when we dial it */
    snprintf(lines, sizeof lines, "its certificate is not one of peer %s", hosts[1].address);
    CU_ASSERT(host_will_log(&hosts[0], lines));
    tear_down();
}

static void with_keys_on_one_side_only_both_say_so(void) {
    set_up();
    configure_secret(0, psk);
    configure(1, "");
    start_both();
    expect_nothing();
    CU_ASSERT(host_will_log(&hosts[0], "it does not speak TLS: it has no keys, or is no larderd"));
    CU_ASSERT(host_will_log(&hosts[1], "it speaks TLS, and this larderd has no keys"));
    tear_down();
}

/* ---- under way
 * ---------------------------------------------------------------------------------------------------------- */

static void reload(const struct host *host) {
    unsigned before = host_log_count(host, "SIGHUP:");
    host_signal(host, SIGHUP);
    for (unsigned ms = 0; host_log_count(host, "SIGHUP:") == before && ms < 5000; ms += 10)
        fixture_sleep_ms(10);
    CU_ASSERT_EQUAL(host_log_count(host, "SIGHUP:"), before + 1);
}

static unsigned links_ended(void) {
    return host_log_count(&hosts[0], "link ended") + host_log_count(&hosts[1], "link ended");
}

static void new_keys_are_for_new_links_and_open_ones_stay(void) {
    char two[140], a[65], b[65];
    set_up();
    configure_secret(0, psk);
    configure_secret(1, psk);
    start_both();
    expect_exchange("first");
    /* A key with a mistake is refused, and everything goes on. */
    cert_write_text(psk, "not a key\n", 0600);
    reload(&hosts[0]);
    CU_ASSERT(host_will_log(&hosts[0], "SIGHUP: the configuration stays as it was: tls_psk_file: line 1 of"));
    cert_draw_secret(a);
    cert_write_text(psk, a, 0644);
    reload(&hosts[0]);
    CU_ASSERT(host_will_log(&hosts[0], "chmod 600 it"));
    expect_exchange("second");
    /* Now a right one, on host zero first: old links stay, and no new one can be made. */
    unsigned ended = links_ended(); /* on a busy machine two dials may both have come to a link, or one been silent */
    cert_write_text(psk, a, 0600);
    reload(&hosts[0]);
    expect_exchange("third");
    CU_ASSERT_EQUAL(links_ended(), ended);
    CU_ASSERT_EQUAL(host_stop(&hosts[1], SIGKILL), -SIGKILL); /* host one comes back with the same file */
    host_start(&hosts[1]);
    expect_exchange("fourth");
    CU_ASSERT(host_will_log(&hosts[0], "link ended"));
    /* And without a moment in which the two do not understand each other. */
    cert_draw_secret(b);
    snprintf(two, sizeof two, "%s\n%s\n", b, a);
    cert_write_text(other_psk, two, 0600);
    configure_secret(1, other_psk);
    reload(&hosts[1]); /* it dials with b, which host zero does not know, and accepts both */
    CU_ASSERT_EQUAL(host_stop(&hosts[0], SIGTERM), 0);
    host_start(&hosts[0]);
    expect_exchange("fifth");
    configure(1, "");
    reload(&hosts[1]);
    CU_ASSERT(host_will_log(&hosts[1], "keys cannot be given up while larderd runs"));
    expect_exchange("sixth");
    tear_down();
}

/* Made an hour ago: a fifth of its time is left from 12 minutes before its end. */
static void a_revocation_list_that_ends_is_told_in_time(void) {
    char crl[1024], lines[1100];
    set_up();
    snprintf(crl, sizeof crl, "%s/keys.ending", fixture_folder());
    snprintf(lines, sizeof lines, "tls-crl = %s\n", crl);
    unlink(crl);
    cert_write_revoked(&authority, NULL, 5500, crl);
    issue(0, &here, &authority);
    configure_certificates(0, lines);
    host_start(&hosts[0]);
    CU_ASSERT(host_will_log(&hosts[0], "keys: certificate"));
    expect_told("peers", "revoked    1 loaded, 0 days and 1 hours to the first end");
    expect_told("peers --json", "\"revocation_lists\": 1,\n  \"revocation_lists_end_s\": 5");
    unlink(crl);
    cert_write_revoked(&authority, NULL, 3600, crl);
    cert_write_revoked(&authority, NULL, 3, crl); /* the first to end counts */
    CU_ASSERT_FALSE(host_log_says(&hosts[0], "keys: a list of tls_crl"));
    host_signal(&hosts[0], SIGHUP);
    CU_ASSERT(host_will_log(&hosts[0], "keys: a list of tls_crl will soon be overdue"));
    CU_ASSERT(host_will_log(&hosts[0], "keys: a list of tls_crl is overdue, and no link can be made any more"));
    fixture_sleep_ms(300);
    CU_ASSERT_EQUAL(host_log_count(&hosts[0], "keys: a list of tls_crl"), 2);
    expect_told("peers", "revoked    2 loaded, one is overdue, and no link can be made any more");
    expect_told("peers --json", "\"revocation_lists\": 2");
    tear_down();
}

static void who_was_revoked_gets_no_new_link(void) {
    char crl[1024], lines[1100], command[2048], out[1024];
    set_up();
    snprintf(crl, sizeof crl, "%s/keys.crl", fixture_folder());
    snprintf(lines, sizeof lines, "tls-crl = %s\n", crl);
    unlink(crl);
    cert_write_revoked(&authority, NULL, 600, crl);
    issue(0, &here, &authority);
    struct cert leaver = cert_make(&here, &authority);
    cert_write(&leaver, cert_of[1], key_of[1]);
    configure_certificates(0, lines);
    configure_certificates(1, "");
    start_both();
    expect_exchange("before");
    unlink(crl);
    cert_write_revoked(&authority, &leaver, 600, crl);
    reload(&hosts[0]);
    expect_exchange("a link that is open stays open");
    for (unsigned i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "%s peers %s %s --name %s", fixture_program("larder"),
                 i == 0 ? "remove" : "add", hosts[1].address, hosts[0].name);
        CU_ASSERT_EQUAL(fixture_run(command, out, sizeof out), 0);
    }
    CU_ASSERT(host_will_log(&hosts[0], "link refused: its certificate is refused: certificate revoked"));
    CU_ASSERT(host_will_log(&hosts[1], "link refused: it refuses us: certificate revoked"));
    CU_ASSERT_EQUAL(host_put(&hosts[0], "there", "secret"), 0);
    fixture_sleep_ms(300);
    CU_ASSERT_FALSE(host_has(&hosts[1], "there", "secret"));
    cert_free(&leaver);
    tear_down();
}

static void a_renewed_certificate_is_taken_before_the_old_one_ends(void) {
    set_up();
    struct cert_wish brief = here;
    brief.from_s = -60, brief.to_s = 4;
    issue(0, &brief, &authority);
    issue(1, &here, &authority);
    configure_certificates(0, "");
    configure_certificates(1, "");
    start_both();
    expect_exchange("first");
    issue(0, &here, &stranger);
    cert_write_text(key_of[0], "", 0600);
    reload(&hosts[0]);
    CU_ASSERT(host_will_log(&hosts[0], "SIGHUP: the configuration stays as it was: tls_key"));
    fixture_sleep_ms(4000); /* the old one has ended by now */
    expect_exchange("second");
    CU_ASSERT_EQUAL(host_stop(&hosts[1], SIGKILL), -SIGKILL);
    host_start(&hosts[1]);
    CU_ASSERT(host_will_log(&hosts[1], "its certificate is refused: certificate has expired"));
    issue(0, &here, &authority);
    reload(&hosts[0]);
    expect_exchange("third");
    tear_down();
}

/* ---- strangers
 * ------------------------------------------------------------------------------------------------------------ */

static int connect_to(const struct host *host) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons((uint16_t)atoi(strrchr(host->address, ':') + 1));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static unsigned long resident_kib(pid_t pid) {
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "RssAnon: %lu", &kib);
    if (file != NULL)
        fclose(file);
    return kib;
}

/* Somebody with the right key gets through the handshake. */
static bool is_let_in(const struct host *host) {
    struct lr_tls_files from = {.psk = psk};
    char why[LR_WHY_BYTES], bytes[4096];
    struct lr_tls *keys = lr_tls_load(&from, why);
    struct lr_tls_session *session = lr_tls_begin(keys, "127.0.0.1");
    int fd = connect_to(host);
    ssize_t got = 1;
    while (lr_tls_state(session) == LR_TLS_SHAKING && got > 0) {
        const uint8_t *out;
        size_t len = lr_tls_out(session, &out);
        (void)!send(fd, out, len, MSG_NOSIGNAL);
        lr_tls_out_taken(session);
        got = recv(fd, bytes, sizeof bytes, 0);
        if (got > 0)
            lr_tls_take(session, bytes, (size_t)got);
    }
    bool open = lr_tls_state(session) == LR_TLS_OPEN;
    lr_tls_end(session);
    lr_tls_free(keys);
    close(fd);
    return open;
}

#define CROWD 300u

static void a_crowd_of_strangers_neither_fills_memory_nor_keeps_a_peer_out(void) {
    static int crowd[CROWD];
    /* A handshake message that never ends. */
    static char endless[16384] = {22, 3, 1, 0x3f, (char)0xfb, 1, 0, (char)0xff, (char)0xff, 3, 3};
    set_up();
    configure_secret(0, psk);
    configure_secret(1, psk);
    start_both();
    expect_exchange("before");
    unsigned long before = resident_kib(hosts[0].pid);
    CU_ASSERT_EQUAL(host_stop(&hosts[1], SIGKILL), -SIGKILL);
    host_put(&hosts[1], "meanwhile", "x");
    int first = connect_to(&hosts[0]); /* of many the log would not tell all */
    CU_ASSERT(send(first, endless, sizeof endless, MSG_NOSIGNAL) > 0);
    CU_ASSERT(host_will_log(&hosts[0], "link refused: it has sent 8 KiB without proving who it is"));
    close(first);
    unsigned open = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = connect_to(&hosts[0]);
        if (i % 3 == 1 && i < CROWD / 2) /* the others say nothing */
            (void)!send(crowd[i], endless, sizeof endless, MSG_NOSIGNAL);
        else if (i % 3 == 2)
            (void)!send(crowd[i], endless, 100, MSG_NOSIGNAL);
        if (i % 16 == 0)
            fixture_sleep_ms(5); /* so that none waits in the kernel's queue */
    }
    CU_ASSERT(is_let_in(&hosts[0])); /* although all places for strangers are taken */
    CU_ASSERT(FIXTURE_SANITIZED || resident_kib(hosts[0].pid) < before + 16384);
    host_start(&hosts[1]);
    expect_exchange("in the middle");
    fixture_sleep_ms(2200);
    for (unsigned i = 0; i < CROWD; i++) {
        char byte;
        ssize_t got = recv(crowd[i], &byte, 1, MSG_DONTWAIT);
        open += got < 0 && errno == EAGAIN;
        close(crowd[i]);
    }
    CU_ASSERT_EQUAL(open, 0); /* two seconds are all that a stranger has */
    CU_ASSERT(host_will_log(&hosts[0], "it has not proved in time who it is"));
    CU_ASSERT(host_log_count(&hosts[0], "link refused") < 100); /* the log neither */
    expect_exchange("after");
    tear_down();
}

static void openssl_is_not_let_in_by_an_older_tls_or_without_a_key(void) {
    char command[8192], out[8192];
    set_up();
    issue(0, &here, &authority);
    issue(1, &here, &authority);
    configure_certificates(0, "");
    configure_certificates(1, "");
    start_both();
    if (fixture_run("command -v openssl", out, sizeof out) != 0) {
        fixture_skip(__func__, "there is no program openssl");
    } else {
        static const char *const attempts[] = {"-tls1_2", "-tls1_3", "-tls1_2 -cert $C -key $K"};
        for (unsigned i = 0; i < 3; i++) {
            snprintf(command, sizeof command,
                     "C=%s K=%s; sleep 0.3 | timeout 5 openssl s_client -connect %s -ign_eof %s 2>&1", cert_of[1],
                     key_of[1], hosts[0].address, attempts[i]);
            fixture_run(command, out, sizeof out);
            CU_ASSERT_PTR_NOT_NULL(strstr(out, i == 1 ? "certificate required" : "protocol version"));
        }
        /* With its certificate it does get in, as far as the HELLO that it does not say. */
        snprintf(command, sizeof command,
                 "sleep 0.3 | timeout 5 openssl s_client -connect %s -ign_eof -tls1_3 -cert %s -key %s -CAfile %s "
                 "-verify_return_error 2>&1",
                 hosts[0].address, cert_of[1], key_of[1], ca);
        fixture_run(command, out, sizeof out);
        CU_ASSERT_PTR_NOT_NULL(strstr(out, "Verify return code: 0 (ok)"));
        CU_ASSERT_PTR_NULL(strstr(out, "New Session Ticket"));
    }
    expect_exchange("after");
    tear_down();
}

/* ---- the beginning
 * ---------------------------------------------------------------------------------------------------------- */

static void expect_refusal(const char *arguments, const char *text) {
    char command[6000], out[4096];
    snprintf(command, sizeof command, "%s --name none %s", fixture_program("larderd"), arguments);
    int status = fixture_run(command, out, sizeof out);
    if (status != 2 || strstr(out, text) == NULL)
        printf("\n    larderd %s: status %d: %s", arguments, status, out);
    CU_ASSERT(status == 2 && strstr(out, text) != NULL);
}

static void keys_that_cannot_be_used_end_the_start(void) {
    char arguments[5000];
    set_up();
    issue(0, &here, &authority);
    snprintf(arguments, sizeof arguments, "--tls-psk-file %s.none", psk);
    expect_refusal(arguments, "No such file");
    cert_write_text(psk, "0123\n", 0600);
    snprintf(arguments, sizeof arguments, "--tls-psk-file %s", psk);
    expect_refusal(arguments, "openssl rand -hex 32");
    cert_write_text(psk, "0123\n", 0640);
    expect_refusal(arguments, "has mode 0640: others than its owner can use it; chmod 600 it");
    snprintf(arguments, sizeof arguments, "--tls-psk-file %s --tls-ca %s", psk, ca);
    expect_refusal(arguments, "use one kind of keys");
    snprintf(arguments, sizeof arguments, "--tls-cert %s --tls-key %s", cert_of[0], key_of[0]);
    expect_refusal(arguments, "tls_ca is missing");
    expect_refusal("--tls-name x", "tls_cert is missing");
    expect_refusal("--listen 192.0.2.7:7411", "without keys only");
    expect_refusal("--listen 127.0.0.1:7411 --peer 10.1.2.3:99", "see tls_cert and tls_psk_file");
    snprintf(arguments, sizeof arguments, "--tls-cert %s --tls-key %s --tls-ca %s --listen 0.0.0.0:7411", cert_of[0],
             key_of[0], ca);
    expect_refusal(arguments, "give advertise");
}

/* Two addresses that are not loopback's, in a network namespace of their own; one host listens at all of its. */
static void with_keys_hosts_talk_at_any_address(void) {
    static const char script[] =
        "set -e; ip link set lo up; ip address add 10.99.0.1/32 dev lo; ip address add 10.99.0.2/32 dev lo; cd '%s'; "
        "L=$(dirname '%s'); "
        "$L/larderd --name %s --size 2M --listen 0.0.0.0:7411 --advertise 10.99.0.1:7411 --peer 10.99.0.2:7412 "
        "--tls-psk-file keys.psk 2>&1 & "
        "$L/larderd --name %s --size 2M --listen 10.99.0.2:7412 --peer 10.99.0.1:7411 --tls-psk-file keys.psk 2>&1 & "
        "trap 'kill $(jobs -p); wait; $L/larder destroy --name %s; $L/larder destroy --name %s' EXIT; "
        "n=0; until $L/larder peers --name %s 2>/dev/null | grep LIVE; do n=$((n+1)); test $n -lt 100; sleep 0.1; "
        "done; "
        "$L/larder set --name %s key value; $L/larder digest --name %s --wait-drained 10; $L/larder get --name %s key";
    char command[8192], out[16384];
    set_up();
    const char *zero = hosts[0].name, *one = hosts[1].name;
    const char *unshare = geteuid() == 0 ? "unshare -n" : "unshare -rn";
    snprintf(command, sizeof command, "%s sh -c 'ip link set lo up'", unshare);
    if (fixture_run(command, out, sizeof out) != 0) {
        fixture_skip(__func__, "no network namespaces here, or no ip");
        return;
    }
    FILE *file = fopen(cert_of[0], "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, script, fixture_folder(), fixture_program("larderd"), zero, one, zero, one, zero, zero, zero, one);
    fclose(file);
    snprintf(command, sizeof command, "%s bash %s", unshare, cert_of[0]);
    int status = fixture_run(command, out, sizeof out);
    if (status != 0 || strstr(out, "value") == NULL)
        printf("\n    status %d: %s\n", status, out);
    CU_ASSERT(status == 0 && strstr(out, "value") != NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "peer 10.99.0.2:7412  LIVE"));
}

void larder_suite_95_keys(void);
void larder_suite_95_keys(void) {
    CU_pSuite suite = CU_add_suite("95_keys", NULL, NULL);
    CU_ADD_TEST(suite, keys_that_cannot_be_used_end_the_start);
    CU_ADD_TEST(suite, a_host_that_claims_to_be_another_is_refused);
    CU_ADD_TEST(suite, a_crowd_of_strangers_neither_fills_memory_nor_keeps_a_peer_out);
    CU_ADD_TEST(suite, changes_travel_between_hosts_with_certificates);
    CU_ADD_TEST(suite, with_keys_hosts_talk_at_any_address);
    CU_ADD_TEST(suite, values_larger_than_a_record_travel_sealed);
    CU_ADD_TEST(suite, hosts_with_other_keys_get_nothing);
    CU_ADD_TEST(suite, with_keys_on_one_side_only_both_say_so);
    CU_ADD_TEST(suite, new_keys_are_for_new_links_and_open_ones_stay);
    CU_ADD_TEST(suite, who_was_revoked_gets_no_new_link);
    CU_ADD_TEST(suite, a_revocation_list_that_ends_is_told_in_time);
    CU_ADD_TEST(suite, a_renewed_certificate_is_taken_before_the_old_one_ends);
    CU_ADD_TEST(suite, openssl_is_not_let_in_by_an_older_tls_or_without_a_key);
}
