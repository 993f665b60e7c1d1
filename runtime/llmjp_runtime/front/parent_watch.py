"""Ends this process when the tritonserver that started it is gone.

A killed tritonserver leaves its python backend's stub behind, with the model in its memory
(seen with Triton 2.51). The stub is started by a thread that ends early, so the kernel's
parent-death signal, which follows the thread, cannot be used here.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

SERVER = "tritonserver"
"""Name of the process that starts stubs."""
INTERVAL_S = 0.5
"""How often the parent is checked."""


def exit_with_server() -> None:
    """End with the server, even if it died before this process started."""
    server = os.getppid()
    if _read_name(server) != SERVER:
        os._exit(1)

    def watch() -> None:
        tick = threading.Event()
        while os.getppid() == server:
            tick.wait(INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _read_name(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
    except OSError:
        return None
