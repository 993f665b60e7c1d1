"""The errors of this package.

    TextError (RuntimeFailure)
    |-- UnusableTokenizer        the files are missing, damaged or contradict each other
    |-- UnsupportedTokenizer     the files are fine, but of a kind this package does not decode
    `-- InvalidText (ValueError) a request cannot be served; its sender is told why
        |-- InvalidUtf8
        |-- InvalidMessages
        |-- NoChatTemplate       messages were sent to a checkpoint without a chat template
        `-- InvalidStops

No message ever holds a prompt, a content or a part of one.
"""

from __future__ import annotations

from typing import ClassVar

from llmjp_runtime.errors import RuntimeFailure


class TextError(RuntimeFailure):
    """Base of all errors of this package."""

    exit_code: ClassVar[int] = 3


class UnusableTokenizer(TextError):
    """A tokenizer file is missing, damaged or contradicts another one."""


class UnsupportedTokenizer(TextError):
    """The tokenizer is of a kind that this package cannot decode piece by piece."""

    exit_code: ClassVar[int] = 6


class InvalidText(TextError, ValueError):
    """A request's text cannot be served as it is."""


class InvalidUtf8(InvalidText):
    """Bytes that are not UTF-8."""


class InvalidMessages(InvalidText):
    """`messages` is not a conversation the template can render."""


class NoChatTemplate(InvalidText):
    """The checkpoint has no chat template, so messages have no defined prompt."""

    exit_code: ClassVar[int] = 6


class InvalidStops(InvalidText):
    """The stop strings are beyond the limits."""
