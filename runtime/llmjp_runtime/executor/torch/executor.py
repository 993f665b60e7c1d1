"""The executor `torch`: a scheduler, and the thread that owns it."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

import torch

from llmjp_builder.contracts.defaults import BATCH_SIZE
from llmjp_runtime.errors import ExecutorClosed, OptionInvalid, RequestRefused
from llmjp_runtime.executor.admission import check_request
from llmjp_runtime.executor.protocol import ExecutorHealth, ExecutorLimits, Feature
from llmjp_runtime.executor.torch.loader import count_parameters, load_model
from llmjp_runtime.executor.torch.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmjp_runtime.executor.protocol import GenerationRequest, TokenEvent
    from llmjp_runtime.executor.torch.model import ParallelLlama

_logger = logging.getLogger(__name__)

_IDLE_S = 1.0
"""Longest sleep between heartbeats."""


class TorchExecutor:
    """Continuous batching in a thread of its own; see `protocol.Executor`."""

    def __init__(self, scheduler: Scheduler, limits: ExecutorLimits) -> None:
        self._scheduler = scheduler
        self._limits = limits
        self._wake = threading.Condition()
        # Guarded by _wake, which is never held during a step:
        self._submitted: list[tuple[GenerationRequest, Callable[[TokenEvent], None]]] = []
        self._cancels: list[str] = []
        self._live: set[str] = set()
        self._closing = False
        # Written by the loop alone:
        self._heartbeat = time.monotonic()
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run_loop, name="torch-executor", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        device: str = "auto",
        compute_dtype: str = "auto",
        max_batch_size: int = BATCH_SIZE,
        max_context: int | None = None,
        num_valid_ids: int | None = None,
        num_threads: int | None = None,
    ) -> Self:
        """Load the TensorRT-LLM checkpoint in a folder; the executor is ready to serve.

        Args:
            checkpoint: config.json and rank{N}.safetensors, of any tp and pp.
            device: `auto`, `cpu` or `cuda[:N]`; all ranks live on it.
            compute_dtype: float32, bfloat16, float16, or `auto`: float32 on the CPU, else the
                checkpoint's.
            max_batch_size: largest batch; each request has `max_context` in the KV cache.
            max_context: prompt plus reply; None means the model's max_position_embeddings.
            num_valid_ids: ids from here on are never chosen: rows that pad the vocabulary.
            num_threads: CPU threads of torch, for the whole process; None leaves them.

        Raises:
            ArtefactInvalid, UnsupportedModel, NotEnoughMemory: see `load_model`.
            OptionInvalid: an argument out of range, a device that is not there.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        model = load_model(checkpoint, device=device, compute_dtype=compute_dtype)
        limits = _build_limits(model, max_batch_size, max_context)
        if num_valid_ids is not None:
            _check_range("num_valid_ids", num_valid_ids, limits.vocab_size)
        scheduler = Scheduler(
            model,
            max_batch_size=limits.max_batch_size,
            max_context=limits.max_context,
            num_valid_ids=num_valid_ids,
            prefill_budget=_choose_prefill_budget(model),
        )
        return cls(scheduler, limits)

    @property
    def limits(self) -> ExecutorLimits:
        """Constant after construction."""
        return self._limits

    @property
    def features(self) -> frozenset[Feature]:
        """All of them."""
        return frozenset(Feature)

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        """Queue a request; see `protocol.Executor.submit`.

        Raises:
            RequestRefused: (a ValueError) a limit is broken or the id is in use.
            ExecutorClosed: after `close`.
        """
        check_request(request, self._limits)

        def deliver(event: TokenEvent) -> None:
            if event.final:
                with self._wake:
                    self._live.discard(request.request_id)
            on_event(event)

        with self._wake:
            if self._closing:
                raise ExecutorClosed("the executor is closed")
            if request.request_id in self._live:
                raise RequestRefused(f"request_id {request.request_id!r} is in use")
            self._live.add(request.request_id)
            self._submitted.append((request, deliver))
            self._wake.notify()

    def cancel(self, request_id: str, /) -> bool:
        """Ask for a request to end; see `protocol.Executor.cancel`."""
        with self._wake:
            live = request_id in self._live
            if live:
                self._cancels.append(request_id)
                self._wake.notify()
            return live

    def health(self) -> ExecutorHealth:
        """Return a reading; wait for nothing."""
        scheduler = self._scheduler
        return ExecutorHealth(
            heartbeat_age_s=time.monotonic() - self._heartbeat,
            num_active=scheduler.num_active,
            num_waiting=scheduler.num_waiting + len(self._submitted),
            num_steps=scheduler.num_steps,
            num_generated=scheduler.num_generated,
            error=self._error,
            # A request takes a slot of the whole context, however short it is.
            kv_cache_usage=scheduler.num_active / self._limits.max_batch_size,
        )

    def close(self) -> None:
        """End every request, stop the loop after the step in progress, free weights and cache."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run_loop(self) -> None:
        while self._take_submissions():
            self._heartbeat = time.monotonic()
            if self._error is not None:
                self._scheduler.fail_all(self._error)
            elif self._scheduler.has_work:
                self._step_or_fail()
        self._scheduler.close()

    def _take_submissions(self) -> bool:
        """Hand new requests and cancels to the scheduler; wait for them if there is no other work.

        Returns:
            Whether to continue.
        """
        with self._wake:
            if not (self._submitted or self._cancels or self._closing or self._scheduler.has_work):
                self._wake.wait(_IDLE_S)
            submitted, self._submitted = self._submitted, []
            cancels, self._cancels = self._cancels, []
            closing = self._closing
        for request, deliver in submitted:
            self._scheduler.add(request, deliver)
        for request_id in cancels:
            self._scheduler.cancel(request_id)
        return not closing

    def _step_or_fail(self) -> None:
        """Make a step; an error ends all requests and this executor's use, but not the loop."""
        try:
            self._scheduler.step()
        except Exception as exc:
            _logger.exception("step failed")
            self._error = f"the executor failed ({type(exc).__name__})"
            self._scheduler.fail_all(self._error)


def _check_range(name: str, value: int, largest: int) -> int:
    if not 1 <= value <= largest:
        raise OptionInvalid(f"{name} is {value}, expected 1 to {largest}")
    return value


def _build_limits(
    model: ParallelLlama, max_batch_size: int, max_context: int | None
) -> ExecutorLimits:
    longest = model.config.max_position_embeddings
    return ExecutorLimits(
        max_context=longest
        if max_context is None
        else _check_range("max_context", max_context, longest),
        vocab_size=model.config.vocab_size,
        max_batch_size=_check_range("max_batch_size", max_batch_size, 4096),
    )


def _choose_prefill_budget(model: ParallelLlama) -> int:
    """Return the prompt ids of one step: on a CPU, about a second's worth at 100 GFLOP/s."""
    if model.device.type != "cpu":
        return 512
    affordable = 1e11 / (2 * count_parameters(model.config))
    return int(min(512, max(32, affordable)))
