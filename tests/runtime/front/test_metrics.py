"""What is counted and observed of requests, without Triton."""

from __future__ import annotations

import re
import threading
from collections import defaultdict

import pytest

from llmjp_runtime.executor.protocol import FinishReason
from llmjp_runtime.front.metrics import (
    DURATION,
    FAILED,
    FINISHED,
    FIRST_TOKEN,
    GENERATED_TOKENS,
    INTER_TOKEN,
    KV_CACHE,
    MAX_SAMPLES,
    PROMPT_TOKENS,
    QUEUE_WAIT,
    RECORDED,
    REFUSED,
    RUNNING,
    VLLM_NAMES,
    WAITING,
    Load,
    Metric,
    MetricKind,
    MetricsPublisher,
    ReplyTimes,
    RequestMetrics,
    StartOrder,
)
from tests.runtime.front.service_bench import REPLY, Bench
from tests.support.scripted import RecordingResponder

IDLE = Load(running=0, waiting=0, kv_cache_usage=None)


class RecordedMetrics:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.declared: set[tuple[str, str]] = set()
        self.recorded: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.published = threading.Event()

    def declare(self, metric: Metric, value: str) -> None:
        self.declared.add((metric.name, value))

    def record(self, metric: Metric, value: str, amount: float) -> None:
        self.recorded[metric.name, value].append(amount)
        self.published.set()

    def total(self, metric: Metric, value: str = "") -> float:
        return sum(self.recorded[metric.name, value])


def published(bench: Bench) -> RecordedMetrics:
    """Everything of requests that have ended, and the gauges."""
    bench.service.close()
    sink = RecordedMetrics()
    bench.service.metrics.publish(sink, bench.service.read_load())
    return sink


def test_names_are_prometheus() -> None:
    gauges = (RUNNING, WAITING, KV_CACHE)
    for metric in (*RECORDED, *gauges):
        assert re.fullmatch(r"llmjp_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
        assert metric.name.endswith("_seconds") == (metric.kind is MetricKind.HISTOGRAM)
        assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.label) == (metric.values != ("",))
    assert [copy.name for gauge in gauges for copy in VLLM_NAMES[gauge]] == [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
    ]


def test_a_reply_is_counted_by_how_it_ended(bench: Bench) -> None:
    done = bench.ask(text_input="首都は", stream=True)
    bench.reply("r1", REPLY)
    gone = bench.ask(text_input="首都は")
    gone.gone = True
    broken = bench.ask(text_input="首都は")
    bench.executor.event("r3", error="the engine's process died", elsewhere=True)
    for responder in (done, gone, broken):
        responder.wait()
    sink = published(bench)
    assert sink.total(FINISHED, "stop") == 1
    assert sink.total(FINISHED, "cancelled") == 1
    assert sink.total(FAILED, "unavailable") == 1
    tokens = len(bench.ids(REPLY)) + 1
    assert sink.total(GENERATED_TOKENS) == tokens
    assert sink.total(PROMPT_TOKENS) == 3 * len(bench.tokenizer.encode_prompt("首都は"))
    assert len(sink.recorded[DURATION.name, ""]) == 3
    assert len(sink.recorded[QUEUE_WAIT.name, ""]) == 3
    assert len(sink.recorded[FIRST_TOKEN.name, ""]) == 1
    assert len(sink.recorded[INTER_TOKEN.name, ""]) == tokens - 1


def test_what_a_client_that_broke_off_had_is_counted(bench: Bench) -> None:
    broken = bench.ask(text_input="首都は", stream=True)
    broken.broken = True
    bench.executor.event("r1", *bench.ids("日本の"), num_generated=2)
    broken.wait()
    bench.executor.wait_cancelled("r1")
    sink = published(bench)
    assert sink.total(FINISHED, "cancelled") == 1
    assert sink.total(GENERATED_TOKENS) == 2


def test_refusals_are_counted_by_code_wherever_they_are_made(bench: Bench) -> None:
    bench.ask(input_ids=[9] * 64)  # by size
    bench.ask(messages="{")  # by the intake
    bench.ask(text_input="a", beam_width=4)
    waiting = [bench.ask(text_input="a") for _ in range(6)]
    bench.ask(text_input="a")
    for key in range(3, 9):
        bench.executor.cancel(f"r{key}")
    for responder in waiting:
        responder.wait()
    sink = published(bench)
    assert sink.total(REFUSED, "invalid_argument") == 2
    assert sink.total(REFUSED, "unimplemented") == 1
    assert sink.total(REFUSED, "resource_exhausted") == 1
    assert sink.total(FINISHED, "cancelled") == 6


