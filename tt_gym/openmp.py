"""How the threads of torch wait for work; to be set before torch is imported."""

import os


def choose_waiting() -> None:
    """Let OpenMP threads spin for some microseconds, then sleep, unless the user has chosen.

    Threads that spin on take the cores from the physics and slow small networks down a hundredfold;
    threads that sleep at once are woken many times per step. The count is libgomp's, of its loop.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
