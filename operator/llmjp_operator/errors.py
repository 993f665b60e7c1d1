"""Errors that the operator raises on purpose.

OperatorError           exit code
|-- InvalidModel        3
|-- BadSettings         3
|-- ApiRefused          1
|   `-- NameTaken       1
|-- ApiUnreachable      1
`-- WatchFailed         1
"""

from __future__ import annotations

from typing import ClassVar


class OperatorError(Exception):
    """Base of everything raised on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1
    """Exit code of the process where it ends with this."""


class InvalidModel(OperatorError):
    """An object is no LlmJpModel that this operator understands. Only its author can fix it."""

    exit_code = 3

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        """Path of the field, as `kubectl explain` takes it: `spec.engine.backend`."""
        self.problem = problem
        """Names what is wrong and what was expected."""


class BadSettings(OperatorError):
    """The operator was installed with settings that it does not understand."""

    exit_code = 3

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


class ApiRefused(OperatorError):
    """The API server answered a call of ours with an error."""

    def __init__(self, status: int, what: str, message: str) -> None:
        super().__init__(f"{what}: {status} {message}")
        self.status = status
        """HTTP status."""
        self.message = message
        """The API server's own words."""

    @property
    def namespace_is_terminating(self) -> bool:
        """Return whether the namespace is being deleted, and with it the object."""
        return self.status == 403 and "is being terminated" in self.message

    @property
    def is_transient(self) -> bool:
        """Return whether the same call may succeed later, with nothing changed by a person."""
        return self.status in {408, 409, 410, 429} or self.status >= 500


class NameTaken(ApiRefused):
    """An object of somebody else has the name that an object of a model would have."""

    def __init__(self, what: str) -> None:
        super().__init__(409, f"apply {what}", "it belongs to somebody else")


class ApiUnreachable(OperatorError):
    """The API server did not answer."""


class WatchFailed(OperatorError):
    """A watch ended in a way that kopf does not recover from; the process must be started again."""
