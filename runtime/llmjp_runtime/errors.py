"""What the runtime raises on purpose.

    RuntimeFailure
    +-- TritonMissing          no tritonserver on this machine
    +-- UnusableInterpreter    Triton's python backend cannot work in this Python
    +-- PortInUse              a port is taken
    +-- ServerFailed           tritonserver ended or did not become ready
    +-- ArtefactInvalid        the artefact cannot be served as it is
    +-- UnsupportedModel       the checkpoint needs what the executor cannot do
    +-- NotEnoughMemory        weights or KV cache do not fit
    +-- OptionInvalid          an option is out of range or names what is not there
    +-- RequestRefused         a request breaks a limit of the executor (also a ValueError)
    +-- ExecutorClosed         work was submitted after close()

Every class carries the exit code of the command line: 2 usage, 3 bad input, 4 memory or disk,
5 not permitted, 6 unsupported, 1 anything else. Messages are one line for the person who reads
them.
"""

from __future__ import annotations

from typing import ClassVar


class RuntimeFailure(Exception):
    """Base class of everything below."""

    exit_code: ClassVar[int] = 1


class TritonMissing(RuntimeFailure):
    """There is no tritonserver to start."""

    exit_code: ClassVar[int] = 6


class UnusableInterpreter(RuntimeFailure):
    """This Python cannot run Triton's python backend."""

    exit_code: ClassVar[int] = 6


class PortInUse(RuntimeFailure):
    """A port is taken or not permitted."""

    exit_code: ClassVar[int] = 2


class ServerFailed(RuntimeFailure):
    """tritonserver ended by itself or did not become ready in time."""


class ArtefactInvalid(RuntimeFailure):
    """The artefact or checkpoint is incomplete, damaged or not of a kind that can be served."""

    exit_code: ClassVar[int] = 3


class UnsupportedModel(RuntimeFailure):
    """The checkpoint asks for arithmetic or a layout that the executor does not have."""

    exit_code: ClassVar[int] = 6


class NotEnoughMemory(RuntimeFailure):
    """A device has less free memory than is about to be allocated."""

    exit_code: ClassVar[int] = 4


class OptionInvalid(RuntimeFailure, ValueError):
    """An option of the executor is out of range, or names a device that is not there."""

    exit_code: ClassVar[int] = 2


class RequestRefused(RuntimeFailure, ValueError):
    """A request breaks a limit of the executor; the message is for whoever sent it."""

    exit_code: ClassVar[int] = 3


class ExecutorClosed(RuntimeFailure):
    """The executor was closed before the request came."""
