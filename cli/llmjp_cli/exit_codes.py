"""The edge of the process: every failure becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUG = 1
"""Exit code of what we did not foresee."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
TRACEBACK_VARIABLE = "LLMJP_TRACEBACK"
"""Set to anything: show the traceback as well."""


def describe(error: BaseException) -> tuple[str, int]:
    """The line for the person and the exit code (pure).

    Errors that a part raises on purpose carry `exit_code`; anything else is a bug of ours.
    """
    exit_code = getattr(error, "exit_code", None)
    text = " ".join(str(error).split())
    if isinstance(exit_code, int):
        return text, exit_code
    where = f"(a bug in llmjp-serving; {TRACEBACK_VARIABLE}=1 shows where)"
    return f"internal error: {type(error).__name__}: {text} {where}", BUG


def run(command: Callable[[], object]) -> int:
    """Run the command line; the exit code."""
    try:
        command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left; say nothing more, at exit neither.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except Exception as exc:  # noqa: BLE001  the process's edge
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        line, exit_code = describe(exc)
        print(f"llmjp: {line}", file=sys.stderr)  # noqa: T201  the one line
        return exit_code
    return 0
