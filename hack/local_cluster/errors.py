"""What can keep a cluster from starting, running or doing as asked.

ClusterError
|-- ToolsMissing          a program is not installed; says how to get it
|-- RootNeeded            level `node` as another user than root
|-- SlotsTaken            as many clusters run on this machine as it may hold
|-- StartFailed
|   |-- SetupFailed       a command that prepares the node failed
|   |-- ComponentDied     a process of the cluster ended by itself, at any time
|   `-- NotReadyInTime    it lives, but does not become ready
|-- WaitedInVain          a condition in the cluster did not come true in time
|-- KubectlFailed         the API server refused, or could not be reached
|-- NotRunning            there is no cluster to talk to or to stop
|-- OtherLevelRunning     a cluster of the other level runs already
`-- NotOurs               asked of somebody else's cluster what only our own may suffer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ClusterError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code: ClassVar[int] = 1
    """Exit code of the command: 2 usage, 5 not permitted, 6 unsupported here, 1 otherwise."""


class ToolsMissing(ClusterError):
    """Programs or files that a cluster needs are not on this machine."""

    exit_code = 6

    def __init__(self, missing: Sequence[str], remedy: str) -> None:
        self.missing = tuple(missing)
        super().__init__(f"not on this machine: {', '.join(missing)}; {remedy}")


class RootNeeded(ClusterError):
    """Level `node` makes network devices, mounts and cgroups."""

    exit_code = 5

    def __init__(self) -> None:
        super().__init__(
            "a node needs root (network devices, mounts, cgroups): run as root, "
            "set KUBECONFIG to an existing cluster, or ask for level control-plane"
        )


class SlotsTaken(ClusterError):
    """Every slot of this machine is held by a running cluster."""

    exit_code = 6

    def __init__(self, slots: int, home: Path) -> None:
        super().__init__(f"{slots} clusters run already (locks in {home}); stop one first")


class StartFailed(ClusterError):
    """The cluster did not come up, or went down by itself."""


class SetupFailed(StartFailed):
    """A command that prepares mounts, network or files failed."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        self.command = tuple(command)
        super().__init__(f"{' '.join(command)}: exit status {status}: {output.strip()}")


class ComponentDied(StartFailed):
    """A process of the cluster ended by itself."""

    def __init__(self, component: str, *, ended: str, reason: str, log: Path) -> None:
        self.component = component
        self.log = log
        super().__init__(f"{component} {ended}: {reason} (log: {log})")


class NotReadyInTime(StartFailed):
    """A process of the cluster lives but is not ready."""

    def __init__(self, component: str, *, timeout_s: float, reason: str, log: Path) -> None:
        self.component = component
        self.log = log
        super().__init__(
            f"{component} is not ready after {timeout_s:.0f} s; last it said: {reason} (log: {log})"
        )


class WaitedInVain(ClusterError):
    """A condition did not come true in time."""

    def __init__(self, what: str, *, timeout_s: float, last: str) -> None:
        super().__init__(f"{what}: not within {timeout_s:.0f} s; last seen: {last}")


class KubectlFailed(ClusterError):
    """Kubectl ended with an error; `stderr` is what it said, without the input."""

    def __init__(self, arguments: Sequence[str], status: int, stderr: str) -> None:
        self.status = status
        self.stderr = stderr.strip()
        super().__init__(f"kubectl {' '.join(arguments)}: exit status {status}: {self.stderr}")


class NotRunning(ClusterError):
    """No cluster was started by `up`, or it is gone."""

    exit_code = 2


class OtherLevelRunning(ClusterError):
    """A cluster was started by `up` that is less than what is asked for now."""

    exit_code = 2


class NotOurs(ClusterError):
    """Refused on a cluster that $KUBECONFIG names."""

    exit_code = 2
