"""What the front model and its alias share of Triton's python backend API.

`triton_python_backend_utils` exists only inside the backend's stub process, which fills in its
classes after the model's module is imported: use them in functions, not at import time. The API is
documented in triton-inference-server/python_backend, README.md.
"""

from __future__ import annotations

import logging
import sys
import threading
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from llmjp_runtime.front.request import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from llmjp_runtime.front.live import Outputs
    from llmjp_runtime.front.request import RequestError, Tensors

ERROR_CODES = {
    Code.INVALID_ARGUMENT: "INVALID_ARG",
    Code.UNIMPLEMENTED: "UNSUPPORTED",
    Code.RESOURCE_EXHAUSTED: "UNAVAILABLE",
    Code.UNAVAILABLE: "UNAVAILABLE",
    Code.INTERNAL: "INTERNAL",
}
"""Names of Triton's codes; a gRPC stream brings only the message, with our code in brackets."""
READY_S = 2.0
"""How long the server may take to say whether a model is ready."""


def final_flag() -> int:
    """Marks a request's last response."""
    return int(pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def inputs_of(request: Any) -> Tensors:
    """The request's tensors as arrays."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


class CallFailed(Exception):
    """Another model of this server answered with an error."""

    def __init__(self, error: Any) -> None:
        """Keep Triton's error; the message is its message."""
        super().__init__(error.message())
        self.error = error


class TritonModel:
    """Another model of this server, called from this one."""

    def __init__(self, name: str, http_address: str = "") -> None:
        """Nothing is asked of it yet; it may load later than the caller.

        Args:
            name: the model's.
            http_address: `host:port` of this server's HTTP endpoint, for `ready`.
        """
        self._name = name
        self._url = f"http://{http_address}/v2/models/{name}/ready"

    def ready(self) -> bool:
        """Whether it takes requests, over HTTP, which starts when all models are loaded.

        The backend's own `is_model_ready` hangs while the calling model or the server starts, and
        aborts a server that ends (seen with Triton 2.51).
        """
        try:
            with urllib.request.urlopen(self._url, timeout=READY_S) as response:  # noqa: S310  http
                return bool(response.status == HTTPStatus.OK)
        except OSError:
            return False

    def infer(
        self,
        tensors: Mapping[str, NDArray[np.generic]],
        request_id: str,
        output_names: Sequence[str] = (),
        /,
        *,
        timeout_us: int = 0,
    ) -> Iterator[Outputs]:
        """The responses to one request, as they come; blocks between them.

        Args:
            tensors: the inputs.
            request_id: as the model will see it.
            output_names: what to return; none means all.
            timeout_us: the request parameter; 0 means none.

        Raises:
            CallFailed: the model answered with an error, perhaps after some responses.
        """
        request = pb_utils.InferenceRequest(
            model_name=self._name,
            requested_output_names=list(output_names),
            inputs=[pb_utils.Tensor(name, array) for name, array in tensors.items()],
            request_id=request_id,
            timeout=timeout_us,
        )
        for response in request.exec(decoupled=True):
            if response.has_error():
                raise CallFailed(response.error())
            yield {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


class TritonResponder:
    """The way back through a decoupled request's response sender."""

    def __init__(self, sender: Any) -> None:
        """Take over the sender of one request."""
        self._sender = sender
        # The sender object is not safe for two threads at once, and the watch asks while we send.
        self._lock = threading.Lock()
        self._ended = False

    def send(self, outputs: Outputs, *, final: bool) -> None:
        """Send one response; one without outputs is only the end."""
        tensors = [pb_utils.Tensor(name, array) for name, array in outputs.items()]
        with self._lock:
            self._ended = final
            if not tensors:
                self._sender.send(flags=final_flag())
            else:
                self._sender.send(
                    pb_utils.InferenceResponse(tensors), flags=final_flag() if final else 0
                )

    def fail(self, error: RequestError) -> None:
        """Send the error and end the request."""
        self.fail_as(
            pb_utils.TritonError(str(error), getattr(pb_utils.TritonError, ERROR_CODES[error.code]))
        )

    def fail_as(self, error: Any) -> None:
        """Send an error of Triton's own type and end the request."""
        with self._lock:
            self._ended = True
            self._sender.send(pb_utils.InferenceResponse(error=error), flags=final_flag())

    def cancelled(self) -> bool:
        """Whether the client is gone; a round trip."""
        with self._lock:
            return not self._ended and bool(self._sender.is_cancelled())


def prepare_process() -> None:
    """Logging and output as every one of our stub processes needs them."""
    for stream in (sys.stdout, sys.stderr):
        # The embedded interpreter starts with ASCII whatever PYTHONUTF8 says.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
