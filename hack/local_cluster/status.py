"""What the supervisor tells its starter: one small file, replaced atomically."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hack.local_cluster.errors import ComponentDied, NotReadyInTime, SetupFailed, StartFailed

Phase = Literal["starting", "ready", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a cluster is down."""

    kind: Literal["setup", "died", "late"]
    subject: tuple[str, ...]
    """The component's name, or the setup command."""
    reason: str
    """From its log or its output."""
    log: str = ""
    ended: str = ""
    """Kind `died`: how, such as "was killed by SIGKILL"."""
    status: int = 0
    """Kind `setup`: exit status."""
    timeout_s: float = 0.0
    """Kind `late`."""

    def error(self) -> StartFailed:
        """The exception for it."""
        match self.kind:
            case "setup":
                return SetupFailed(self.subject, self.status, self.reason)
            case "died":
                return ComponentDied(
                    self.subject[0], ended=self.ended, reason=self.reason, log=Path(self.log)
                )
            case "late":
                return NotReadyInTime(
                    self.subject[0],
                    timeout_s=self.timeout_s,
                    reason=self.reason,
                    log=Path(self.log),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far a cluster has come."""

    phase: Phase
    ready: tuple[str, ...] = ()
    """Components, in the order they became ready."""
    failure: Failure | None = None


def write_status(folder: Path, status: Status) -> None:
    """Replace the status in `folder`."""
    draft = folder / "status.json.new"
    draft.write_text(json.dumps(asdict(status)), "utf-8")
    draft.replace(folder / "status.json")


def read_status(folder: Path) -> Status | None:
    """The status in `folder`; None before the supervisor wrote one and after all is cleared."""
    try:
        fields: dict[str, Any] = json.loads((folder / "status.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    failure = fields["failure"]
    if failure is not None:
        failure = Failure(**{**failure, "subject": tuple(failure["subject"])})
    return Status(phase=fields["phase"], ready=tuple(fields["ready"]), failure=failure)


def log_reason(log: str) -> str:
    """Why the process that wrote `log` gave up, in one line (pure).

    Fatal lines count most, in the formats of the components: Go's panics, klog's F and "command
    failed", cobra's usage errors, etcd's JSON, containerd's key=value. Then the last error line,
    then the last line.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for marks in (_FATAL, _ERROR):
        for line in reversed(lines):
            if any(mark in line[:120] for mark in marks) or (marks is _ERROR and _klog_error(line)):
                return _shorten(line)
    return _shorten(lines[-1]) if lines else "it said nothing"


def tail(path: Path, size_bytes: int = 65536) -> str:
    """The end of the file, empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size_bytes))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


_FATAL = (
    "panic: ",
    '"command failed"',
    "Error: ",
    '"level":"fatal"',
    "level=fatal",
    "containerd: ",
)
_ERROR = ('"level":"error"', "level=error")
_LONGEST = 500


def _klog_error(line: str) -> bool:
    return len(line) > 5 and line[0] in "EF" and line[1:5].isdigit()


def _shorten(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
