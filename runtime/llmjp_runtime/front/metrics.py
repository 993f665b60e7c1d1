"""What the server's metrics say of requests: counted here, published once a second.

Fed by what the front model sees (arrivals, events, ends), so every executor has them. Counting is
an addition under a lock; what is published goes through a `MetricsSink`, whose calls cost time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from llmjp_runtime.executor.protocol import FinishReason
from llmjp_runtime.front.request import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_log = logging.getLogger(__name__)


class MetricKind(StrEnum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, as `/metrics` shows it."""

    name: str
    kind: MetricKind
    description: str
    label: str = ""
    """The name of its label, if it has one."""
    values: tuple[str, ...] = ("",)
    """Every value of the label: shown from the start, so that rates begin at 0."""
    buckets: tuple[float, ...] = ()
    """Upper ends in seconds; +Inf is added."""


_LONG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAPS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5)
_WHOLE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_FAILURES = (Code.UNAVAILABLE, Code.INTERNAL)

FINISHED = Metric(
    "llmjp_requests_finished_total",
    MetricKind.COUNTER,
    "Replies that ended, by finish reason.",
    "finish_reason",
    tuple(FinishReason),
)
REFUSED = Metric(
    "llmjp_requests_refused_total",
    MetricKind.COUNTER,
    "Requests refused before anything was generated, by error code.",
    "code",
    tuple(Code),
)
FAILED = Metric(
    "llmjp_requests_failed_total",
    MetricKind.COUNTER,
    "Requests that failed while their reply was generated, by error code.",
    "code",
    _FAILURES,
)
PROMPT_TOKENS = Metric(
    "llmjp_prompt_tokens_total", MetricKind.COUNTER, "Tokens of the prompts of ended requests."
)
GENERATED_TOKENS = Metric(
    "llmjp_generated_tokens_total", MetricKind.COUNTER, "Tokens generated, end tokens included."
)
FIRST_TOKEN = Metric(
    "llmjp_time_to_first_token_seconds",
    MetricKind.HISTOGRAM,
    "From a request's arrival to its first token.",
    buckets=_LONG,
)
INTER_TOKEN = Metric(
    "llmjp_inter_token_latency_seconds",
    MetricKind.HISTOGRAM,
    "Between two tokens of a reply; a random sample where there are more than 2000 a second.",
    buckets=_GAPS,
)
DURATION = Metric(
    "llmjp_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "From a request's arrival to the end of its reply.",
    buckets=_WHOLE,
)
QUEUE_WAIT = Metric(
    "llmjp_queue_wait_seconds",
    MetricKind.HISTOGRAM,
    "From a request's arrival until it has a place in the batch.",
    buckets=_LONG,
)
RUNNING = Metric("llmjp_requests_running", MetricKind.GAUGE, "Requests in the batch.")
WAITING = Metric("llmjp_requests_waiting", MetricKind.GAUGE, "Requests not yet in the batch.")
KV_CACHE = Metric(
    "llmjp_kv_cache_usage_ratio", MetricKind.GAUGE, "Part of the KV cache that is taken, 0 to 1."
)


def _copy_as_vllm(metric: Metric, name: str) -> Metric:
    return Metric(f"vllm:{name}", metric.kind, metric.description, "model_name", ("llmjp",))


VLLM_NAMES: Mapping[Metric, tuple[Metric, ...]] = {
    RUNNING: (_copy_as_vllm(RUNNING, "num_requests_running"),),
    WAITING: (_copy_as_vllm(WAITING, "num_requests_waiting"),),
    KV_CACHE: (
        _copy_as_vllm(KV_CACHE, "kv_cache_usage_perc"),
        _copy_as_vllm(KV_CACHE, "gpu_cache_usage_perc"),
    ),
}
"""The same gauges by the names that inference gateways read; vLLM's `perc` is 0 to 1 as well."""

RECORDED = (
    FINISHED,
    REFUSED,
    FAILED,
    PROMPT_TOKENS,
    GENERATED_TOKENS,
    FIRST_TOKEN,
    INTER_TOKEN,
    DURATION,
    QUEUE_WAIT,
)
"""Counters and histograms; the gauges are read when they are published."""

MAX_SAMPLES = 2000
"""Observations of a histogram in one publication; each costs about 8 us."""


