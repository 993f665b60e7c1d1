"""What the builder raises on purpose.

    BuilderError                      exit code  code in the termination message
    |-- InvalidSpec                   2          invalid_spec
    |-- BadInput                      3          bad_input
    |   |-- BadHeader                            bad_header
    |   |-- MissingFile                          missing_file
    |   |-- BadConfig                            bad_config
    |   |-- BadTensors                           bad_tensors
    |   |-- SourceChanged                        source_changed
    |   |-- BadArtefact                          bad_artefact
    |   |-- OutputExists                         output_exists
    |   `-- DiskFailed                           disk_failed
    |-- NotEnoughDisk                 4          not_enough_disk
    |-- NotPermitted                  5          not_permitted
    `-- Unsupported                   6          unsupported

Every message is one line: what is wrong, where, what was expected and found, what to do. Control
characters in names that come from files are escaped.
"""

from __future__ import annotations

from typing import ClassVar

_MAX_MESSAGE = 1500
"""Characters; names inside damaged files may be of any length."""


class BuilderError(Exception):
    """Base of everything raised on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1
    """What the process exits with."""
    code: ClassVar[str] = "internal"
    """A stable word for programs (`Failure.code`)."""
    retryable: ClassVar[bool] = False
    """Whether the same build may succeed later with nothing changed in its spec and source."""

    def __init__(self, message: str) -> None:
        shown = "".join(c if c.isprintable() else _escaped(c) for c in message[:_MAX_MESSAGE])
        super().__init__(shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class InvalidSpec(BuilderError):
    """A build spec or an option has a value that no checkpoint could satisfy."""

    exit_code = 2
    code = "invalid_spec"


class BadInput(BuilderError):
    """A file given to us is not what it claims to be."""

    exit_code = 3
    code = "bad_input"


class BadHeader(BadInput):
    """A safetensors file whose header cannot be believed, or shorter than its header says."""

    code = "bad_header"


class MissingFile(BadInput):
    """A file that must be there is not."""

    code = "missing_file"


class BadConfig(BadInput):
    """A JSON file of the checkpoint is malformed, or lacks what is needed."""

    code = "bad_config"


class BadTensors(BadInput):
    """The checkpoint's tensors are not those its config.json describes."""

    code = "bad_tensors"


class SourceChanged(BadInput):
    """A source file was written to while it was read."""

    code = "source_changed"
    retryable = True


class BadArtefact(BadInput):
    """An artefact that is incomplete, damaged, or not one at all."""

    code = "bad_artefact"


class OutputExists(BadInput):
    """The place of the result is taken; nothing there was touched."""

    code = "output_exists"


class DiskFailed(BadInput):
    """The operating system could not read or write."""

    code = "disk_failed"
    retryable = True


class NotEnoughDisk(BuilderError):
    """The result does not fit on the disk."""

    exit_code = 4
    code = "not_enough_disk"
    retryable = True


class NotPermitted(BuilderError):
    """The operating system denies access."""

    exit_code = 5
    code = "not_permitted"


class Unsupported(BuilderError):
    """A valid request that this builder cannot serve."""

    exit_code = 6
    code = "unsupported"
