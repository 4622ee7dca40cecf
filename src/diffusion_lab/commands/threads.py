"""How many threads compute: as many as there are free cores. More would wait for each other at every step, spinning."""

import logging
import os
import sys

from diffusion_lab import processor

log = logging.getLogger(__name__)

NOTICED = 0.5  # busy cores
GLANCES = "1000"  # at whether there is work, before a thread that waits sleeps: microseconds, and most waits are over


def settle(requested: int | None) -> None:
    """Let torch compute with so many threads: with `requested`, else with OMP_NUM_THREADS, else on what cores are free.

    Called before torch is imported, it also lets threads that wait sleep soon where others want the cores (OMP_WAIT_POLICY,
    GOMP_SPINCOUNT).
    """
    threads = requested
    if requested is None and "OMP_NUM_THREADS" not in os.environ:
        cores, busy = processor.cores(), processor.busy_cores()
        threads = max(1, round(cores - busy))
        if busy >= NOTICED:
            log.info("load         others keep %.1f of %d cores busy: threads=%d", busy, cores, threads)
            if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
                os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
                os.environ.setdefault("GOMP_SPINCOUNT", GLANCES)
    if threads:
        import torch

        torch.set_num_threads(threads)