class MetricsSink(Protocol):
    """Where metrics are shown."""

    def declare(self, metric: Metric, value: str) -> None:
        """Show a metric for a value of its label, at 0 or empty."""
        ...

    def record(self, metric: Metric, value: str, amount: float) -> None:
        """Add to a counter, set a gauge or observe in a histogram."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """One reading of the gauges."""

    running: int
    waiting: int
    kv_cache_usage: float | None
    """None where the executor does not say."""


@dataclass(slots=True)
class ReplyTimes:
    """When what happened to one request, on the clock of `time.monotonic`."""

    arrived_s: float = field(default_factory=time.monotonic)
    started_s: float | None = None
    """It has a place in the batch."""
    first_s: float | None = None
    """Its first token came."""
    last_s: float | None = None
    num_tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    """Seconds between tokens, not yet recorded."""

    def note_tokens(self, num_generated: int, now_s: float) -> None:
        """Note that there are so many tokens now; several that come at once share their gap."""
        new = num_generated - self.num_tokens
        if new <= 0:
            return
        if self.last_s is None:
            self.first_s = now_s
        else:
            self.gaps += [(now_s - self.last_s) / new] * new
        self.num_tokens, self.last_s = num_generated, now_s


class StartOrder:
    """Tells when requests get their places: executors start them in order, as places become free.

    Thread-safe.
    """

    def __init__(self, num_places: int) -> None:
        """Start with every place free."""
        self._num_places = num_places
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._times: dict[str, ReplyTimes] = {}
        self._num_started = 0

    def join(self, key: str, times: ReplyTimes, now_s: float) -> None:
        """Note that the executor gets a request."""
        with self._lock:
            self._times[key] = times
            self._waiting.append(key)
            self._start(now_s)

    def leave(self, key: str, now_s: float) -> None:
        """Note that a request has ended; one that never joined is nothing."""
        with self._lock:
            times = self._times.pop(key, None)
            if times is None:
                return
            if times.started_s is None:
                self._waiting.remove(key)
            else:
                self._num_started -= 1
            self._start(now_s)

    def _start(self, now_s: float) -> None:
        while self._waiting and self._num_started < self._num_places:
            self._times[self._waiting.popleft()].started_s = now_s
            self._num_started += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyEnd:
    """How a reply ended: by a finish reason, or an error's code."""

    finish_reason: FinishReason | None = None
    code: Code | None = None
    num_prompt: int = 0
    num_generated: int = 0


class RequestMetrics:
    """Counts and observations since they were last published. Thread-safe."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._counts: Counter[tuple[Metric, str]] = Counter()
        self._samples: dict[Metric, list[float]] = {}

    def count(self, metric: Metric, amount: int = 1, value: str = "") -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[metric, value] += amount

    def observe(self, metric: Metric, seconds: Iterable[float]) -> None:
        """Add observations to a histogram."""
        with self._lock:
            self._samples.setdefault(metric, []).extend(seconds)

    def record_refusal(self, code: Code) -> None:
        """Count a request that never got to the executor."""
        self.count(REFUSED, value=code)

    def record_end(self, times: ReplyTimes, end: ReplyEnd, now_s: float) -> None:
        """Record a reply that has ended, be it before anything was generated."""
        if end.finish_reason is not None:
            self.count(FINISHED, value=end.finish_reason)
        if end.code is not None:
            self.count(FAILED, value=end.code)
        self.count(PROMPT_TOKENS, end.num_prompt)
        self.observe(DURATION, [now_s - times.arrived_s])
        for metric, moment_s in ((QUEUE_WAIT, times.started_s), (FIRST_TOKEN, times.first_s)):
            if moment_s is not None:
                self.observe(metric, [moment_s - times.arrived_s])

    def publish(self, sink: MetricsSink, load: Load) -> None:
        """Hand over everything since the last call, and the gauges."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            samples, self._samples = self._samples, {}
        for (metric, value), amount in counts.items():
            sink.record(metric, value, amount)
        for metric, seconds in samples.items():
            # Steps come in lockstep: every k-th would be the same few requests' again and again.
            thinned = random.sample(seconds, MAX_SAMPLES) if len(seconds) > MAX_SAMPLES else seconds
            for each in thinned:
                sink.record(metric, "", each)
        gauges = {RUNNING: load.running, WAITING: load.waiting, KV_CACHE: load.kv_cache_usage}
        for metric, reading in gauges.items():
            if reading is not None:
                for shown in (metric, *VLLM_NAMES[metric]):
                    sink.record(shown, shown.values[0], reading)


class MetricsPublisher:
    """Publishes once a second, and a last time at the end, from its own thread."""

    def __init__(
        self,
        metrics: RequestMetrics,
        sink: MetricsSink,
        read_load: Callable[[], Load],
        interval_s: float = 1.0,
    ) -> None:
        """Declare what is recorded and start the thread."""
        for metric in RECORDED:
            for value in metric.values:
                sink.declare(metric, value)
        self._metrics = metrics
        self._sink = sink
        self._read_load = read_load
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._closed.wait(self._interval_s)
            try:
                self._metrics.publish(self._sink, self._read_load())
            except Exception:  # noqa: BLE001  a thread's edge: no metric is worth a reply
                _log.exception("metrics were not published")

    def close(self) -> None:
        """Publish what is left and end the thread."""
        self._closed.set()
        self._thread.join()
