"""Exit codes: every failure becomes one line on stderr and a code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUG = 1
"""Exit code of an unforeseen error."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""
TRACEBACK_VARIABLE = "LLMJP_TRACEBACK"
"""Environment variable that, set to anything, shows the traceback as well."""


def describe_error(error: BaseException) -> tuple[str, int]:
    """Return the line to print and the exit code (pure).

    Errors that a part raises on purpose carry `exit_code`; anything else is a bug of ours.
    """
    exit_code = getattr(error, "exit_code", None)
    text = " ".join(str(error).split())
    if isinstance(exit_code, int):
        return text, exit_code
    where = f"(a bug in llmjp-serving; {TRACEBACK_VARIABLE}=1 shows where)"
    return f"internal error: {type(error).__name__}: {text} {where}", BUG


def run_command_line(command: Callable[[], object]) -> int:
    """Run the command line and return the exit code."""
    try:
        command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone: print nothing more, not even at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except Exception as exc:  # noqa: BLE001  the edge of the process
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        line, exit_code = describe_error(exc)
        print(f"llmjp: {line}", file=sys.stderr)  # noqa: T201  the one line
        return exit_code
    return 0
