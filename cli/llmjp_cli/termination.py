"""What a command leaves for whoever runs it in a Job: its result, or why there is none.

Kubernetes keeps 4096 bytes of a container's termination message and cuts the rest off
(kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure), so that a longer
JSON object would be none.
"""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from llmjp_builder.contracts.spec import Built, Failure, Resolution, Step

LIMIT = 4096
"""Bytes."""

TerminationMessage = Annotated[
    Path | None,
    typer.Option(
        envvar="LLMJP_TERMINATION_MESSAGE",
        help="File for a JSON object with the result, or why there is none.",
    ),
]


def text_of(words: Built | Failure | Resolution) -> str:
    """The JSON of a contract, short enough (pure). A failure's message is cut if it must be."""
    from llmjp_builder.contracts.spec import Failure, canonical_json

    if isinstance(words, Failure):
        return _fitting(
            words.message, lambda message: canonical_json(replace(words, message=message).to_json())
        )
    return canonical_json(words.to_json())


def leave(file: Path | None, words: Built | Failure | Resolution) -> None:
    """Write them to `file`, if there is one; a file that cannot be written changes nothing."""
    if file is not None:
        # One unbuffered write: a signal's handler that leaves other words meets no half of these.
        with suppress(OSError), file.open("wb", buffering=0) as out:
            out.write(text_of(words).encode())


def failure_of(error: Exception, step: Step) -> Failure:
    """What to say of an error (pure); a wrong option is the caller's, not a bug."""
    from llmjp_builder.contracts.spec import Failure

    if isinstance(error, typer.BadParameter):
        return Failure(code="usage", step=step, message=str(error), retryable=False)
    return Failure.of(error, step)


class _AskedToEnd(KeyboardInterrupt):
    """SIGTERM came. As with Ctrl-C, no part takes it for an error, and finished work is kept."""


@contextmanager
def failures_left(file: Path | None, step: Callable[[], Step]) -> Iterator[None]:
    """Leave a Failure where the block raises, or where the process is asked to end (SIGTERM).

    In the second case it is left at once: tidying up may take longer than the process has.

    Args:
        file: for the message; None leaves nothing.
        step: what the command is at.

    Raises:
        Terminated: the process was asked to end.
    """
    asked = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            leave(file, failure_of(_terminated(), step()))
            raise _AskedToEnd

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException as exc:
        if asked:
            raise _terminated() from exc
        if isinstance(exc, Exception):
            leave(file, failure_of(exc, step()))
        raise
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _terminated() -> Exception:
    from llmjp_builder.contracts.errors import Terminated

    return Terminated("it was asked to end before it was done; the next run goes on from here")


@contextmanager
def reason_left(file: Path | None) -> Iterator[None]:
    """Leave why the block raises, for whoever runs a server: `{"code": ..., "message": ...}`.

    Args:
        file: for the message; None leaves nothing.
    """
    try:
        yield
    except Exception as exc:
        if file is not None:
            with suppress(OSError):
                file.write_text(reason_of(exc), encoding="utf-8")
        raise


def reason_of(error: Exception) -> str:
    """The JSON of an error, short enough (pure).

    Errors that a part raises on purpose carry `exit_code` and `code`; anything else is a bug.
    """
    code, message = getattr(error, "code", None), " ".join(str(error).split())
    if isinstance(error, typer.BadParameter):
        code = "usage"
    elif not hasattr(error, "exit_code") or not isinstance(code, str):
        code, message = "internal", f"{type(error).__name__}: {message}"
    return _fitting(
        message, lambda cut: json.dumps({"code": code, "message": cut}, ensure_ascii=False)
    )


def _fitting(message: str, render: Callable[[str], str]) -> str:
    """What `render` makes of as much of a message as there is room for."""
    message = message.encode(errors="replace").decode()  # a path may hold bytes that are no text
    text = render(message)
    while message and (too_long := len(text.encode()) - LIMIT) > 0:
        message = message[: -max(too_long // 6, 1)]  # no character takes more bytes
        text = render(message)
    return text
