"""What the operator costs with 10, 100 and 1000 models: seconds, calls and memory.

A real control plane without nodes, the operator as a process of its own, fake kubelets;
everything is on this machine, API server and etcd too. For each number of models, on a cluster of
its own: set up until all serve, restart until all were looked at again, then a quiet minute.

    python bench/reconcile.py [--counts 10,100,1000] [--json FILE] [--plot FILE]

Not named after the operator: a script's folder comes before the standard library's modules.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from e2e.fake_kubelet import FakeKubelets  # noqa: E402
from hack.local_cluster import Options, install, start  # noqa: E402
from llmjp_operator.crd.definition import build_definition  # noqa: E402
from llmjp_operator.names import API_VERSION, CRD, KIND  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hack.local_cluster import Kubectl

COUNTS = (10, 100, 1000)
PER_NAMESPACE = 50
CHUNK = 100
"""Models per call of kubectl."""
QUIET_S = 60.0
SETTLE_S = 20.0
"""After a restart, for what kopf and the sweep do once."""
SYSTEM = "llmjp-system"
SETTINGS = {
    "images": {
        name: {"builder": f"builder:{name}", "runtime": f"runtime:{name}"}
        for name in ("cpu", "1.2.1")
    }
}
SPEC = {
    "source": {"huggingFace": {"repository": "example/llama"}},
    "engine": {"backend": "torch"},
    "storage": {"size": "1Gi"},
}
LIMITS = {"restart_s": 60.0, "rss_mb": 150.0, "quiet_writes": 0.0}
"""At 1000 models."""

Sample = tuple[str, tuple[tuple[str, str], ...]]
Numbers = dict[Sample, float]


@dataclass(frozen=True, slots=True)
class Work:
    """What a stretch of reconciling took."""

    reconciles: int
    p50_ms: float
    p99_ms: float
    reads_per_reconcile: float
    writes_per_reconcile: float
    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class Point:
    """Everything about one number of models."""

    models: int
    setup_s: float
    setup: Work
    setup_rss_mb: float
    setup_peak_mb: float
    restart_s: float
    restart: Work
    rss_mb: float
    peak_mb: float
    quiet_reads: int
    quiet_writes: int
    """In 60 s, without the Lease's."""


class Process:
    """The operator, from entering the block to leaving it."""

    def __init__(self, kubectl: Kubectl, folder: Path, name: str) -> None:
        self._environ = {
            **os.environ,
            "KUBECONFIG": str(kubectl.kubeconfig),
            "LLMJP_SETTINGS": str(folder / "settings.json"),
            "LLMJP_NAMESPACE": SYSTEM,
            "LLMJP_PORT": str(free_port()),
        }
        self._log = folder / f"{name}.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "llmjp_operator"]
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def numbers(self) -> Numbers:
        """What /metrics says; nothing while it does not answer."""
        if self._process.poll() is not None:
            raise SystemExit(f"the operator ended: {self._log.read_text()[-2000:]}")
        address = f"http://127.0.0.1:{self._environ['LLMJP_PORT']}/metrics"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return dict(parsed(answer.read().decode()))
        except (urllib.error.URLError, OSError):
            return {}

    def memory_mb(self, field: str) -> float:
        """VmRSS or VmHWM."""
        text = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        found = re.search(rf"{field}:\s+(\d+) kB", text)
        assert found is not None, field
        return int(found[1]) / 1e3 * 1.024


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def parsed(text: str) -> Iterator[tuple[Sample, float]]:
    """Samples of Prometheus's text format."""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _, value = line.rpartition(" ")
        labels = tuple(re.findall(r'(\w+)="([^"]*)"', name))
        yield (name.partition("{")[0], labels), float(value)


def total(numbers: Numbers, name: str) -> float:
    return sum(value for (sample, _), value in numbers.items() if sample == name)


def calls(numbers: Numbers, *, reads: bool) -> int:
    """Calls of the API server, without the Lease's."""
    count = 0.0
    for (name, labels), value in numbers.items():
        of = dict(labels)
        if name == "llmjp_operator_api_calls_total" and of["kind"] != "Lease":
            count += value if (of["verb"] == "GET") == reads else 0
    return round(count)


