"""Every way a call can fail has its class."""

from __future__ import annotations

import pickle
import re

import grpc
import pytest

import llmjp_client
from llmjp_client import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    LlmJpError,
    ModelNotFound,
    ModelNotServed,
    NotPermitted,
    Overloaded,
    ProtocolError,
    ServerError,
    Unavailable,
    Unsupported,
    _errors,
)
from llmjp_client._errors import BY_STATUS, from_in_band, from_status

ERRORS = {name: getattr(llmjp_client, name) for name in llmjp_client.__all__}
ERRORS = {
    name: error
    for name, error in ERRORS.items()
    if isinstance(error, type) and issubclass(error, LlmJpError)
}


def test_every_status_is_mapped() -> None:
    assert set(BY_STATUS) == set(grpc.StatusCode)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_a_status_without_words_still_says_something(code: grpc.StatusCode) -> None:
    error = from_status(code, None)
    assert type(error) is BY_STATUS[code]
    assert error.reason == code.name.lower().replace("_", " ")


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_status_can_be_written_in_band(code: grpc.StatusCode) -> None:
    error = from_in_band(f"[{code.name.lower()}] temperature: why\nnot")
    assert type(error) is BY_STATUS[code]
    assert error.reason == "temperature: why not"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[request id: 7] [resource_exhausted] queue is full", Overloaded),
        ("Request for unknown model: 'nope' is not found", ModelNotFound),
        ("Request for unknown model: 'llmjp' has no available versions", Unavailable),
        ("unexpected inference input 'top_p' for model 'llmjp'", Unsupported),
        ("Stub process 'llmjp_0_0' is not healthy.", Unavailable),
        ("[no_such_code] x", ServerError),
        ("it broke [internal] x", ServerError),
        ("", ServerError),
    ],
)
def test_in_band_errors(message: str, kind: type[LlmJpError]) -> None:
    assert type(from_in_band(message)) is kind


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_errors_are_one_line_and_survive_pickling(error: type[LlmJpError]) -> None:
    raised = error("first\n  second")
    raised.endpoint, raised.request_id, raised.partial_text = "host:1", "r1", "秘密"
    text = str(raised)
    assert text.startswith("host:1: first second")
    assert text.endswith("(request r1)")
    assert "\n" not in text
    assert "秘密" not in text
    copy = pickle.loads(pickle.dumps(raised))
    assert (type(copy), str(copy), copy.partial_text) == (error, text, "秘密")


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (InvalidRequest, 3),
        (ModelNotFound, 3),
        (NotPermitted, 5),
        (Unsupported, 6),
        (Unavailable, 1),
        (ModelNotServed, 1),
        (Overloaded, 1),
        (DeadlineExceeded, 1),
        (Cancelled, 1),
        (ServerError, 1),
        (ProtocolError, 1),
    ],
)
def test_exit_codes(error: type[LlmJpError], exit_code: int) -> None:
    assert error.exit_code == exit_code


@pytest.mark.parametrize("module", [llmjp_client, _errors])
def test_the_drawn_tree_is_the_tree(module: object) -> None:
    drawn = {name: int(code) for name, code in re.findall(r"(\w+) +(\d)  ", module.__doc__ or "")}
    assert drawn == {name: error.exit_code for name, error in ERRORS.items()}
