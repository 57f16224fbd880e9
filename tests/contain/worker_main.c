/* SPDX-License-Identifier: MIT */
/* The worker as a program of its own, to be built against another C library: larder-contain-musl. */
#include "contain/board.h"

int main(int argc, char **argv) {
    return argc == 5 ? contain_worker_main(argv + 1) : 2;
}
