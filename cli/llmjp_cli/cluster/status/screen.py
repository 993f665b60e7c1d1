"""What `llmjp status` shows of a model: one screen. Pure, whatever little the API server said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

Object = dict[str, Any]

COLOURS = {
    "Serving": "bold green",
    "Degraded": "bold yellow",
    "Blocked": "bold red",
    "Failed": "bold red",
    "Pending": "dim",
}
"""Of phases; the others are under way."""
UNDER_WAY = "bold cyan"
_EVENTS = 8
_BAR = 30
_STARTING = {"ContainerCreating", "PodInitializing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One model and what belongs to it."""

    model: Object
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    unknown: tuple[str, ...] = ()
    """What could not be looked at, and why."""


def phase(model: Object) -> str:
    """In one word."""
    return str(_status(model).get("phase") or "Pending")


def available(model: Object) -> bool:
    """Whether a pod answers."""
    return any(
        (c.get("type"), c.get("status")) == ("Available", "True")
        for c in _status(model).get("conditions") or ()
    )


def screen(seen: Seen, now: float) -> Group:
    """Everything about one model."""
    parts: list[RenderableType] = [_head(seen.model, now), *_build(seen.model)]
    parts += [Text(), _conditions(seen.model, now)]
    if (facts := _facts(seen.model)).row_count:
        parts += [Text(), facts]
    if seen.pods:
        parts += [Text(), _pods(seen.pods, now)]
    if seen.events:
        parts += [Text(), _events(seen.events, now)]
    parts += [Text(f"cannot tell {line}", style="yellow") for line in seen.unknown]
    if advice := list(next_steps(seen)):
        parts += [Text(), *(Text(f"next: {line}", style="bold") for line in advice)]
    return Group(*parts)


def listing(models: Sequence[Object], now: float, *, namespaces: bool) -> Table:
    """One line per model."""
    table = _table()
    names = ["NAMESPACE"] if namespaces else []
    for column in (*names, "NAME", "PHASE", "READY", "BACKEND", "ENGINE", "BUILD", "AGE", "ABOUT"):
        table.add_column(column, no_wrap=column != "ABOUT")
    for model in models:
        metadata, spec, status = model["metadata"], model.get("spec") or {}, _status(model)
        wanted = (spec.get("serving") or {}).get("replicas", 1)
        table.add_row(
            *([metadata.get("namespace", "")] if namespaces else []),
            metadata["name"],
            _phase(model),
            f"{status.get('readyReplicas') or 0}/{wanted}",
            (spec.get("engine") or {}).get("backend", "tensorrt"),
            ((status.get("engine") or {}).get("active") or "-")[:12],
            progress(model) or "-",
            age(metadata.get("creationTimestamp"), now),
            Text(_about(model)),
        )
    return table


def line(model: Object) -> str:
    """One line, for logs: phase, what is done, and the reason."""
    parts = (phase(model), progress(model), _about(model))
    return "  ".join(part for part in parts if part)


def progress(model: Object) -> str:
    """`convert 41% 6:20 left`; empty where nothing is built."""
    build = _status(model).get("build") or {}
    if not build.get("step"):
        return ""
    percent = "" if build.get("percent") is None else f" {build['percent']}%"
    eta = build.get("etaSeconds")
    return f"{build['step']}{percent}" + ("" if eta is None else f" {duration(eta)} left")


def duration(seconds: float) -> str:
    """`6:20`, `1:06:20`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age(timestamp: str | None, now: float) -> str:
    """`5d`, `3h`, `12m`, `40s`; empty where it is not known."""
    then = _seconds(timestamp)
    if then is None:
        return ""
    passed = max(0, round(now - then))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed >= 2 * length:
            return f"{passed // length}{unit}"
    return f"{passed}s"


def waiting(pod: Object) -> str:
    """Why a pod does not run, in the words of scheduler and kubelet; empty where it does."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False"):
            return str(condition.get("message") or condition.get("reason") or "not scheduled")
    for container in _containers(status):
        state = container.get("state") or {}
        held = state.get("waiting") or {}
        if held.get("reason") and held["reason"] not in _STARTING:
            return f"{held['reason']}: {held.get('message') or ''}".removesuffix(": ")
        ended = state.get("terminated") or {}
        if ended.get("exitCode"):
            said = " ".join(str(ended.get("message") or ended.get("reason") or "").split())
            return f"exit code {ended['exitCode']}: {said}"
    return ""


def next_steps(seen: Seen) -> Iterator[str]:
    """What a person may do now; nothing where things go their way."""
    metadata, status = seen.model["metadata"], _status(seen.model)
    name, where = metadata["name"], _where(metadata)
    claims = {c.get("type"): c for c in status.get("conditions") or ()}
    accepted, going = claims.get("Accepted") or {}, claims.get("Progressing") or {}
    if not status:
        yield "nothing has looked at this model yet: `llmjp doctor` says whether the operator runs"
    elif status.get("observedGeneration") != metadata.get("generation"):
        yield "the operator has not seen the newest spec yet; if that lasts: `llmjp doctor`"
    if accepted.get("status") == "False":
        reason = accepted.get("reason")
        if reason == "LicenceNotAccepted":
            yield f"read the terms named above; to accept: kubectl edit ljm {name}{where}"
        elif reason == "ImageMissing":
            yield "set images in the operator chart's values: helm upgrade"
        else:
            yield f"mend the spec as Accepted says above: kubectl edit ljm {name}{where}"
    elif phase(seen.model) in {"Failed", "Degraded"} and going.get("status") == "False":
        if job := (status.get("build") or {}).get("job"):
            yield f"the log: kubectl logs job/{job}{where}"
        elif held := next((p for p in seen.pods if waiting(p)), None):
            yield f"the log: kubectl logs {held['metadata']['name']}{where} --previous"
        yield (
            f"mend what is named above, or try again: kubectl annotate --overwrite ljm {name}"
            f"{where} serving.llmjp.dev/retry=$(date +%s)"
        )
    if any("Insufficient" in waiting(pod) or "affinity" in waiting(pod) for pod in seen.pods):
        yield "a pod finds no node: `llmjp doctor` lists the GPUs that are there and free"
    if available(seen.model):
        yield f"talk to it: kubectl port-forward service/{name} 8001{where}, then llmjp chat"


