"""Clusters that somebody else started: $KUBECONFIG's, and the one that `up` left running."""

from __future__ import annotations

import os
import select
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from hack.local_cluster.credentials import ADMIN
from hack.local_cluster.errors import ClusterError, NotRunning, OtherLevelRunning, ToolsMissing
from hack.local_cluster.kubectl import Kubectl
from hack.local_cluster.programs import cache_folder, search_path
from hack.local_cluster.running import STOP_TIMEOUT_S, Cluster
from hack.local_cluster.slot import Holder, free_folders, held_slots, slots_home
from hack.local_cluster.status import read_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hack.local_cluster.plan import Level


def existing(environ: Mapping[str, str]) -> Cluster | None:
    """The cluster of $KUBECONFIG, where it is set; it counts as level `node`.

    Raises:
        NotRunning: it does not answer.
        ToolsMissing: there is no kubectl to ask it with.
    """
    named = environ.get("KUBECONFIG")
    if not named:
        return None
    kubectl = Kubectl(_kubectl(environ), Path(named))
    try:
        kubectl("get", "--raw=/readyz", "--request-timeout=10s")
    except ClusterError as exc:
        raise NotRunning(f"the cluster of KUBECONFIG={named} does not answer: {exc}") from exc
    return Cluster(kubectl=kubectl, level="node")


def left_running(environ: Mapping[str, str]) -> tuple[Cluster, Holder] | None:
    """The cluster that `up` started, and its keeper."""
    for folder, holder in held_slots(slots_home()).items():
        if holder is not None and holder.detached:
            cluster = Cluster(
                kubectl=Kubectl(_kubectl(environ), folder / f"{ADMIN}.kubeconfig"),
                level="node" if holder.level == "node" else "control-plane",
                folder=folder,
                logs=folder / "log",
                slot=int(folder.name.rpartition("-")[2]),
            )
            return cluster, holder
    return None


def last_failure() -> str:
    """Why a cluster of this user ended by itself, if one did and its slot was not used since."""
    for folder in free_folders(slots_home()):
        status = read_status(folder)
        if status is not None and status.failure is not None:
            return f" (a cluster failed: {status.failure.error()})"
    return ""


def require_level(cluster: Cluster, level: Level) -> None:
    """Refuse a control plane where a node is asked for.

    Raises:
        OtherLevelRunning: says how to get one.
    """
    if level == "node" and cluster.level != "node":
        raise OtherLevelRunning(
            "a cluster without a node is running: python -m hack.local_cluster down, then up again"
        )


def bring_down(holder: Holder) -> None:
    """Ask the keeper to end its cluster and wait until it has.

    Raises:
        ClusterError: it has not within a minute.
    """
    try:
        keeper = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(keeper, signal.SIGTERM)
        ended, _, _ = select.select([keeper], [], [], STOP_TIMEOUT_S)
    except ProcessLookupError:
        return
    finally:
        os.close(keeper)
    if not ended:
        raise ClusterError(f"keeper {holder.pid} has not ended after {STOP_TIMEOUT_S:.0f} s")


def _kubectl(environ: Mapping[str, str]) -> Path:
    own = cache_folder(environ) / "kubectl"
    found = own if own.exists() else shutil.which("kubectl", path=search_path(environ))
    if found is None:
        raise ToolsMissing(["kubectl"], "run: python -m hack.local_cluster install")
    return Path(found)
