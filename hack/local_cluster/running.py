"""A cluster that runs: ours, or the one that $KUBECONFIG names."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Final, Self

from hack.local_cluster.components import NODE_NAME
from hack.local_cluster.errors import NotOurs, SetupFailed
from hack.local_cluster.kubectl import wait_until
from hack.local_cluster.processes import descendants
from hack.local_cluster.status import read_status

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from hack.local_cluster.kubectl import Kubectl, Object
    from hack.local_cluster.plan import Level

GPU: Final = "nvidia.com/gpu"
"""The extended resource of NVIDIA's device plugin."""
STOP_TIMEOUT_S: Final = 60.0
"""The keeper kills and removes; a busy disk may take its time."""


class Cluster:
    """A cluster of ours, or (`slot` None) somebody else's."""

    def __init__(
        self,
        *,
        kubectl: Kubectl,
        level: Level,
        folder: Path | None = None,
        logs: Path | None = None,
        slot: int | None = None,
        keeper: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.kubectl = kubectl
        """With the rights of an administrator."""
        self.level = level
        self.folder = folder
        """State; None on somebody else's cluster."""
        self.logs = logs
        """One file per component."""
        self.slot = slot
        self._keeper = keeper

    @property
    def kubeconfig(self) -> Path:
        """For any other client."""
        return self.kubectl.kubeconfig

    def check(self) -> None:
        """Raise what ended the cluster, if something did.

        Raises:
            StartFailed: a component died; says which and why.
        """
        if self.folder is None:
            return
        status = read_status(self.folder)
        if status is not None and status.failure is not None:
            raise status.failure.error()

    def import_image(self, archive: Path) -> None:
        """Put the images of an OCI or docker archive on the node (`imagePullPolicy: Never`).

        Raises:
            NotOurs: not a node that we started.
            SetupFailed: containerd refused.
        """
        socket = str(self._own_node("take images") / "containerd.sock")
        command = ["ctr", "--address", socket, "--namespace", "k8s.io"]
        command += ["images", "import", "--all-platforms", str(archive)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupFailed(command, done.returncode, done.stderr)

    def pretend_gpus(self, count: int, *, product: str, compute_capability: str) -> None:
        """Let the node show `count` GPUs, labelled as GPU feature discovery labels them.

        The scheduler and the kubelet's admission count them as they count real ones; pods see none.

        Raises:
            NotOurs: not a node that we started.
        """
        self._own_node("pretend GPUs")
        major, _, minor = compute_capability.partition(".")
        labels = {
            f"{GPU}.product": product,
            f"{GPU}.count": str(count),
            f"{GPU}.present": "true",
            f"{GPU}.compute.major": major,
            f"{GPU}.compute.minor": minor,
        }
        patch = json.dumps({"metadata": {"labels": labels}})
        node = f"node/{NODE_NAME}"
        self.kubectl("patch", node, "--type=merge", f"--patch={patch}")
        self.kubectl.patch_status(node, {"capacity": {GPU: str(count)}})

        def allocatable() -> tuple[bool, object]:  # the kubelet copies it from the capacity
            seen: Object = self.kubectl.get(node)["status"]["allocatable"]
            return seen.get(GPU) == str(count), seen

        wait_until(f"{count} GPUs on {NODE_NAME}", allocatable, timeout_s=30)

    def ended(self) -> bool:
        """Whether the keeper of a cluster of ours is gone, and so the cluster."""
        return self._keeper is not None and self._keeper.poll() is not None

    def processes(self) -> set[int]:
        """Process ids of what this process started: all components, and all pods' processes."""
        return set() if self._keeper is None else descendants(self._keeper.pid)

    def let_go(self) -> None:
        """Leave the cluster running: from now on `stop` does nothing."""
        if self._keeper is not None:
            self._keeper.returncode = 0  # else Popen warns that nobody waits for it
            self._keeper = None

    def stop(self) -> None:
        """End every process and remove every file but logs; does nothing the second time."""
        if self._keeper is None:
            return
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.terminate()
        self._keeper.wait(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _own_node(self, purpose: str) -> Path:
        if self.folder is None or self.level != "node":
            raise NotOurs(f"only a node that hack.local_cluster started can {purpose}")
        return self.folder