def _head(model: Object, now: float) -> Text:
    metadata = model["metadata"]
    head = Text.assemble(
        (f"{metadata.get('namespace', '')}/{metadata['name']}", "bold"), "  ", _phase(model)
    )
    status, wanted = _status(model), (model.get("spec") or {}).get("serving") or {}
    head.append(f"  {status.get('readyReplicas') or 0} of {wanted.get('replicas', 1)} pods ready")
    head.append(f"  {age(metadata.get('creationTimestamp'), now)} old", style="dim")
    return head


def _build(model: Object) -> Iterator[RenderableType]:
    build = _status(model).get("build") or {}
    if build.get("step"):
        row = Table.grid(padding=(0, 1))
        percent = build.get("percent") or 0
        bar = ProgressBar(total=100, completed=percent, width=_BAR)
        eta = build.get("etaSeconds")
        left = "" if eta is None else f"{duration(eta)} left in this step"
        row.add_row("build", str(build["step"]), bar, f"{percent}%", left)
        yield row
    failure = build.get("failure") or {}
    if failure:
        text = f"failed in {failure.get('step')}: {failure.get('message')} ({failure.get('code')})"
        yield Text(text, style="red")


def _conditions(model: Object, now: float) -> Table:
    table = _table("CONDITION", "", "REASON", "SINCE", "MESSAGE")
    for claim in _status(model).get("conditions") or ():
        value = str(claim.get("status"))
        # That nothing is under way is no fault.
        fault = value == "False" and claim.get("type") != "Progressing"
        style = {"True": "green", "Unknown": "dim"}.get(value, "red" if fault else "")
        table.add_row(
            str(claim.get("type")),
            Text(value, style=style),
            str(claim.get("reason")),
            age(claim.get("lastTransitionTime"), now),
            Text(claim.get("message") or ""),
        )
    return table


def _facts(model: Object) -> Table:
    status = _status(model)
    engine, source = status.get("engine") or {}, status.get("source") or {}
    endpoint = status.get("endpoint") or {}
    hit = engine.get("cacheHit")
    rows = (
        ("endpoint", " ".join(filter(None, (endpoint.get("grpc"), endpoint.get("http"))))),
        ("engine wanted", engine.get("key")),
        ("serves", engine.get("active")),
        ("served before", engine.get("previous")),
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


def _pods(pods: Iterable[Object], now: float) -> Table:
    table = _table("POD", "READY", "NODE", "RESTARTS", "AGE", "WAITS FOR")
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        status, metadata = pod.get("status") or {}, pod["metadata"]
        table.add_row(
            metadata["name"],
            _state(pod),
            (pod.get("spec") or {}).get("nodeName", "-"),
            str(sum(int(c.get("restartCount", 0)) for c in _containers(status))),
            age(metadata.get("creationTimestamp"), now),
            Text(waiting(pod)),
        )
    return table


def _state(pod: Object) -> Text:
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return Text("ends", style="dim")
    if status.get("phase") in {"Succeeded", "Failed"}:
        done = status["phase"] == "Succeeded"
        return Text("done" if done else "failed", style="dim" if done else "red")
    ready = any(
        (c.get("type"), c.get("status")) == ("Ready", "True")
        for c in status.get("conditions") or ()
    )
    return Text("yes", style="green") if ready else Text("no", style="yellow")


def _events(events: Iterable[Object], now: float) -> Table:
    table = _table("EVENT", "AGE", "COUNT", "MESSAGE")
    newest = sorted(events, key=_when, reverse=True)[:_EVENTS]
    for event in newest:
        table.add_row(
            Text(
                str(event.get("reason")), style="yellow" if event.get("type") == "Warning" else ""
            ),
            age(_told(event), now),
            str(event.get("count") or 1),
            Text(" ".join(str(event.get("message") or "").split())),
        )
    return table


def _told(event: Object) -> str | None:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    told = next(filter(None, times), event["metadata"].get("creationTimestamp"))
    return None if told is None else str(told)


def _when(event: Object) -> float:
    return _seconds(_told(event)) or 0.0


def _phase(model: Object) -> Text:
    return Text(phase(model), style=COLOURS.get(phase(model), UNDER_WAY))


def _about(model: Object) -> str:
    """The sentence that matters most."""
    claims = {c.get("type"): c for c in _status(model).get("conditions") or ()}
    for kind in ("Accepted", "Progressing"):
        claim = claims.get(kind) or {}
        if claim.get("status") == ("False" if kind == "Accepted" else "True"):
            return str(claim.get("message") or "")
    told = claims.get("Progressing" if phase(model) in {"Failed", "Degraded"} else "Available")
    return str((told or {}).get("message") or "")


def _where(metadata: Object) -> str:
    return f" -n {metadata['namespace']}" if metadata.get("namespace") else ""


def _containers(status: Object) -> list[Object]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _status(model: Object) -> Object:
    return model.get("status") or {}


def _seconds(timestamp: str | None) -> float | None:
    if not timestamp:
        return None
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column not in {"MESSAGE", "WAITS FOR"})
    return table
