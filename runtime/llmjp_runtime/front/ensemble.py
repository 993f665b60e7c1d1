"""The Triton model `ensemble`: `llmjp` with the behaviour of NVIDIA's ensemble.

Clients written for NVIDIA's `ensemble` get its defaults: greedy unless top_k or top_p is given, no
repetition penalty, and an unstreamed reply that begins with the prompt unless
`exclude_input_in_output`. Everything else is `llmjp`'s.

Requests go to `llmjp` through the server's own gRPC endpoint (`grpc_peer`). This model watches its
own clients, and cancels the inner request of one that is gone.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from llmjp_runtime.front.grpc_peer import CallFailed, PeerModel
from llmjp_runtime.front.parameters import check_parameters, check_timeout, select_headers
from llmjp_runtime.front.parent_watch import exit_with_server
from llmjp_runtime.front.repository import MODEL_NAME, SETTINGS_PARAMETER
from llmjp_runtime.front.request import Code, RequestError, apply_nvidia_defaults
from llmjp_runtime.front.triton import (
    TritonResponder,
    read_inputs,
    read_parameters,
)
from llmjp_runtime.process_output import prepare_output
from llmjp_runtime.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.front.grpc_peer import Call

_log = logging.getLogger(__name__)

MAX_THREADS = 512
"""Requests forwarded at once; one thread each, which sleeps between responses."""
POLL_S = 0.1
"""How often each client is checked for being gone."""


class TritonPythonModel:
    """Triton's entry points."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the threads."""
        prepare_output()
        exit_with_server()
        parameters = json.loads(args["model_config"])["parameters"]
        settings = ServingSettings.from_json(parameters[SETTINGS_PARAMETER]["string_value"])
        self._model = PeerModel(MODEL_NAME, settings)
        self._numbers = itertools.count(1)
        self._pool = ThreadPoolExecutor(MAX_THREADS, "forward")
        self._lock = threading.Lock()
        self._running: dict[Call, TritonResponder] = {}
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._run_watch, name="watch", daemon=True)
        self._watch.start()

    def execute(self, requests: list[Any]) -> None:
        """Forward every request from a thread of its own."""
        for request in requests:
            responder = TritonResponder(request.get_response_sender())
            try:
                parameters = read_parameters(request)
                check_parameters(parameters)
                check_timeout(request.timeout())
            except RequestError as error:
                responder.fail(error)
                continue
            tensors = apply_nvidia_defaults(read_inputs(request))
            outer = request.request_id()
            inner = f"{MODEL_NAME}:{outer}" if outer else f"{os.getpid()}-{next(self._numbers)}"
            begin = partial(
                self._model.infer,
                tensors,
                inner,
                timeout_us=request.timeout(),
                headers=select_headers(parameters),
            )
            self._pool.submit(self._forward, begin, responder)

    def _forward(self, begin: Callable[[], Call], responder: TritonResponder) -> None:
        call = None
        try:
            call = begin()
            with self._lock:
                self._running[call] = responder
            _relay(call, responder)
        except CallFailed as exc:
            responder.forward_error(str(exc))
        except Exception as exc:  # noqa: BLE001  a thread's edge
            _log.exception("forwarding failed")
            responder.fail(RequestError(Code.INTERNAL, f"{type(exc).__name__} in model ensemble"))
        finally:
            with self._lock:
                self._running.pop(call, None)  # type: ignore[arg-type]

    def _run_watch(self) -> None:
        while not self._closed.wait(POLL_S):
            with self._lock:
                running = list(self._running.items())
            for call, responder in running:
                if responder.is_cancelled():
                    call.cancel()

    def finalize(self) -> None:
        """End the threads."""
        self._closed.set()
        self._watch.join()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _relay(responses: Call, responder: TritonResponder) -> None:
    """Forward responses; ours carry the final flag themselves, so an empty one only ends."""
    ended = False
    for outputs in responses:
        if outputs:
            ended = "finish_reason" in outputs
            responder.send(outputs, final=ended)
    if not ended:
        responder.send({}, final=True)
