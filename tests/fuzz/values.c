/* SPDX-License-Identifier: MIT */
/*
 * Values on a command line (tools/cli.c): numbers, sizes, durations, real numbers; addresses (sidecar/config.c).
 *
 * What is taken, printed and read again is the same; a unit multiplies; what is a number is a size.
 */
#include "fuzz.h"

#include "cli.h"
#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    char text[256], printed[64], host[LR_ADDRESS_BYTES], port[6], why[LR_WHY_BYTES];
    uint64_t number = 7, again, bytes = 7, ms = 7;
    double real = 7;
    len = len < sizeof text - 1 ? len : sizeof text - 1;
    memcpy(text, data, len);
    text[len] = 0;
    if (cli_parse_number(text, &number)) {
        snprintf(printed, sizeof printed, "%" PRIu64, number);
        MUST(cli_parse_number(printed, &again) && again == number);
        MUST(cli_parse_size(text, &bytes) && bytes == number);
        snprintf(printed, sizeof printed, "%" PRIu64 "K", number);
        if (number < UINT64_C(1) << 50)
            MUST(cli_parse_size(printed, &bytes) && bytes == number << 10);
    } else {
        MUST(number == 7);
    }
    if (cli_parse_real(text, &real))
        MUST(isfinite(real) && real >= 0);
    if (cli_parse_duration(text, &ms) && ms < UINT64_C(1) << 50) {
        snprintf(printed, sizeof printed, "%" PRIu64 "ms", ms);
        MUST(cli_parse_duration(printed, &again) && again == ms);
    }
    (void)cli_parse_size(text, &bytes);
    if (lr_config_split(text, host, port, why)) {
        char whole[LR_ADDRESS_BYTES + 16], host2[LR_ADDRESS_BYTES], port2[6];
        MUST(host[0] != 0 && strlen(host) < sizeof host && strlen(port) <= 5);
        snprintf(whole, sizeof whole, text[0] == '[' ? "[%s]:%s" : "%s:%s", host, port);
        if (strlen(whole) < LR_ADDRESS_BYTES)
            MUST(lr_config_split(whole, host2, port2, why) && strcmp(host, host2) == 0 && strcmp(port, port2) == 0);
    }
    return 0;
}
