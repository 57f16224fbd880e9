/* SPDX-License-Identifier: MIT */
/* Included before every file of the core that the simulator compiles: a spinning loop is a place to let others run. */
#ifndef SIM_CORE_H
#define SIM_CORE_H

void sim_machine_pause(void);
#define __builtin_ia32_pause() sim_machine_pause()

#endif
