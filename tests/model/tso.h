/* SPDX-License-Identifier: MIT */
/*
 * x86-TSO for the models: plain stores wait in the FIFO of their process before they reach memory, loads do not wait
 * for them, locked instructions and fences do. `drain` moves the oldest entry of any buffer to memory at any time.
 *
 * A model defines CELLS, CPUS and DEPTH first. No process loads a cell that it may have in its own buffer (there is no
 * forwarding here); where the code does, the model fences first, as an unlock does.
 *
 * A process that dies leaves its buffer to the processor: entries still drain. The kernel lets its byte go only when
 * that has happened, so `dead(cpu) && drained(cpu)` is what a free byte means.
 */
byte mem[CELLS];
chan buffer[CPUS] = [DEPTH] of { byte, byte };

#define drained(cpu) (len(buffer[cpu]) == 0)
/* Ends when the buffer is empty: MFENCE, or the locked instruction that it stands before. */
#define FENCE drained(me)
#define STORE(cell, value) buffer[me]!cell, value

/* `seen` is what the cell held; ok: it was `expected`, and holds `desired` now. */
#define CAS(cell, expected, desired)                                                                                   \
    atomic {                                                                                                           \
        FENCE;                                                                                                         \
        seen = mem[cell];                                                                                              \
        if                                                                                                             \
        :: seen == (expected) -> mem[cell] = (desired); ok = 1                                                         \
        :: else -> ok = 0                                                                                              \
        fi                                                                                                             \
    }

active proctype drain() {
    byte cpu, cell, value;
end:
    do
    :: d_step { nempty(buffer[0]) -> buffer[0]?cell, value; mem[cell] = value; cell = 0; value = 0 }
#if CPUS > 1
    :: d_step { nempty(buffer[1]) -> buffer[1]?cell, value; mem[cell] = value; cell = 0; value = 0 }
#endif
#if CPUS > 2
    :: d_step { nempty(buffer[2]) -> buffer[2]?cell, value; mem[cell] = value; cell = 0; value = 0 }
#endif
#if CPUS > 3
    :: d_step { nempty(buffer[3]) -> buffer[3]?cell, value; mem[cell] = value; cell = 0; value = 0 }
#endif
#if CPUS > 4
    :: d_step { nempty(buffer[4]) -> buffer[4]?cell, value; mem[cell] = value; cell = 0; value = 0 }
#endif
    od
}
