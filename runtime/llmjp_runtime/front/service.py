"""The front model without Triton: requests in, responses out through a `Responder`."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import (
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TokenEvent,
)
from llmjp_runtime.front.bounds import check_bounds, derive_bounds
from llmjp_runtime.front.health import ProbeResult, check_readiness, mark_draining
from llmjp_runtime.front.intake import Intake
from llmjp_runtime.front.metrics import (
    GENERATED_TOKENS,
    INTER_TOKEN,
    Load,
    ReplyEnd,
    ReplyTimes,
    RequestMetrics,
    StartOrder,
)
from llmjp_runtime.front.parameters import check_parameters, check_timeout, find_trace_id
from llmjp_runtime.front.prompt import (
    build_prompt,
    build_stop_matcher,
    encode_bad_words,
    encode_bias,
)
from llmjp_runtime.front.registry import RequestRegistry
from llmjp_runtime.front.reply import ReplyAssembler
from llmjp_runtime.front.request import (
    Code,
    InvalidArgument,
    ReadyRequest,
    RequestError,
    StopRequest,
    parse_command,
    parse_request,
)
from llmjp_runtime.front.request_log import RequestLog, RequestName
from llmjp_runtime.front.response_stream import PromptSummary, ResponseStream, TopTokens
from llmjp_runtime.front.sender_pool import RequestMonitor, SenderPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.front.health import DrainState
    from llmjp_runtime.front.prompt import Prompt
    from llmjp_runtime.front.registry import Ticket
    from llmjp_runtime.front.request import ClientRequest, Tensors
    from llmjp_runtime.front.response_stream import Responder
    from llmjp_runtime.settings import ServingSettings
    from llmjp_runtime.text.tokenizer import TextTokenizer

_log = logging.getLogger(__name__)


class FrontService:
    """Lets requests in, tokenises, submits; assembles text and sends it. Thread-safe."""

    def __init__(
        self, executor: Executor, tokenizer: TextTokenizer, settings: ServingSettings
    ) -> None:
        """Take over the executor; `close` ends it."""
        self._executor = executor
        self._tokenizer = tokenizer
        self._settings = settings
        self._bounds = derive_bounds(executor.limits, tokenizer.longest_piece)
        self._requests = RequestRegistry(
            executor.limits.max_batch_size + settings.max_queue, settings.drain_grace_s
        )
        self._intake = Intake(settings.intake_threads)
        self.metrics = RequestMetrics()
        self._request_log = RequestLog(settings.request_log, settings.request_log_sample)
        self._order = StartOrder(executor.limits.max_batch_size)
        self._senders = SenderPool(settings.sender_threads, self._forget, self._record_tokens)
        self._watch = RequestMonitor(
            self._requests.list_tickets,
            on_expired=lambda ticket: self._end_early(ticket, FinishReason.DEADLINE),
            on_cancelled=lambda ticket: self._end_early(ticket, FinishReason.CANCELLED),
        )

    def accept(
        self,
        tensors: Tensors,
        responder: Responder,
        *,
        request_id: str = "",
        timeout_us: int = 0,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """Take one request; every outcome goes through the responder, nothing is raised.

        All requests come through the caller's thread, so only names, sizes and the queue are
        checked here; the rest is done by the intake's threads.

        Args:
            tensors: the request's inputs.
            responder: where the responses go.
            request_id: the client's id of the request; may be empty.
            timeout_us: the reply ends with `deadline` after so long; 0 means no deadline.
            parameters: what the request carries besides, by name.
        """
        times = ReplyTimes()
        trace_id = find_trace_id(parameters or {})
        try:
            check_parameters(parameters or ())
            check_timeout(timeout_us)
            match parse_command(tensors):
                case StopRequest():
                    self._stop(request_id)
                    responder.send({}, final=True)
                case ReadyRequest():
                    self._answer_ready(responder)
                case None:
                    size = check_bounds(tensors, self._bounds)
                    deadline_s = self._find_deadline(timeout_us)
                    ticket = self._requests.admit(responder, request_id, deadline_s)
                    ticket.trace_id = trace_id
                    self._intake.submit(size, lambda: self._prepare(ticket, tensors))
        except Exception as exc:  # noqa: BLE001  the edge to Triton
            self._refuse(responder, exc, RequestName(request_id, trace_id), times)

    def drain(self) -> DrainState:
        """Refuse new requests after a grace period, for good; let running ones finish.

        For `drain_grace_s` from the first call they are still accepted: those who hand out this
        server's address do not know yet that it is ending. Idempotent; returns how far it is.
        """
        return self._requests.drain()

    def check_ready(self) -> ProbeResult:
        """Return what `/readyz` answers, and requests that ask whether the model is ready."""
        result = check_readiness(self._executor.health())
        if not self._requests.draining:
            return result
        return mark_draining(result, len(self._requests))

    def _answer_ready(self, responder: Responder) -> None:
        """Answer a question, whose "no" is no refused request."""
        result = self.check_ready()
        if result.ok:
            responder.send({}, final=True)
        else:
            responder.fail(RequestError(Code.UNAVAILABLE, result.reason))

    def _find_deadline(self, timeout_us: int) -> float:
        """Return when the reply ends by itself: after the client's time or the server's."""
        longest_s = self._settings.max_reply_s
        return time.monotonic() + min(timeout_us / 1e6 or longest_s, longest_s)

    def _prepare(self, ticket: Ticket, tensors: Tensors) -> None:
        """Parse, tokenise and submit one request (a thread of the intake)."""
        try:
            request = parse_request(tensors, self._settings.defaults)
            self._refuse_missing_features(request)
            prompt = build_prompt(request, self._tokenizer, self._executor.limits, self._bounds)
            stream = self._build_stream(ticket, request, prompt)
            generation = GenerationRequest(
                request_id=ticket.key,
                prompt_ids=prompt.ids,
                sampling=self._build_sampling(request, len(prompt.ids)),
                log_probs=request.log_probs,
                num_top=request.num_top,
            )
            self._submit(ticket, stream, generation)
        except Exception as exc:  # noqa: BLE001  a thread's edge
            ticket.refused = True
            self._requests.forget(ticket.key)
            self._order.leave(ticket.key, time.monotonic())
            self._refuse(ticket.responder, exc, ticket.name, ticket.times)

    def _refuse(
        self, responder: Responder, cause: Exception, name: RequestName, times: ReplyTimes
    ) -> None:
        error = _describe_failure(cause)
        self.metrics.record_refusal(error.code)
        self._request_log.write(name, times, ReplyEnd(code=error.code))
        responder.fail(error)

    def _build_stream(
        self, ticket: Ticket, request: ClientRequest, prompt: Prompt
    ) -> ResponseStream:
        stops, marks = build_stop_matcher(request, self._tokenizer)
        return ResponseStream(
            key=ticket.key,
            responder=ticket.responder,
            assembler=ReplyAssembler(self._tokenizer.create_detokenizer(prompt.ids, marks), stops),
            prompt=PromptSummary(
                len(prompt.ids),
                self._tokenizer.decode(prompt.ids) if request.include_prompt else "",
                (*prompt.warnings, *self._warn_of_maximum(request)),
            ),
            stream=request.stream,
            interval_s=self._settings.response_interval_ms / 1e3,
            on_stop=lambda: self._executor.cancel(ticket.key),
            times=ticket.times,
            top=TopTokens(request.num_top, self._tokenizer.spell) if request.num_top else None,
        )

    def _warn_of_maximum(self, request: ClientRequest) -> tuple[str, ...]:
        most = self._settings.max_tokens
        if most is None or request.max_tokens is None or request.max_tokens <= most:
            return ()
        return (f"max_tokens: this server generates at most {most}",)

    def _submit(
        self, ticket: Ticket, stream: ResponseStream, generation: GenerationRequest
    ) -> None:
        """Hand a request to the executor, unless it ended meanwhile."""
        with ticket.lock:
            ticket.stream, ended = stream, ticket.ended_early
        on_event = self._senders.attach(stream)
        if ended is not None:
            on_event(TokenEvent(finish_reason=ended))
            return
        self._order.join(ticket.key, ticket.times, time.monotonic())
        try:
            self._executor.submit(generation, on_event)
        except ValueError as exc:
            raise InvalidArgument(str(exc)) from exc
        with ticket.lock:
            ticket.submitted, ended = True, ticket.ended_early
        if ended is not None:
            self._end_early(ticket, ended)

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
        if self._settings.max_tokens is not None:
            left = min(left, self._settings.max_tokens)
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

    def _record_tokens(self, stream: ResponseStream) -> None:
        self.metrics.observe(INTER_TOKEN, stream.take_gaps())
        self.metrics.count(GENERATED_TOKENS, stream.take_num_tokens())

    def _forget(self, stream: ResponseStream) -> None:
        # A stream may be due twice, and so be done twice: it ends once.
        ticket = self._requests.forget(stream.key)
        if ticket is None or stream.end is None:
            return
        now_s = time.monotonic()
        self._order.leave(stream.key, now_s)
        self.metrics.record_end(ticket.times, stream.end, now_s)
        self._request_log.write(ticket.name, ticket.times, stream.end)

    def read_load(self) -> Load:
        """Return a reading of the gauges."""
        health = self._executor.health()
        return Load(
            running=health.num_active,
            waiting=health.num_waiting + self._requests.count_unsubmitted(),
            kv_cache_usage=health.kv_cache_usage,
        )

    def _stop(self, request_id: str) -> None:
        if not request_id:
            raise InvalidArgument("stop: the id of the running request must be the request's id")
        ticket = self._requests.find(request_id)
        # A reply that has just ended by itself needs no stopping: no error.
        if ticket is not None:
            self._end_early(ticket, FinishReason.CANCELLED)

    def _end_early(self, ticket: Ticket, reason: FinishReason) -> None:
        """End a request, in the executor if it is there already, else before it gets there."""
        with ticket.lock:
            ticket.ended_early = ticket.ended_early or reason
            reason, submitted = ticket.ended_early, ticket.submitted
            if ticket.stream is not None:
                ticket.stream.expire(reason)
        if submitted:
            self._executor.cancel(ticket.key)

    @property
    def num_streams(self) -> int:
        """Requests whose last response has not been sent."""
        return len(self._requests)

    def close(self) -> None:
        """End every request (`cancelled`), the threads and the executor."""
        self._intake.close()
        self._executor.close()
        self._watch.close()
        self._senders.close()


def _describe_failure(error: Exception) -> RequestError:
    """Return what the client is told; log what is our fault."""
    if isinstance(error, RequestError):
        return error
    _log.error("request failed", exc_info=error)
    return RequestError(Code.INTERNAL, f"{type(error).__name__} in the front model")
