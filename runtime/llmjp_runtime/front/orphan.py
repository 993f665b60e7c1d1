"""Ends this process when the process that started it is gone.

A killed tritonserver leaves its python backend's stub behind, with the model in its memory
(seen with Triton 2.51). The stub is started by a thread that ends early, so the kernel's
parent-death signal, which follows the thread, cannot be used here.
"""

from __future__ import annotations

import os
import threading

INTERVAL_S = 0.5
"""How often the parent is looked at."""


def exit_with_parent() -> None:
    """Start the thread that watches the parent of this process."""
    parent = os.getppid()

    def watch() -> None:
        tick = threading.Event()
        while os.getppid() == parent:
            tick.wait(INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, name="orphan", daemon=True).start()