def test_nothing_is_published_twice(bench: Bench) -> None:
    bench.ask(messages="{")
    assert published(bench).total(REFUSED, "invalid_argument") == 1
    assert published(bench).total(REFUSED, "invalid_argument") == 0


def test_gauges_have_vllms_names_and_values() -> None:
    sink = RecordedMetrics()
    RequestMetrics().publish(sink, Load(running=3, waiting=2, kv_cache_usage=0.75))
    assert dict(sink.recorded) == {
        ("llmjp_requests_running", ""): [3],
        ("vllm:num_requests_running", "llmjp"): [3],
        ("llmjp_requests_waiting", ""): [2],
        ("vllm:num_requests_waiting", "llmjp"): [2],
        ("llmjp_kv_cache_usage_ratio", ""): [0.75],
        ("vllm:kv_cache_usage_perc", "llmjp"): [0.75],
        ("vllm:gpu_cache_usage_perc", "llmjp"): [0.75],
    }


def test_a_cache_of_which_nothing_is_known_is_not_shown_as_empty() -> None:
    sink = RecordedMetrics()
    RequestMetrics().publish(sink, IDLE)
    assert not any("cache" in name for name, _ in sink.recorded)


def test_a_request_that_is_still_tokenised_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(
        "llmjp_runtime.front.service.parse_request", lambda *_: gate.wait(30) and 1 / 0
    )
    responder: RecordingResponder = bench.send(text_input="a")
    assert bench.service.read_load().waiting == 1
    gate.set()
    responder.wait()
    assert published(bench).total(REFUSED, "internal") == 1


def test_tokens_that_come_at_once_share_their_gap() -> None:
    times = ReplyTimes(arrived_s=10.0)
    for num_generated, now_s in ((1, 11.0), (1, 11.5), (5, 13.0), (6, 13.25)):
        times.note_tokens(num_generated, now_s)
    assert (times.first_s, times.last_s, times.num_tokens) == (11.0, 13.25, 6)
    assert times.gaps == [0.5, 0.5, 0.5, 0.5, 0.25]


def test_requests_start_in_order_as_places_become_free() -> None:
    order = StartOrder(2)
    times = {key: ReplyTimes(arrived_s=0.0) for key in "abcde"}
    for now_s, key in enumerate("abcde"):
        order.join(key, times[key], float(now_s))
    assert [times[key].started_s for key in "abcde"] == [0.0, 1.0, None, None, None]
    order.leave("c", 5.0)  # cancelled while it waits: no place becomes free
    assert times["d"].started_s is None
    order.leave("b", 6.0)
    order.leave("b", 7.0)  # once more is nothing
    assert [times[key].started_s for key in "de"] == [6.0, None]
    order.leave("a", 8.0)
    assert times["e"].started_s == 8.0


def test_more_observations_than_are_affordable_are_thinned_at_random() -> None:
    """The tokens of a step come in the same order again and again."""
    metrics, sink = RequestMetrics(), RecordedMetrics()
    metrics.observe(INTER_TOKEN, [0.1, 0.2] * MAX_SAMPLES)
    metrics.publish(sink, IDLE)
    seen = sink.recorded[INTER_TOKEN.name, ""]
    assert len(seen) == MAX_SAMPLES
    assert 0.4 < seen.count(0.1) / len(seen) < 0.6


def test_everything_is_shown_from_the_start_and_at_the_end() -> None:
    metrics, sink = RequestMetrics(), RecordedMetrics()
    publisher = MetricsPublisher(metrics, sink, lambda: IDLE, interval_s=3600.0)
    assert sink.declared == {(m.name, value) for m in RECORDED for value in m.values}
    assert {v for name, v in sink.declared if name == FINISHED.name} == set(FinishReason)
    metrics.count(GENERATED_TOKENS, 7)
    publisher.close()
    assert sink.total(GENERATED_TOKENS) == 7


def test_a_failure_to_publish_does_not_end_publishing(caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordedMetrics()
    failures = [OSError("no")]

    def read_load() -> Load:
        if failures:
            raise failures.pop()
        return IDLE

    publisher = MetricsPublisher(RequestMetrics(), sink, read_load, interval_s=0.01)
    assert sink.published.wait(30)
    publisher.close()
    assert "metrics were not published" in caplog.text
