"""A service between a scripted executor and recorded responses."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from llmjp_runtime.executor.protocol import FinishReason
from llmjp_runtime.front.service import FrontService
from llmjp_runtime.settings import ServingSettings
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.support.scripted import RecordingResponder, ScriptedExecutor

REPLY = "日本の首都は東京です。\n🍣と𠮷も。"


class Bench:
    """A service and its two ends."""

    def __init__(self, tokenizer: TextTokenizer, **executor: Any) -> None:
        self.tokenizer = tokenizer
        names = ("drain_grace_s", "max_tokens", "max_reply_s")
        given = {name: executor.pop(name) for name in names if name in executor}
        self.executor = ScriptedExecutor(**executor)
        settings = ServingSettings(
            artefact=Path("/unused"), max_queue=2, **{"drain_grace_s": 0.0, **given}
        )
        self.service = FrontService(self.executor, tokenizer, settings)

    def ask(self, *args: Any, **given: Any) -> RecordingResponder:
        """Send a request; return once it is in the executor, or has ended."""
        before = len(self.executor.requests)
        responder = self.send(*args, **given)
        self.executor.wait_for(lambda: responder.ended or len(self.executor.requests) > before)
        return responder

    def send(
        self,
        request_id: str = "",
        timeout_us: int = 0,
        gate: threading.Event | None = None,
        parameters: dict[str, object] | None = None,
        **tensors: Any,
    ) -> RecordingResponder:
        responder = RecordingResponder(gate=gate)
        arrays = {name: array(value) for name, value in tensors.items()}
        self.service.accept(
            arrays,
            responder,
            request_id=request_id,
            timeout_us=timeout_us,
            parameters=parameters,
        )
        return responder

    def ids(self, text: str) -> list[int]:
        """Ids of a reply with this text, as it continues a prompt."""
        opening = self.tokenizer.encode_prompt("\n")
        return self.tokenizer.encode_prompt("\n" + text)[len(opening) :]

    def reply(self, key: str, text: str, reason: FinishReason = FinishReason.STOP) -> None:
        """One event a token, then the end."""
        ids = self.ids(text)
        for count, token in enumerate(ids, 1):
            self.executor.event(key, token, num_generated=count)
        self.executor.event(key, finish_reason=reason, num_generated=len(ids) + 1)


def array(value: Any) -> np.ndarray[Any, Any]:
    row = value if isinstance(value, list) else [value]
    if isinstance(row[0], str):
        return np.array([[each.encode() for each in row]], np.object_)
    if isinstance(row[0], bytes):
        return np.array([row], np.object_)
    return np.array([row])
