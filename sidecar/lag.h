/* SPDX-License-Identifier: MIT */
/* How old changes are when they arrive: a log-linear histogram that forgets. */
#ifndef LR_LAG_H
#define LR_LAG_H

#include <stdint.h>

#define LR_LAG_STEPS 8u /* of each power of two */
#define LR_LAG_ROWS 40u

struct lr_lag {
    uint64_t counts[LR_LAG_ROWS * LR_LAG_STEPS];
    uint64_t total;
};

void lr_lag_add(struct lr_lag *lag, uint64_t us);
/* The lag that `percent` of the changes did not exceed, at most an eighth too high; UINT64_MAX: none seen lately. */
uint64_t lr_lag_percentile(const struct lr_lag *lag, unsigned percent);
/* Half of everything is forgotten: called now and then, it makes the figures those of the last minutes. */
void lr_lag_age(struct lr_lag *lag);

#endif
