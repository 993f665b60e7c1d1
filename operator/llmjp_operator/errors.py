"""What the operator raises on purpose.

OperatorError           exit code
`-- InvalidModel        3
"""

from __future__ import annotations

from typing import ClassVar


class OperatorError(Exception):
    """Base of everything raised on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1
    """What a process that cannot go on exits with."""


class InvalidModel(OperatorError):
    """An object is no LlmJpModel that this operator understands. Only its author can mend it."""

    exit_code = 3

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        """Of the field, as `kubectl explain` takes it: `spec.engine.backend`."""
        self.problem = problem
        """What is wrong, what was expected."""
