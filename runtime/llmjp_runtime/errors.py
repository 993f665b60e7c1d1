"""What the runtime raises on purpose.

    RuntimeFailure
    +-- TritonMissing          no tritonserver on this machine
    +-- UnusableInterpreter    Triton's python backend cannot work in this Python
    +-- PortInUse              a port is taken
    +-- ServerFailed           tritonserver ended or did not become ready
    +-- ArtefactInvalid        the artefact cannot be served as it is
    +-- UnsupportedModel       the checkpoint needs what the executor cannot do

Every class carries the exit code of the command line: 2 usage, 3 bad input, 4 memory or disk,
5 not permitted, 6 unsupported, 1 anything else. Messages are one line for the person who reads them.
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
