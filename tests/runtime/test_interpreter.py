"""The Python that serves: this one can, and others are told what to install."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmjp_runtime.errors import UnusableInterpreter
from llmjp_runtime.interpreter import Interpreter, check_interpreter, read_interpreter

GOOD = Interpreter("3.11.7", "1.26.4", "libpython3.11.so.1.0", libpython_found=True)


def test_this_interpreter_can_serve() -> None:
    check_interpreter(read_interpreter())
    check_interpreter(GOOD)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "3.13.1"}, "Python 3.13.1 cannot serve"),
        ({"numpy_version": None}, "numpy is not installed"),
        ({"numpy_version": "2.1.0"}, "numpy 2.1.0 is installed"),
        ({"libpython_found": False}, "apt-get install libpython3.11"),
    ],
)
def test_an_unusable_interpreter_says_what_to_install(change: dict[str, object], says: str) -> None:
    with pytest.raises(UnusableInterpreter, match=says) as caught:
        check_interpreter(replace(GOOD, **change))  # type: ignore[arg-type]
    assert caught.value.exit_code == 6
