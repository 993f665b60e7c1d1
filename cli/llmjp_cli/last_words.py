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
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from llmjp_builder.spec import Built, Failure, Resolution, Step

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
    from llmjp_builder.spec import Failure, canonical_json

    text = canonical_json(words.to_json())
    while len(text.encode()) > LIMIT and isinstance(words, Failure):
        too_long = len(text.encode()) - LIMIT
        words = replace(words, message=words.message[: -max(too_long // 3, 8)])
        text = canonical_json(words.to_json())
    return text


def leave(file: Path | None, words: Built | Failure | Resolution) -> None:
    """Write them to `file`, if there is one; a file that cannot be written changes nothing."""
    if file is not None:
        with suppress(OSError):
            file.write_text(text_of(words), encoding="utf-8")


@contextmanager
def failures_left(file: Path | None, step: Callable[[], Step]) -> Iterator[None]:
    """Leave a Failure where the block raises, and where the process is asked to end meanwhile.

    Args:
        file: for the message; None leaves nothing.
        step: what the command was at.
    """
    from llmjp_builder.errors import Terminated
    from llmjp_builder.spec import Failure

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Terminated("it was asked to end before it was done; the next run goes on from here")

    before: Any = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception as exc:
        leave(file, Failure.of(exc, step()))
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


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
    # A path may hold bytes that are no text.
    message = message.encode(errors="replace").decode()
    while True:
        text = json.dumps({"code": code, "message": message}, ensure_ascii=False)
        if (too_long := len(text.encode()) - LIMIT) <= 0:
            return text
        message = message[: -max(too_long // 6, 1)]  # no character takes more bytes
