"""Prometheus metrics of the operator and its models."""

from __future__ import annotations

from collections import Counter as Counts
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from llmjp_operator.api import Model, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_operator.observe.cache import ObjectCache

_MS = (1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750)
_BUCKETS = (*(ms / 1000 for ms in _MS), 1, 1.5, 2.5, 5, 10)
"""Seconds; fine enough to tell a slow cluster from a slow operator."""


class _Models(Collector):
    """Models by phase, counted when they are read."""

    def __init__(self, cache: ObjectCache) -> None:
        self._cache = cache

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("llmjp_models", "Models by phase.", labels=("phase",))
        counts: Counts[str] = Counts()
        for model in list(self._cache.models.values()):
            known = isinstance(model, Model) and model.status.phase is not None
            counts[str(model.status.phase) if known else str(Phase.PENDING)] += 1  # type: ignore[union-attr]
        for phase in Phase:
            family.add_metric((str(phase),), counts[str(phase)])
        yield family


class Metrics:
    """The metrics, in a registry of their own."""

    def __init__(self, cache: ObjectCache) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Models(cache))
        self.leading = Gauge(
            "llmjp_operator_leading", "Whether this operator acts.", registry=self.registry
        )
        self.reconciled = Histogram(
            "llmjp_operator_reconcile_seconds",
            "Time of one step of one model.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.failed = Counter(
            "llmjp_operator_reconcile_failures",
            "Steps that ended with an error and are taken again.",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "llmjp_operator_queue_depth", "Models that are due.", registry=self.registry
        )
        self.calls = Counter(
            "llmjp_operator_api_calls",
            "Calls of the API server, without watches.",
            ("verb", "kind"),
            registry=self.registry,
        )

    def count_call(self, verb: str, kind: str) -> None:
        """Count a call to the API server."""
        self.calls.labels(verb, kind).inc()
