"""Guard process: runs a command, and kills its whole process group when the builder is gone.

It runs as a script in a session of its own. Its standard input is a pipe that the builder keeps
open, so end of file means that the builder has ended, however that happened. PR_SET_PDEATHSIG would
reach only the command itself, and the processes that `trtllm-build` starts for further ranks would
run on for hours. Standard library only; exits with the command's own status or signal.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading


def main(arguments: list[str]) -> int:
    """Run `arguments` and return the exit status of the guard."""
    child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    status = child.wait()
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's own core is enough
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
