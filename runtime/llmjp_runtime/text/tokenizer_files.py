"""Reads the tokenizer files of a checkpoint or artefact; the only I/O of this package."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BuilderError, UnsupportedRequest
from llmjp_builder.contracts.judgement.tokenizer import require_served_tokenizer
from llmjp_builder.contracts.judgement.tokenizer_files import FILES, parse_tokenizer_files
from llmjp_runtime.text.errors import UnsupportedTokenizer, UnusableTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmjp_builder.contracts.judgement.tokenizer_files import TokenizerFiles


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read the files in `folder`; tokenizer.json must be there, the others may be missing.

    They are judged as before a build.

    Raises:
        UnusableTokenizer: a file cannot be read, has the wrong form, or contradicts another one.
        UnsupportedTokenizer: the files are fine, but of a kind that is not served.
    """
    present = {name: _read(folder / name) for name in FILES if (folder / name).is_file()}
    with _translated():
        files = parse_tokenizer_files(present, str(folder))
        require_served_tokenizer(files, str(folder), None)
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UnusableTokenizer(f"{path}: cannot be read ({exc.strerror})") from exc


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except UnsupportedRequest as exc:
        raise UnsupportedTokenizer(str(exc)) from exc
    except BuilderError as exc:
        raise UnusableTokenizer(str(exc)) from exc
