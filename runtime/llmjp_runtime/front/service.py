"""The front model without Triton: requests in, responses out through a `Responder`."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason, GenerationRequest, SamplingParams
from llmjp_runtime.front.health import Drain
from llmjp_runtime.front.prompt import bias_ids, build_prompt, forbidden_ids, stop_matcher
from llmjp_runtime.front.reply import ReplyAssembler
from llmjp_runtime.front.request import Code, RequestError, Stop, invalid, parse
from llmjp_runtime.front.response_stream import LiveRequest
from llmjp_runtime.front.sender_pool import SenderPool, Watch

if TYPE_CHECKING:
    from llmjp_runtime.executor.protocol import Executor
    from llmjp_runtime.front.request import Generate, Tensors
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
        """Own the executor from here on; `close` ends it."""
        self._executor = executor
        self._tokenizer = tokenizer
        self._settings = settings
        self._capacity = executor.limits.max_batch_size + settings.max_queue
        self._lock = threading.Lock()
        self._live: dict[str, LiveRequest] = {}
        self._key_of_id: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._refuses_from_s: float | None = None
        self._senders = SenderPool(settings.sender_threads, self._forget)
        self._watch = Watch(self._snapshot, on_expired=self._expire, on_cancelled=self._cancel)

    def accept(
        self, tensors: Tensors, responder: Responder, *, request_id: str = "", timeout_s: float = 0
    ) -> None:
        """Take one request; every outcome goes through the responder, nothing is raised.

        Args:
            tensors: the request's inputs.
            responder: where the responses go.
            request_id: the client's name for the request; may be empty.
            timeout_s: the reply ends with `deadline` after so long; 0 means no deadline.
        """
        try:
            ask = parse(tensors, self._settings.defaults)
            if isinstance(ask, Stop):
                self._stop(request_id)
                responder.send({}, final=True)
            else:
                self._start(ask, responder, request_id, timeout_s)
        except RequestError as error:
            responder.fail(error)
        except Exception as exc:  # noqa: BLE001  the edge to Triton
            _log.exception("request failed")
            responder.fail(RequestError(Code.INTERNAL, f"{type(exc).__name__} in the front model"))

    def drain(self) -> Drain:
        """Refuse new requests after a while, for good; running ones go on to their end.

        Within `drain_grace_s` of the first call they are still taken: whoever hands out this
        server's address has not heard yet that it is going. Idempotent; tells how far it is.
        """
        with self._lock:
            now = time.monotonic()
            if self._refuses_from_s is None:
                self._refuses_from_s = now + self._settings.drain_grace_s
                _log.info("draining: %d requests are running or waiting", len(self._live))
            left_s = max(self._refuses_from_s - now, 0.0)
            return Drain(left_s == 0 and not self._live, len(self._live), left_s)

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._refuses_from_s is not None

    def _start(
        self, ask: Generate, responder: Responder, request_id: str, timeout_s: float
    ) -> None:
        self._refuse_missing_features(ask)
        prompt_ids = build_prompt(ask, self._tokenizer, self._executor.limits)
        key = f"r{next(self._numbers)}"
        live = LiveRequest(
            key=key,
            responder=responder,
            assembler=ReplyAssembler(self._tokenizer.detokenizer(), stop_matcher(ask)),
            num_input_tokens=len(prompt_ids),
            stream=ask.stream,
            interval_s=self._settings.response_interval_ms / 1e3,
            prompt=self._tokenizer.decode(prompt_ids) if ask.include_prompt else "",
            deadline_s=time.monotonic() + timeout_s if timeout_s else None,
            on_stop=lambda: self._executor.cancel(key),
        )
        request = GenerationRequest(
            request_id=key,
            prompt_ids=prompt_ids,
            sampling=self._sampling(ask, len(prompt_ids)),
            log_probs=ask.log_probs,
        )
        self._remember(live, request_id)
        try:
            self._executor.submit(request, self._senders.sink(live))
        except ValueError as exc:
            self._forget(live)
            raise invalid(str(exc)) from exc

    def _refuse_missing_features(self, ask: Generate) -> None:
        for feature, name in ask.needed_features().items():
            if feature not in self._executor.features:
                raise RequestError(
                    Code.UNIMPLEMENTED,
                    f"{name}: not supported by backend {self._settings.backend}",
                )

    def _sampling(self, ask: Generate, num_prompt: int) -> SamplingParams:
        left = self._executor.limits.max_context - num_prompt
        end_ids = self._tokenizer.eos_ids if ask.end_id is None else frozenset({ask.end_id})
        return SamplingParams(
            max_tokens=left if ask.max_tokens is None else min(ask.max_tokens, left),
            min_tokens=ask.min_tokens,
            temperature=ask.temperature,
            top_k=ask.top_k,
            top_p=ask.top_p,
            repetition_penalty=ask.repetition_penalty,
            presence_penalty=ask.presence_penalty,
            frequency_penalty=ask.frequency_penalty,
            seed=ask.seed,
            end_ids=end_ids,
            bad_words=forbidden_ids(ask, self._tokenizer),
            embedding_bias=bias_ids(ask, self._tokenizer),
        )

    def _remember(self, live: LiveRequest, request_id: str) -> None:
        with self._lock:
            if self._refuses_from_s is not None and time.monotonic() >= self._refuses_from_s:
                raise RequestError(Code.UNAVAILABLE, f"{DRAINING}: send it again, to another")
            if len(self._live) >= self._capacity:
                raise RequestError(
                    Code.RESOURCE_EXHAUSTED,
                    f"{len(self._live)} requests are running or waiting, the limit is "
                    f"{self._capacity}: try again later",
                )
            if request_id and request_id in self._key_of_id:
                raise invalid("request id: a running request has this id")
            self._live[live.key] = live
            if request_id:
                self._key_of_id[request_id] = live.key

    def _forget(self, live: LiveRequest) -> None:
        with self._lock:
            self._live.pop(live.key, None)
            self._key_of_id = {i: key for i, key in self._key_of_id.items() if key != live.key}

    def _snapshot(self) -> list[LiveRequest]:
        with self._lock:
            return list(self._live.values())

    def _stop(self, request_id: str) -> None:
        if not request_id:
            raise invalid("stop: the id of the running request must be the request's id")
        with self._lock:
            key = self._key_of_id.get(request_id)
        # A reply that has just ended by itself is as stopped as one can be: no error.
        if key is not None:
            self._executor.cancel(key)

    def _expire(self, live: LiveRequest) -> None:
        live.expire(FinishReason.DEADLINE)
        self._executor.cancel(live.key)

    def _cancel(self, live: LiveRequest) -> None:
        self._executor.cancel(live.key)

    @property
    def num_live(self) -> int:
        """Requests whose last response has not been sent."""
        return len(self._live)

    def close(self) -> None:
        """End every request (`cancelled`), the threads and the executor."""
        self._executor.close()
        self._watch.close()
        self._senders.close()
