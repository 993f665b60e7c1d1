"""Kubernetes termination messages: a command's result, or why it failed, as JSON.

Kubernetes truncates a container's termination message to 4096 bytes
(kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure), and truncated JSON
would be useless, so messages are shortened to fit.
"""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from llmjp_builder.contracts.spec import Built, Failure, Resolution, Step

MAX_BYTES = 4096


def render_message(result: Built | Failure | Resolution) -> str:
    """Return a contract as JSON that fits (pure); a failure's text is cut if need be."""
    from llmjp_builder.contracts.spec import Failure, to_canonical_json

    if isinstance(result, Failure):
        return _shorten_to_fit(
            result.message,
            lambda message: to_canonical_json(replace(result, message=message).to_json()),
        )
    return to_canonical_json(result.to_json())


def write_message(file: Path | None, result: Built | Failure | Resolution) -> None:
    """Write the message to `file`, if one is given; ignore a file that cannot be written."""
    if file is not None:
        # One unbuffered write: a signal handler that writes another message finds no half of it.
        with suppress(OSError), file.open("wb", buffering=0) as out:
            out.write(render_message(result).encode())


def build_failure(error: Exception, step: Step) -> Failure:
    """Return an error as a Failure (pure); a wrong option is a usage error, not a bug."""
    from llmjp_builder.contracts.spec import Failure

    if isinstance(error, typer.BadParameter):
        return Failure(code="usage", step=step, message=str(error), retryable=False)
    return Failure.from_error(error, step)


class _TerminationRequested(KeyboardInterrupt):
    """SIGTERM came. Like Ctrl-C, no part mistakes it for an error, and finished work is kept."""


@contextmanager
def reporting_failures(file: Path | None, step: Callable[[], Step]) -> Iterator[None]:
    """Write a Failure if the block raises or the process gets SIGTERM.

    After SIGTERM it is written at once: cleaning up may take longer than the process has.

    Args:
        file: for the message; None writes nothing.
        step: returns the step that the command is in.

    Raises:
        BuildTerminated: the process got SIGTERM.
    """
    terminating = False

    def terminate(_number: int, _frame: FrameType | None) -> None:
        nonlocal terminating
        if not terminating:
            terminating = True
            write_message(file, build_failure(_build_terminated(), step()))
            raise _TerminationRequested

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except BaseException as exc:
        if terminating:
            raise _build_terminated() from exc
        if isinstance(exc, Exception):
            write_message(file, build_failure(exc, step()))
        raise
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _build_terminated() -> Exception:
    from llmjp_builder.contracts.errors import BuildTerminated

    return BuildTerminated("terminated before it was finished; the next run resumes from here")


@contextmanager
def reporting_errors(file: Path | None) -> Iterator[None]:
    """Write why the block raises, for servers: `{"code": ..., "message": ...}`.

    Args:
        file: for the message; None writes nothing.
    """
    try:
        yield
    except Exception as exc:
        if file is not None:
            with suppress(OSError):
                file.write_text(render_error(exc), encoding="utf-8")
        raise


def render_error(error: Exception) -> str:
    """Return an error as JSON that fits (pure).

    Errors that a part raises on purpose carry `exit_code` and `code`; anything else is a bug.
    """
    code, message = getattr(error, "code", None), " ".join(str(error).split())
    if isinstance(error, typer.BadParameter):
        code = "usage"
    elif not hasattr(error, "exit_code") or not isinstance(code, str):
        code, message = "internal", f"{type(error).__name__}: {message}"
    return _shorten_to_fit(
        message, lambda cut: json.dumps({"code": code, "message": cut}, ensure_ascii=False)
    )


def _shorten_to_fit(message: str, render: Callable[[str], str]) -> str:
    """Return what `render` makes of as much of the message as fits."""
    message = message.encode(errors="replace").decode()  # a path may hold bytes that are not text
    text = render(message)
    while message and (excess := len(text.encode()) - MAX_BYTES) > 0:
        message = message[: -max(excess // 6, 1)]  # no character takes more than 6 bytes
        text = render(message)
    return text
