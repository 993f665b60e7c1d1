"""Triton's python backend API, as the models `llmjp` and `ensemble` use it.

`triton_python_backend_utils` exists only inside the backend's stub process, which fills in its
classes after the model's module is imported: use them in functions, not at import time. The API is
documented in triton-inference-server/python_backend, README.md.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from llmjp_runtime.front.metrics import MetricKind
from llmjp_runtime.front.parameters import parse_parameters
from llmjp_runtime.front.request import Code

if TYPE_CHECKING:
    from llmjp_runtime.front.metrics import Metric
    from llmjp_runtime.front.request import RequestError, Tensors
    from llmjp_runtime.front.response_stream import Outputs

ERROR_CODES = {
    Code.INVALID_ARGUMENT: "INVALID_ARG",
    Code.UNIMPLEMENTED: "UNSUPPORTED",
    Code.RESOURCE_EXHAUSTED: "UNAVAILABLE",
    Code.UNAVAILABLE: "UNAVAILABLE",
    Code.INTERNAL: "INTERNAL",
}
"""Names of Triton's codes; a gRPC stream brings only the message, with our code in brackets."""


def get_final_flag() -> int:
    """Return the flag that marks a request's last response."""
    return int(pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def read_inputs(request: Any) -> Tensors:
    """Return the request's tensors as arrays."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def read_parameters(request: Any) -> dict[str, object]:
    """Return the request's parameters by name, but for those that Triton keeps to itself."""
    return parse_parameters(request.parameters())


class TritonMetrics:
    """Shows metrics on Triton's own `/metrics`; see `metrics.MetricsSink`. For one thread at once.

    Each call is a round trip to the server process, of about 8 us.
    """

    def __init__(self) -> None:
        """Show none yet."""
        self._families: dict[Metric, Any] = {}
        self._shown: dict[tuple[Metric, str], Any] = {}

    def declare(self, metric: Metric, value: str) -> None:
        """Show a metric for a value of its label."""
        if metric not in self._families:
            kind = getattr(pb_utils.MetricFamily, metric.kind.name)
            self._families[metric] = pb_utils.MetricFamily(
                name=metric.name, description=metric.description, kind=kind
            )
        given: dict[str, Any] = {"labels": {metric.label: value} if metric.label else {}}
        if metric.buckets:
            given["buckets"] = list(metric.buckets)
        self._shown[metric, value] = self._families[metric].Metric(**given)

    def record(self, metric: Metric, value: str, amount: float) -> None:
        """Add to a counter, set a gauge or observe in a histogram."""
        if (metric, value) not in self._shown:
            self.declare(metric, value)
        shown = self._shown[metric, value]
        match metric.kind:
            case MetricKind.COUNTER:
                shown.increment(amount)
            case MetricKind.GAUGE:
                shown.set(amount)
            case MetricKind.HISTOGRAM:
                shown.observe(amount)

    def close(self) -> None:
        """Take them away; a family must outlive its metrics."""
        self._shown.clear()
        self._families.clear()


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
                self._sender.send(flags=get_final_flag())
            else:
                self._sender.send(
                    pb_utils.InferenceResponse(tensors), flags=get_final_flag() if final else 0
                )

    def fail(self, error: RequestError) -> None:
        """Send the error and end the request."""
        self._fail(
            pb_utils.TritonError(str(error), getattr(pb_utils.TritonError, ERROR_CODES[error.code]))
        )

    def forward_error(self, message: str) -> None:
        """Send an error in the words of another model of ours, which begin with its code."""
        code, _, _ = message.removeprefix("[").partition("] ")
        kind = ERROR_CODES[Code(code)] if code in set(Code) else "INTERNAL"
        self._fail(pb_utils.TritonError(message, getattr(pb_utils.TritonError, kind)))

    def _fail(self, error: Any) -> None:
        with self._lock:
            self._ended = True
            self._sender.send(pb_utils.InferenceResponse(error=error), flags=get_final_flag())

    def is_cancelled(self) -> bool:
        """Return whether the client is gone; a round trip."""
        with self._lock:
            return not self._ended and bool(self._sender.is_cancelled())
