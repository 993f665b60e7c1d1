"""The screen and the table of `llmjp status`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmjp_cli.cluster.status.advice import suggest_next_steps
from llmjp_cli.cluster.status.fields import (
    explain_waiting,
    find_headline,
    format_age,
    format_progress,
    get_container_statuses,
    get_phase,
    get_status,
    is_ready,
    parse_time,
)
from llmjp_cli.console import build_table, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from llmjp_cli.cluster.status.overview import ModelOverview

Object = dict[str, Any]

PHASE_STYLES = {
    "Serving": "bold green",
    "Idle": "green",
    "Degraded": "bold yellow",
    "Blocked": "bold red",
    "Failed": "bold red",
    "Pending": "dim",
}
IN_PROGRESS_STYLE = "bold cyan"
"""Of the other phases."""
_NEUTRAL = {"Progressing", "Reconciling"}
"""Conditions that are no problem, whether they hold or not."""
_MAX_EVENTS = 8
_BAR_WIDTH = 30


def render_screen(overview: ModelOverview, now: float) -> Group:
    """Return everything about one model."""
    model = overview.model
    parts: list[RenderableType] = [_render_title(model, now), *_render_build(model)]
    parts += [Text(), _render_conditions(model, now)]
    if (details := _render_details(model)).row_count:
        parts += [Text(), details]
    if overview.pods:
        parts += [Text(), _render_pods(overview.pods, now)]
    if overview.events:
        parts += [Text(), _render_events(overview.events, now)]
    parts += [Text(f"cannot tell {line}", style="yellow") for line in overview.unknown]
    if advice := list(suggest_next_steps(overview)):
        parts += [Text(), *(Text(f"next: {line}", style="bold") for line in advice)]
    return Group(*parts)


def render_listing(models: Sequence[Object], now: float, *, namespaces: bool) -> Table:
    """Return one row per model."""
    table = _build_dim_table()
    names = ["NAMESPACE"] if namespaces else []
    for column in (*names, "NAME", "PHASE", "READY", "BACKEND", "ENGINE", "BUILD", "AGE", "ABOUT"):
        table.add_column(column, no_wrap=column != "ABOUT")
    for model in models:
        metadata, spec, status = model["metadata"], model.get("spec") or {}, get_status(model)
        wanted = (spec.get("serving") or {}).get("replicas", 1)
        table.add_row(
            *([metadata.get("namespace", "")] if namespaces else []),
            metadata["name"],
            _render_phase(model),
            f"{status.get('readyReplicas') or 0}/{wanted}",
            (spec.get("engine") or {}).get("backend", "tensorrt"),
            ((status.get("engine") or {}).get("active") or "-")[:12],
            format_progress(model) or "-",
            format_age(metadata.get("creationTimestamp"), now),
            Text(find_headline(model)),
        )
    return table


def _render_title(model: Object, now: float) -> Text:
    metadata = model["metadata"]
    head = Text.assemble(
        (f"{metadata.get('namespace', '')}/{metadata['name']}", "bold"), "  ", _render_phase(model)
    )
    status, wanted = get_status(model), (model.get("spec") or {}).get("serving") or {}
    head.append(f"  {status.get('readyReplicas') or 0} of {wanted.get('replicas', 1)} pods ready")
    head.append(f"  {format_age(metadata.get('creationTimestamp'), now)} old", style="dim")
    return head


def _render_build(model: Object) -> Iterator[RenderableType]:
    build = get_status(model).get("build") or {}
    if build.get("step"):
        row = Table.grid(padding=(0, 1))
        percent = build.get("percent") or 0
        bar = ProgressBar(total=100, completed=percent, width=_BAR_WIDTH)
        eta = build.get("etaSeconds")
        left = "" if eta is None else f"{format_duration(eta)} left in this step"
        row.add_row("build", str(build["step"]), bar, f"{percent}%", left)
        yield row
    failure = build.get("failure") or {}
    if failure:
        text = f"failed in {failure.get('step')}: {failure.get('message')} ({failure.get('code')})"
        yield Text(text, style="red")


def _render_conditions(model: Object, now: float) -> Table:
    table = _build_dim_table("CONDITION", "", "REASON", "SINCE", "MESSAGE")
    for condition in get_status(model).get("conditions") or ():
        value = str(condition.get("status"))
        style = _choose_condition_style(str(condition.get("type")), value)
        table.add_row(
            str(condition.get("type")),
            Text(value, style=style),
            str(condition.get("reason")),
            format_age(condition.get("lastTransitionTime"), now),
            Text(condition.get("message") or ""),
        )
    return table


def _choose_condition_style(kind: str, value: str) -> str:
    if value == "Unknown":
        return "dim"
    if kind in _NEUTRAL:
        return ""
    return "green" if (value == "True") != (kind == "Stalled") else "red"


def _render_details(model: Object) -> Table:
    status = get_status(model)
    engine, source = status.get("engine") or {}, status.get("source") or {}
    endpoint = status.get("endpoint") or {}
    hit = engine.get("cacheHit")
    rows = (
        ("endpoint", " ".join(filter(None, (endpoint.get("grpc"), endpoint.get("http"))))),
        ("engine wanted", engine.get("key")),
        ("serving", engine.get("active")),
        ("previous", engine.get("previous")),
        ("cache hit", None if hit is None else "yes" if hit else "no, it was built"),
        ("compute capability", engine.get("computeCapability")),
        ("TensorRT-LLM", engine.get("trtllmVersion")),
        ("source", source.get("revision") or source.get("digest")),
    )
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        if value:
            grid.add_row(Text(name, style="dim"), Text(str(value)))
    return grid


def _render_pods(pods: Iterable[Object], now: float) -> Table:
    table = _build_dim_table("POD", "READY", "NODE", "RESTARTS", "AGE", "WAITING FOR")
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        metadata = pod["metadata"]
        table.add_row(
            metadata["name"],
            _render_pod_state(pod),
            (pod.get("spec") or {}).get("nodeName", "-"),
            str(sum(int(c.get("restartCount", 0)) for c in get_container_statuses(pod))),
            format_age(metadata.get("creationTimestamp"), now),
            Text(explain_waiting(pod)),
        )
    return table


def _render_pod_state(pod: Object) -> Text:
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return Text("terminating", style="dim")
    if status.get("phase") in {"Succeeded", "Failed"}:
        done = status["phase"] == "Succeeded"
        return Text("done" if done else "failed", style="dim" if done else "red")
    return Text("yes", style="green") if is_ready(pod) else Text("no", style="yellow")


def _render_events(events: Iterable[Object], now: float) -> Table:
    table = _build_dim_table("EVENT", "AGE", "COUNT", "MESSAGE")
    newest = sorted(events, key=_read_event_seconds, reverse=True)[:_MAX_EVENTS]
    for event in newest:
        table.add_row(
            Text(
                str(event.get("reason")), style="yellow" if event.get("type") == "Warning" else ""
            ),
            format_age(_read_event_time(event), now),
            str(event.get("count") or 1),
            Text(" ".join(str(event.get("message") or "").split())),
        )
    return table


def _read_event_time(event: Object) -> str | None:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    latest = next(filter(None, times), event["metadata"].get("creationTimestamp"))
    return None if latest is None else str(latest)


def _read_event_seconds(event: Object) -> float:
    return parse_time(_read_event_time(event)) or 0.0


def _render_phase(model: Object) -> Text:
    return Text(get_phase(model), style=PHASE_STYLES.get(get_phase(model), IN_PROGRESS_STYLE))


def _build_dim_table(*columns: str) -> Table:
    table = build_table()
    table.header_style = "dim"
    for column in columns:
        table.add_column(column, no_wrap=column not in {"MESSAGE", "WAITING FOR"})
    return table
