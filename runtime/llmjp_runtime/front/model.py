"""The Triton model `llmjp`: wires Triton's python backend to `FrontService`."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from llmjp_runtime.executor.protocol import GenerationRequest, RecordedEvents, SamplingParams
from llmjp_runtime.front.backends import load_executor, load_tokenizer
from llmjp_runtime.front.health import HealthServer, ProbeResult, check_liveness
from llmjp_runtime.front.metrics import MetricsPublisher
from llmjp_runtime.front.parent_watch import exit_with_server
from llmjp_runtime.front.repository import SETTINGS_PARAMETER
from llmjp_runtime.front.service import FrontService
from llmjp_runtime.front.triton import (
    TritonMetrics,
    TritonResponder,
    read_inputs,
    read_parameters,
)
from llmjp_runtime.interpreter import check_interpreter, read_interpreter
from llmjp_runtime.process_output import prepare_output
from llmjp_runtime.settings import ServingSettings

if TYPE_CHECKING:
    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.front.health import StepProgress

_log = logging.getLogger(__name__)


class TritonPythonModel:
    """Triton's entry points."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load tokenizer and executor, generate a first token, answer probes."""
        prepare_output()
        exit_with_server()
        check_interpreter(read_interpreter())
        parameters = json.loads(args["model_config"])["parameters"]
        settings = ServingSettings.from_json(parameters[SETTINGS_PARAMETER]["string_value"])
        start = time.monotonic()
        tokenizer = load_tokenizer(settings)
        self._executor: Executor = load_executor(settings, tokenizer)
        self._progress: StepProgress | None = None
        self._service = FrontService(self._executor, tokenizer, settings)
        self._health = HealthServer(
            settings.health_host,
            settings.health_port,
            {"/readyz": self._service.check_ready, "/livez": self._livez},
            {"/drain": self._service.drain},
        )
        self._shown_metrics = TritonMetrics()
        self._metrics = MetricsPublisher(
            self._service.metrics, self._shown_metrics, self._service.read_load
        )
        first = _warm_up(self._executor)
        if settings.backend != "tensorrt":
            # An engine is a model of its own, which Triton may load after this one: waiting here
            # could wait for ever, and `/readyz` waits for the token anyway.
            first.wait()
        _log.info("ready: backend %s, %.1f s", settings.backend, time.monotonic() - start)

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to the service; responses leave through their senders."""
        for request in requests:
            responder = TritonResponder(request.get_response_sender())
            self._service.accept(
                read_inputs(request),
                responder,
                request_id=request.request_id(),
                timeout_us=request.timeout(),
                parameters=read_parameters(request),
            )

    def finalize(self) -> None:
        """End what runs."""
        self._service.close()
        self._metrics.close()
        self._shown_metrics.close()
        self._health.close()

    def _livez(self) -> ProbeResult:
        result, self._progress = check_liveness(
            self._executor.health(), self._progress, time.monotonic()
        )
        return result


def _warm_up(executor: Executor) -> RecordedEvents:
    """Ask for one token, so that the first request pays for nothing and readiness is earned."""
    events = RecordedEvents()
    sampling = SamplingParams(max_tokens=1, top_k=1)
    executor.submit(
        GenerationRequest(request_id="warm-up", prompt_ids=(1,), sampling=sampling), events
    )
    return events