def percentile(numbers: Numbers, share: float) -> float:
    """Milliseconds; within a bucket as if all were spread evenly, as Prometheus does."""
    buckets = sorted(
        (float(dict(labels)["le"]), value)
        for (name, labels), value in numbers.items()
        if name == "llmjp_operator_reconcile_seconds_bucket"
    )
    wanted = share * buckets[-1][1]
    below, before = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted and count > before:
            within = (wanted - before) / (count - before)
            return 1e3 * (below if bound == float("inf") else below + within * (bound - below))
        below, before = bound, count
    return 0.0


def work(numbers: Numbers) -> Work:
    count = round(total(numbers, "llmjp_operator_reconcile_seconds_count"))
    reads, writes = calls(numbers, reads=True), calls(numbers, reads=False)
    return Work(
        count,
        percentile(numbers, 0.5),
        percentile(numbers, 0.99),
        reads / count,
        writes / count,
        reads,
        writes,
    )


def until(what: str, holds: Callable[[], bool], limit_s: float, every_s: float = 0.5) -> float:
    """Seconds until it holds."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > limit_s:
            raise SystemExit(f"{what}: not within {limit_s:.0f} s")
        time.sleep(every_s)
    return time.monotonic() - begun


def make(kubectl: Kubectl, count: int) -> None:
    """The models, in as many namespaces as they need."""
    kubectl.apply(build_definition())
    kubectl.wait(f"crd/{CRD}", "condition=Established")
    names = [f"team-{i}" for i in range(-(-count // PER_NAMESPACE))]
    kubectl.apply(*(_object("v1", "Namespace", {"name": name}) for name in [SYSTEM, *names]))
    models = [
        _object(API_VERSION, KIND, {"name": f"m{i}", "namespace": names[i // PER_NAMESPACE]}, SPEC)
        for i in range(count)
    ]
    for i in range(0, count, CHUNK):
        kubectl.apply(*models[i : i + CHUNK])


def _object(version: str, kind: str, metadata: dict[str, str], spec: Any = None) -> dict[str, Any]:
    one = {"apiVersion": version, "kind": kind, "metadata": metadata}
    return one | ({"spec": spec} if spec else {})


def phases(numbers: Numbers) -> Counter[str]:
    return Counter(
        {
            dict(labels)["phase"]: round(value)
            for (name, labels), value in numbers.items()
            if name == "llmjp_models" and value
        }
    )


def point(kubectl: Kubectl, folder: Path, count: int) -> Point:
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    make(kubectl, count)
    with FakeKubelets(kubectl.kubeconfig), Process(kubectl, folder, "setup") as operator:

        def serve() -> bool:
            numbers = operator.numbers()
            waiting = total(numbers, "llmjp_operator_queue_depth")
            return phases(numbers) == {"Serving": count} and not waiting

        setup_s = until("all serve", serve, 900)
        setup = work(operator.numbers())
        setup_rss, setup_peak = operator.memory_mb("VmRSS"), operator.memory_mb("VmHWM")
    say(f"{count} models serve after {setup_s:.1f} s, {setup_rss:.0f} MB")
    with Process(kubectl, folder, "restart") as operator:

        def done() -> bool:
            numbers = operator.numbers()
            looked = total(numbers, "llmjp_operator_reconcile_seconds_count")
            return looked >= count and not total(numbers, "llmjp_operator_queue_depth")

        restart_s = until("all were looked at", done, 300, every_s=0.1)
        restart = work(operator.numbers())
        say(f"{count} models looked at again after {restart_s:.1f} s")
        time.sleep(SETTLE_S)
        rss, before = operator.memory_mb("VmRSS"), operator.numbers()
        time.sleep(QUIET_S)
        after, peak = operator.numbers(), operator.memory_mb("VmHWM")
    return Point(
        models=count,
        setup_s=setup_s,
        setup=setup,
        setup_rss_mb=setup_rss,
        setup_peak_mb=setup_peak,
        restart_s=restart_s,
        restart=restart,
        rss_mb=rss,
        peak_mb=peak,
        quiet_reads=calls(after, reads=True) - calls(before, reads=True),
        quiet_writes=calls(after, reads=False) - calls(before, reads=False),
    )


def report(points: list[Point]) -> Table:
    table = Table(title=f"{os.cpu_count()} cores for operator, API server, controllers and etcd")
    table.add_column("models")
    for p in points:
        table.add_column(str(p.models), justify="right")
    rows: dict[str, Callable[[Point], str]] = {
        "set up: s until all serve": lambda p: f"{p.setup_s:.1f}",
        "reconciles": lambda p: str(p.setup.reconciles),
        "reconcile p50 / p99, ms": lambda p: f"{p.setup.p50_ms:.1f} / {p.setup.p99_ms:.0f}",
        "reads / writes per reconcile": lambda p: per_reconcile(p.setup),
        "resident / peak, MB": lambda p: f"{p.setup_rss_mb:.0f} / {p.setup_peak_mb:.0f}",
        "restart: s until all looked at": lambda p: f"{p.restart_s:.1f}",
        "reconciles ": lambda p: str(p.restart.reconciles),
        "reconcile p50 / p99, ms ": lambda p: f"{p.restart.p50_ms:.1f} / {p.restart.p99_ms:.0f}",
        "reads / writes per reconcile ": lambda p: per_reconcile(p.restart),
        "resident / peak, MB ": lambda p: f"{p.rss_mb:.0f} / {p.peak_mb:.0f}",
        "quiet minute: reads / writes": lambda p: f"{p.quiet_reads} / {p.quiet_writes}",
    }
    for name, value in rows.items():
        table.add_row(name.strip(), *(value(p) for p in points))
    return table


def per_reconcile(done: Work) -> str:
    return f"{done.reads_per_reconcile:.2f} / {done.writes_per_reconcile:.2f}"


def plot(points: list[Point], path: Path) -> None:
    """Restart, calls and memory against the number of models; needs the extra `bench`."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    models = [p.models for p in points]
    left.plot(models, [p.setup_s for p in points], "s--", color="C1", label="set up")
    left.plot(models, [p.restart_s for p in points], "o-", color="C0", label="restart")
    left.set(ylabel="seconds", title="Until all were handled", xscale="log", yscale="log")
    middle.plot(models, [p.setup.writes for p in points], "s--", color="C1", label="set up, writes")
    middle.plot(models, [p.restart.reads for p in points], "o-", color="C0", label="restart, reads")
    middle.set(ylabel="calls", title="Calls of the API server", xscale="log", yscale="log")
    right.plot(models, [p.peak_mb for p in points], "s--", color="C1", label="peak")
    right.plot(models, [p.rss_mb for p in points], "o-", color="C0", label="resident")
    limit = LIMITS["rss_mb"]
    right.axhline(limit, color="C3", linewidth=1, label=f"limit, {limit:.0f} MB")
    right.set(ylabel="MB", title="Memory after a restart", ylim=(0, 1.2 * limit))
    for axes in (left, middle, right):
        axes.set(xlabel="models")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)


def misses(points: list[Point]) -> list[str]:
    """What is above a limit."""
    return [
        f"{p.models} models: {name} is {getattr(p, name):.1f}, the limit is {limit:.0f}"
        for p in points
        for name, limit in LIMITS.items()
        if getattr(p, name) > limit
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="with commas")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--plot", type=Path, help="draw them here; needs matplotlib")
    options = parser.parse_args()
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'llmjp-serving[bench]'")
    points = []
    install("control-plane", os.environ)
    for count in sorted(int(text) for text in options.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder, start("control-plane", Options()) as cluster:
            points.append(point(cluster.kubectl, Path(folder), count))
        if options.json:
            options.json.write_text(json.dumps([asdict(p) for p in points], indent=2) + "\n")
    Console(width=100).print(report(points))
    if options.plot:
        plot(points, options.plot)
    if missed := misses(points):
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
