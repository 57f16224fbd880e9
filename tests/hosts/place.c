/* SPDX-License-Identifier: MIT */
/*
 * A network namespace for each host: a TUN device, an address, and nothing else.
 *
 * Hosts without keys may use loopback addresses only, and that is a rule of larderd which this program leaves alone: so
 * they have addresses of 127.77.0.0/24, on the TUN device. That works where the loopback device itself is down and the
 * TUN device routes such addresses (route_localnet). Hosts with keys have 10.77.0.0/24.
 *
 * The process is in the namespace of the host that it made last; its children enter the one that they belong to.
 */
#include "hosts.h"
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE "larder0"

/* A TUN device in the namespace that we are in. */
static int make_device(void) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, DEVICE);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool set_address(int control, unsigned long request_number, uint32_t address) {
    struct ifreq request = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    strcpy(request.ifr_name, DEVICE);
    memcpy(&request.ifr_addr, &in, sizeof in);
    return ioctl(control, request_number, &request) == 0;
}

static bool set_up(int control, bool up) {
    struct ifreq request = {0};
    strcpy(request.ifr_name, DEVICE);
    if (ioctl(control, SIOCGIFFLAGS, &request) != 0)
        return false;
    request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    return ioctl(control, SIOCSIFFLAGS, &request) == 0;
}

const char *hosts_place_init(void) {
    static char why[200];
    if (geteuid() != 0 && !namespaces_become_root())
        snprintf(why, sizeof why, "not root, and no user namespaces: %s", strerror(errno));
    else if (unshare(CLONE_NEWNET) != 0)
        snprintf(why, sizeof why, "no network namespaces: %s", strerror(errno));
    else {
        int device = make_device();
        if (device < 0)
            snprintf(why, sizeof why, "no TUN devices (/dev/net/tun): %s", strerror(errno));
        else
            close(device);
    }
    return why[0] != '\0' ? why : NULL;
}

static bool make_host(struct hosts_run *run, unsigned number) {
    struct hosts_host *host = &run->hosts[number];
    bool plain = run->plan.security == HOSTS_PLAIN;
    uint32_t address = (plain ? 127u : 10u) << 24 | 77u << 16 | (number + 1);
    if (unshare(CLONE_NEWNET) != 0)
        return false;
    host->network = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    host->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    host->device = make_device();
    return host->network >= 0 && host->control >= 0 && host->device >= 0 &&
           (!plain || namespaces_write("/proc/sys/net/ipv4/conf/" DEVICE "/route_localnet", "1")) &&
           set_address(host->control, SIOCSIFADDR, address) &&
           set_address(host->control, SIOCSIFNETMASK, UINT32_C(0xffffff00)) && set_up(host->control, true);
}

bool hosts_place_make(struct hosts_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++)
        run->hosts[host].network = run->hosts[host].control = run->hosts[host].device = -1;
    for (unsigned host = 0; host < run->plan.hosts; host++)
        if (!make_host(run, host)) {
            hosts_fail(run->board, "host %u: no network for it: %s", host, strerror(errno));
            return false;
        }
    return true;
}

void hosts_place_free(struct hosts_run *run) {
    for (unsigned host = 0; host < run->plan.hosts; host++) {
        const int open_here[] = {run->hosts[host].network, run->hosts[host].control, run->hosts[host].device};
        for (unsigned i = 0; i < 3; i++)
            if (open_here[i] >= 0)
                close(open_here[i]);
    }
}

void hosts_place_link(struct hosts_run *run, unsigned host, bool up) {
    run->hosts[host].down = !up;
    if (!set_up(run->hosts[host].control, up))
        hosts_fail(run->board, "host %u: its device cannot be set: %s", host, strerror(errno));
}

bool hosts_place_enter(const struct hosts_host *host) {
    return setns(host->network, CLONE_NEWNET) == 0;
}
