"""Errors that a verification raises on purpose.

    RuntimeFailure
    +-- ReferenceInvalid      the Hugging Face checkpoint is incomplete or damaged
    +-- ReferenceUnsupported  it is no plain Llama
    +-- TransformersMissing   the extra `verify` is not installed
    +-- DifferentModel        checkpoint and reference are not of one model
    +-- PromptsInvalid        the prompts cannot be used
    +-- VerdictFailed         everything ran, and the checkpoint is not good enough

The checkpoint's own faults are those of the executor (`ArtefactInvalid` and so on).
"""

from __future__ import annotations

from typing import ClassVar

from llmjp_runtime.errors import RuntimeFailure


class ReferenceInvalid(RuntimeFailure):
    """A file or tensor of the reference is missing, damaged or of another shape."""

    exit_code: ClassVar[int] = 3


class ReferenceUnsupported(RuntimeFailure):
    """The reference needs arithmetic that is not here."""

    exit_code: ClassVar[int] = 6


class TransformersMissing(RuntimeFailure):
    """The reference is run by transformers, which cannot be imported."""

    exit_code: ClassVar[int] = 2

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the reference is run by transformers, which cannot be imported ({reason}): "
            "pip install 'llmjp-serving[verify]'"
        )


class DifferentModel(RuntimeFailure):
    """The two configs describe different models."""

    exit_code: ClassVar[int] = 3


class PromptsInvalid(RuntimeFailure):
    """There are no prompts, or one does not fit the model."""

    exit_code: ClassVar[int] = 3


class VerdictFailed(RuntimeFailure):
    """The checkpoint strays from its reference by more than the limits."""

    exit_code: ClassVar[int] = 3
