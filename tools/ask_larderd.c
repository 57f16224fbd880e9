/* SPDX-License-Identifier: MIT */
/* See ask_larderd.h. */
#include "ask_larderd.h"

#include "control_address.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int fail(struct ask_failure *failure, int error, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(struct ask_failure *failure, int error, const char *remedy, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    failure->error = error;
    failure->remedy = remedy != NULL             ? remedy
                      : error == LARDER_EINVALID ? "see `larder peers --help`"
                                                 : lr_error_remedy(error);
    return error;
}

static int fail_to_connect(struct ask_failure *failure, const char *path, int reason) {
    if (reason == EACCES || reason == EPERM)
        return fail(failure, LARDER_EPERMISSION, "ask as root, or as the user whose larderd it is",
                    "not admitted to the larderd at %s", path);
    if (reason == EAGAIN || reason == EINPROGRESS)
        return fail(failure, LARDER_ETIMED_OUT, "see its log", "the larderd at %s does not answer", path);
    return fail(failure, LARDER_ENO_SEGMENT, "start larderd for this segment, or name another one",
                "no larderd listens at %s: %s", path, strerror(reason));
}

static bool is_trusted(int fd, const struct lr_options *options) {
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid() || who.uid == options->owner || geteuid() == 0);
}

static int reach(const struct lr_options *options, unsigned patience_ms, struct ask_failure *failure, int *out) {
    struct sockaddr_un address;
    char why[LR_WHY_BYTES] = "";
    struct timeval patience = {.tv_sec = patience_ms / 1000, .tv_usec = patience_ms % 1000 * 1000};
    int error = 0;
    if (lr_control_address(options, &address, why) != 0)
        return fail(failure, LARDER_EINVALID, NULL, "%s", why);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(failure, LARDER_ESYSTEM, NULL, "no socket can be made: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        error = fail_to_connect(failure, address.sun_path, errno);
    else if (!is_trusted(fd, options))
        error = fail(failure, LARDER_EPERMISSION, "name its user by --owner if you trust that one",
                     "%s belongs to a process of another user", address.sun_path);
    if (error == 0)
        *out = fd;
    else
        close(fd);
    return error;
}

int ask_larderd(const struct lr_options *options, const char *line, unsigned patience_ms, char answer[ASK_ANSWER_BYTES],
                struct ask_failure *failure) {
    int fd = -1, error = reach(options, patience_ms, failure, &fd);
    size_t len = 0;
    if (error != 0)
        return error;
    ssize_t got = send(fd, line, strlen(line), MSG_NOSIGNAL);
    while (got > 0 && len < ASK_ANSWER_BYTES - 1 && (got = recv(fd, answer + len, ASK_ANSWER_BYTES - 1 - len, 0)) > 0)
        len += (size_t)got;
    answer[len] = '\0';
    close(fd);
    if (got < 0 || strchr(answer, '\n') == NULL)
        return fail(failure, LARDER_ETIMED_OUT, "see larderd's log", "larderd has not answered");
    if (strncmp(answer, "ok\n", 3) == 0)
        return 0;
    char *text = strncmp(answer, "error\t", 6) == 0 ? strchr(answer + 6, '\t') : NULL;
    error = text != NULL ? (int)strtol(answer + 6, NULL, 10) : 0;
    if (error >= 0)
        return fail(failure, LARDER_EVERSION, NULL, "larderd speaks of peers in another way than this program");
    text[strcspn(text, "\n")] = '\0';
    return fail(failure, error, "see `larder peers list` and `larder peers --help`", "%.*s: %.300s",
                (int)strcspn(line, "\n"), line, text + 1);
}

void ask_cut(char *line, char **fields, unsigned count) {
    static char none[] = "-";
    for (unsigned i = 0; i < count; i++) {
        char *field = line != NULL ? strsep(&line, "\t") : none;
        fields[i] = field;
    }
}
