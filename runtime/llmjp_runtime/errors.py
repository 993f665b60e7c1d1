"""The runtime's errors.

    RuntimeFailure
    +-- TritonMissing          no tritonserver on this machine
    +-- UnusableInterpreter    Triton's python backend cannot work in this Python
    +-- PortInUse              a port is taken
    +-- ServerFailed           tritonserver ended or did not become ready
    +-- ServerTerminated       it was asked to end before it was ready
    +-- ExitTimedOut           it was asked to end and had to be killed
    +-- ArtefactInvalid        the artefact cannot be served as it is
    +-- UnsupportedModel       the checkpoint needs a feature that the executor lacks
    +-- NotEnoughMemory        weights or KV cache do not fit
    +-- OptionInvalid          an option is out of range or names a missing device
    +-- RequestRefused         a request breaks a limit of the executor (also a ValueError)
    +-- EngineDied             the engine's process ended before it had loaded the model
    +-- ExecutorClosed         work was submitted after close()

Every class carries the exit code of the command line: 2 usage, 3 bad input, 4 memory or disk,
5 not permitted, 6 unsupported, 143 ended by a signal, 1 anything else; and a `code` for programs:
its name in small letters (`artefact_invalid`), or `terminated` after a signal. Messages are one
line, written for people.
"""

from __future__ import annotations

import re
from typing import ClassVar


class RuntimeFailure(Exception):
    """Base class of everything below."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "runtime_failure"
    """A stable word for programs, such as those that read a container's termination message."""

    def __init_subclass__(cls) -> None:
        """Name the code after the class, unless it has its own."""
        super().__init_subclass__()
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


class TritonMissing(RuntimeFailure):
    """There is no tritonserver to start."""

    exit_code: ClassVar[int] = 6


class EngineMissing(RuntimeFailure):
    """The library that generates is not installed."""

    exit_code: ClassVar[int] = 6


class UnusableInterpreter(RuntimeFailure):
    """This Python cannot run Triton's python backend."""

    exit_code: ClassVar[int] = 6


class PortInUse(RuntimeFailure):
    """A port is taken or not permitted."""

    exit_code: ClassVar[int] = 2


class ServerFailed(RuntimeFailure):
    """tritonserver ended by itself or did not become ready in time."""


class ServerTerminated(RuntimeFailure):
    """The server was asked to end before it was ready; nothing is wrong with it."""

    exit_code: ClassVar[int] = 143
    code: ClassVar[str] = "terminated"
    """As after the same signal in a build."""


class ExitTimedOut(RuntimeFailure):
    """The server was asked to end, and had to be killed, perhaps with requests that ran."""


class ArtefactInvalid(RuntimeFailure):
    """The artefact or checkpoint is incomplete, damaged or not of a kind that can be served."""

    exit_code: ClassVar[int] = 3


class UnsupportedModel(RuntimeFailure):
    """The checkpoint needs arithmetic or a layout that the executor does not have."""

    exit_code: ClassVar[int] = 6


class NotEnoughMemory(RuntimeFailure):
    """A device has less free memory than is about to be allocated."""

    exit_code: ClassVar[int] = 4


class OptionInvalid(RuntimeFailure, ValueError):
    """An option of the executor is out of range, or names a device that is not there."""

    exit_code: ClassVar[int] = 2


class RequestRefused(RuntimeFailure, ValueError):
    """A request breaks a limit of the executor; the message is for its sender."""

    exit_code: ClassVar[int] = 3


class EngineDied(RuntimeFailure):
    """The engine's process ended before it had loaded the model, without a word."""


class ExecutorClosed(RuntimeFailure):
    """The executor was closed before the request came."""
