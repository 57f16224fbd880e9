/* SPDX-License-Identifier: MIT */
/* See control.h. */
#include "control.h"

#include "control_address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lr_control_client {
    struct lr_control_client *next;
    struct lr_control *control;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_write_t write;
    unsigned handles; /* open: the last one frees */
    bool may_change, answered;
    size_t len;
    char request[LR_CONTROL_REQUEST];
    char answer[LR_CONTROL_ANSWER];
};

static void on_incoming(uv_stream_t *listener, int status);

/* ---- ends ------------------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) {
    struct lr_control_client *client = handle->data;
    if (--client->handles > 0)
        return;
    struct lr_control *control = client->control;
    struct lr_control_client **at = &control->clients;
    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    control->count--;
    free(client);
    if (control->listening && control->waiting) /* for a place */
        on_incoming((uv_stream_t *)&control->listener, 0);
}

static void end(struct lr_control_client *client) {
    if (uv_is_closing((uv_handle_t *)&client->pipe))
        return;
    uv_close((uv_handle_t *)&client->pipe, on_closed);
    uv_close((uv_handle_t *)&client->timer, on_closed);
}

static void on_late(uv_timer_t *timer) {
    end(timer->data);
}

static void on_written(uv_write_t *request, int status) {
    (void)status;
    end(request->data);
}

/* ---- a request --------------------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct lr_control_client *client = handle->data;
    (void)suggested;
    *out = uv_buf_init(client->request + client->len, (unsigned)(sizeof client->request - 1 - client->len));
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer) {
    struct lr_control_client *client = stream->data;
    (void)buffer;
    if (got < 0) { /* UV_ENOBUFS: the line is too long */
        end(client);
        return;
    }
    client->len += (size_t)got;
    char *line_end = memchr(client->request, '\n', client->len);
    if (line_end == NULL)
        return;
    *line_end = '\0';
    client->answered = true;
    uv_read_stop(stream);
    client->control->answer(client->control->context, client->request, client->may_change, client->answer);
    uv_buf_t answer = uv_buf_init(client->answer, (unsigned)strlen(client->answer));
    client->write.data = client;
    if (uv_write(&client->write, stream, &answer, 1, on_written) != 0)
        end(client);
}

static bool may_change(const uv_pipe_t *pipe) {
    uv_os_fd_t fd;
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof who;
    return uv_fileno((const uv_handle_t *)pipe, &fd) == 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

static void on_incoming(uv_stream_t *listener, int status) {
    struct lr_control *control = listener->data;
    struct lr_control_client *client =
        status == 0 && control->count < LR_CONTROL_CLIENTS ? calloc(1, sizeof *client) : NULL;
    control->waiting = status == 0 && client == NULL;
    if (client == NULL)
        return;
    client->control = control;
    client->next = control->clients;
    control->clients = client;
    control->count++;
    client->handles = 2;
    uv_pipe_init(control->loop, &client->pipe, 0);
    uv_timer_init(control->loop, &client->timer);
    client->pipe.data = client->timer.data = client;
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) != 0) {
        end(client);
        return;
    }
    client->may_change = may_change(&client->pipe);
    uv_timer_start(&client->timer, on_late, LR_CONTROL_MS, 0);
    uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
}

/* ---- the socket ---------------------------------------------------------------------------------------------------
 */

bool lr_control_start(struct lr_control *control, const struct lr_options *segment, char *why) {
    struct sockaddr_un address;
    if (lr_control_address(segment, &address, why) != 0)
        return false;
    if (!lr_control_clear(&address)) { /* we have the segment's sidecar role, so it is no larderd's */
        snprintf(why, LR_WHY_BYTES, "%.150s is there already, and not ours to remove", address.sun_path);
        return false;
    }
    uv_pipe_init(control->loop, &control->listener, 0);
    control->listener.data = control;
    bool grouped = segment->group != (gid_t)-1;
    /* Nobody can connect before it listens. */
    int result = uv_pipe_bind(&control->listener, address.sun_path);
    if (result == 0 && ((grouped && chown(address.sun_path, (uid_t)-1, segment->group) != 0) ||
                        chmod(address.sun_path, grouped ? 0660 : 0600) != 0))
        result = uv_translate_sys_error(errno);
    if (result == 0)
        result = uv_listen((uv_stream_t *)&control->listener, LR_CONTROL_CLIENTS, on_incoming);
    control->listening = result == 0;
    if (control->listening)
        return true;
    uv_close((uv_handle_t *)&control->listener, NULL);
    snprintf(why, LR_WHY_BYTES, "%.150s cannot be made: %.100s", address.sun_path, uv_strerror(result));
    return false;
}

void lr_control_stop(struct lr_control *control) {
    if (!control->listening)
        return;
    control->listening = false;
    uv_close((uv_handle_t *)&control->listener, NULL); /* removes the file too */
    for (struct lr_control_client *client = control->clients; client != NULL; client = client->next)
        end(client);
}
