"""The front model without Triton: requests in, responses out through a `Responder`."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason, GenerationRequest, SamplingParams
from llmjp_runtime.front.health import DrainState, ProbeResult, check_readiness, mark_draining
from llmjp_runtime.front.parameters import check_parameters, check_timeout
from llmjp_runtime.front.prompt import (
    build_prompt,
    build_stop_matcher,
    encode_bad_words,
    encode_bias,
)
from llmjp_runtime.front.reply import ReplyAssembler
from llmjp_runtime.front.request import (
    Code,
    InvalidArgument,
    ReadyRequest,
    RequestError,
    StopRequest,
    parse_request,
)
from llmjp_runtime.front.response_stream import PromptSummary, ResponseStream
from llmjp_runtime.front.sender_pool import SenderPool, StreamMonitor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.front.request import ClientRequest, Tensors
    from llmjp_runtime.front.response_stream import Responder
    from llmjp_runtime.settings import ServingSettings
    from llmjp_runtime.text.tokenizer import TextTokenizer

_log = logging.getLogger(__name__)

DRAINING = "this server is about to end and takes no new requests"
"""How the refusal of a draining server begins: clients send the request to another one."""


class FrontService:
    """Parses, tokenises, submits; assembles text and sends it. Thread-safe."""

    def __init__(
        self, executor: Executor, tokenizer: TextTokenizer, settings: ServingSettings
    ) -> None:
        """Take over the executor; `close` ends it."""
        self._executor = executor
        self._tokenizer = tokenizer
        self._settings = settings
        self._capacity = executor.limits.max_batch_size + settings.max_queue
        self._lock = threading.Lock()
        self._streams: dict[str, ResponseStream] = {}
        self._key_of_id: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._refuses_from_s: float | None = None
        self._senders = SenderPool(settings.sender_threads, self._unregister)
        self._watch = StreamMonitor(
            self._list_streams, on_expired=self._expire, on_cancelled=self._cancel
        )

    def accept(
        self,
        tensors: Tensors,
        responder: Responder,
        *,
        request_id: str = "",
        timeout_us: int = 0,
        parameters: Iterable[str] = (),
    ) -> None:
        """Take one request; every outcome goes through the responder, nothing is raised.

        Args:
            tensors: the request's inputs.
            responder: where the responses go.
            request_id: the client's id of the request; may be empty.
            timeout_us: the reply ends with `deadline` after so long; 0 means no deadline.
            parameters: names of what the request carries besides.
        """
        try:
            check_parameters(parameters)
            check_timeout(timeout_us)
            request = parse_request(tensors, self._settings.defaults)
            match request:
                case StopRequest():
                    self._stop(request_id)
                    responder.send({}, final=True)
                case ReadyRequest():
                    self._refuse_unready()
                    responder.send({}, final=True)
                case _:
                    self._start(request, responder, request_id, timeout_us / 1e6)
        except RequestError as error:
            responder.fail(error)
        except Exception as exc:  # noqa: BLE001  the edge to Triton
            _log.exception("request failed")
            responder.fail(RequestError(Code.INTERNAL, f"{type(exc).__name__} in the front model"))

    def drain(self) -> DrainState:
        """Refuse new requests after a grace period, for good; let running ones finish.

        For `drain_grace_s` from the first call they are still accepted: those who hand out this
        server's address do not know yet that it is ending. Idempotent; returns how far it is.
        """
        with self._lock:
            now = time.monotonic()
            if self._refuses_from_s is None:
                self._refuses_from_s = now + self._settings.drain_grace_s
                _log.info("draining: %d requests are running or waiting", len(self._streams))
            left_s = max(self._refuses_from_s - now, 0.0)
            return DrainState(left_s == 0 and not self._streams, len(self._streams), left_s)

    def check_ready(self) -> ProbeResult:
        """Return what `/readyz` answers, and requests that ask whether the model is ready."""
        result = check_readiness(self._executor.health())
        if self._refuses_from_s is None:
            return result
        return mark_draining(result, len(self._streams))

    def _refuse_unready(self) -> None:
        result = self.check_ready()
        if not result.ok:
            raise RequestError(Code.UNAVAILABLE, result.reason)

    def _start(
        self, request: ClientRequest, responder: Responder, request_id: str, timeout_s: float
    ) -> None:
        self._refuse_missing_features(request)
        prompt = build_prompt(request, self._tokenizer, self._executor.limits)
        stops, marks = build_stop_matcher(request, self._tokenizer)
        key = f"r{next(self._numbers)}"
        stream = ResponseStream(
            key=key,
            responder=responder,
            assembler=ReplyAssembler(self._tokenizer.create_detokenizer(prompt.ids, marks), stops),
            prompt=PromptSummary(
                len(prompt.ids),
                self._tokenizer.decode(prompt.ids) if request.include_prompt else "",
                prompt.warnings,
            ),
            stream=request.stream,
            interval_s=self._settings.response_interval_ms / 1e3,
            deadline_s=time.monotonic() + timeout_s if timeout_s else None,
            on_stop=lambda: self._executor.cancel(key),
        )
        generation = GenerationRequest(
            request_id=key,
            prompt_ids=prompt.ids,
            sampling=self._build_sampling(request, len(prompt.ids)),
            log_probs=request.log_probs,
        )
        self._register(stream, request_id)
        try:
            self._executor.submit(generation, self._senders.attach(stream))
        except ValueError as exc:
            self._unregister(stream)
            raise InvalidArgument(str(exc)) from exc

    def _refuse_missing_features(self, request: ClientRequest) -> None:
        for feature, name in request.list_needed_features().items():
            if feature not in self._executor.features:
                raise RequestError(
                    Code.UNIMPLEMENTED,
                    f"{name}: not supported by backend {self._settings.backend}",
                )

    def _build_sampling(self, request: ClientRequest, num_prompt: int) -> SamplingParams:
        limits = self._executor.limits
        if request.end_id is not None and request.end_id >= limits.vocab_size:
            raise InvalidArgument(f"end_id: must be in [0, {limits.vocab_size - 1}]")
        left = limits.max_context - num_prompt
        end_ids = self._tokenizer.eos_ids if request.end_id is None else frozenset({request.end_id})
        return SamplingParams(
            max_tokens=left if request.max_tokens is None else min(request.max_tokens, left),
            min_tokens=request.min_tokens,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            seed=request.seed,
            end_ids=end_ids,
            bad_words=encode_bad_words(request, self._tokenizer),
            embedding_bias=encode_bias(request, self._tokenizer),
        )

    def _register(self, stream: ResponseStream, request_id: str) -> None:
        with self._lock:
            if self._refuses_from_s is not None and time.monotonic() >= self._refuses_from_s:
                raise RequestError(Code.UNAVAILABLE, f"{DRAINING}: send it again, to another")
            if len(self._streams) >= self._capacity:
                raise RequestError(
                    Code.RESOURCE_EXHAUSTED,
                    f"{len(self._streams)} requests are running or waiting, the limit is "
                    f"{self._capacity}: try again later",
                )
            if request_id and request_id in self._key_of_id:
                raise InvalidArgument("request id: a running request has this id")
            self._streams[stream.key] = stream
            if request_id:
                self._key_of_id[request_id] = stream.key

    def _unregister(self, stream: ResponseStream) -> None:
        with self._lock:
            self._streams.pop(stream.key, None)
            self._key_of_id = {i: key for i, key in self._key_of_id.items() if key != stream.key}

    def _list_streams(self) -> list[ResponseStream]:
        with self._lock:
            return list(self._streams.values())

    def _stop(self, request_id: str) -> None:
        if not request_id:
            raise InvalidArgument("stop: the id of the running request must be the request's id")
        with self._lock:
            key = self._key_of_id.get(request_id)
        # A reply that has just ended by itself needs no stopping: no error.
        if key is not None:
            self._executor.cancel(key)

    def _expire(self, stream: ResponseStream) -> None:
        stream.expire(FinishReason.DEADLINE)
        self._executor.cancel(stream.key)

    def _cancel(self, stream: ResponseStream) -> None:
        self._executor.cancel(stream.key)

    @property
    def num_streams(self) -> int:
        """Requests whose last response has not been sent."""
        return len(self._streams)

    def close(self) -> None:
        """End every request (`cancelled`), the threads and the executor."""
        self._executor.close()
        self._watch.close()
        self._senders.close()
