/* SPDX-License-Identifier: MIT */
/* Row r, step s holds lags from (8 + s) << r on; the first row also holds those below 8. */
#include "lag.h"

static unsigned place(uint64_t us) {
    if (us < LR_LAG_STEPS)
        return 0;
    unsigned row = 0;
    while (us >= 2 * LR_LAG_STEPS) {
        us >>= 1;
        row++;
    }
    if (row >= LR_LAG_ROWS)
        return LR_LAG_ROWS * LR_LAG_STEPS - 1;
    return row * LR_LAG_STEPS + (unsigned)(us - LR_LAG_STEPS);
}

void lr_lag_add(struct lr_lag *lag, uint64_t us) {
    lag->counts[place(us)]++;
    lag->total++;
}

uint64_t lr_lag_percentile(const struct lr_lag *lag, unsigned percent) {
    uint64_t wanted = lag->total * percent / 100;
    uint64_t seen = 0;
    for (unsigned i = 0; i < LR_LAG_ROWS * LR_LAG_STEPS; i++) {
        seen += lag->counts[i];
        if (lag->counts[i] > 0 && seen > wanted)
            return ((uint64_t)(LR_LAG_STEPS + i % LR_LAG_STEPS + 1) << (i / LR_LAG_STEPS)) - 1;
    }
    return UINT64_MAX;
}

void lr_lag_age(struct lr_lag *lag) {
    lag->total = 0;
    for (unsigned i = 0; i < LR_LAG_ROWS * LR_LAG_STEPS; i++) {
        lag->counts[i] /= 2;
        lag->total += lag->counts[i];
    }
}
