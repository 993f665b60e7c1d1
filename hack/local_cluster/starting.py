"""Starts a cluster of ours and waits until it is ready."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hack.local_cluster import components, layout
from hack.local_cluster.credentials import ADMIN, issue, kubeconfig
from hack.local_cluster.errors import ClusterError
from hack.local_cluster.kubectl import Kubectl
from hack.local_cluster.network import Network
from hack.local_cluster.node_files import node_files
from hack.local_cluster.programs import CHECKOUT, Programs, find_programs, pause_archive
from hack.local_cluster.running import Cluster
from hack.local_cluster.slot import Holder, Slot, slots_home, take_slot
from hack.local_cluster.status import read_status, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hack.local_cluster.plan import Level, Plan

TIMEOUT_S: Final = 120.0
"""For all components; a tenth of it is usual on two idle cores."""
POLL_S: Final = 0.05
"""Between two looks at the supervisor's status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a starter may choose."""

    logs: Path | None = None
    """Where logs go, and stay; None: they are removed unless the cluster fails."""
    detached: bool = False
    """Lives until `python -m hack.local_cluster down` instead of until this process ends."""
    timeout_s: float = TIMEOUT_S


def start(
    level: Level, options: Options | None = None, environ: Mapping[str, str] = os.environ
) -> Cluster:
    """A cluster that is ready; use it in a `with` statement, or stop it.

    Raises:
        RootNeeded: level `node` as another user.
        ToolsMissing: see `programs.install`.
        SlotsTaken: too many clusters on this machine.
        StartFailed: says which component did not come up, and why.
    """
    options = options or Options()
    programs = find_programs(level, environ)
    slot = take_slot(slots_home())
    try:
        cluster = _launch(level, options, programs, slot)
    finally:
        slot.let_go()  # by now the keeper holds it, or nobody should
    try:
        _wait_until_ready(cluster, options.timeout_s)
        if level == "node":
            cluster.import_image(pause_archive(slot.folder, programs.path))
    except BaseException:
        cluster.stop()
        raise
    if options.detached:
        cluster.let_go()
    return cluster


def _launch(level: Level, options: Options, programs: Programs, slot: Slot) -> Cluster:
    folder = slot.folder
    logs = options.logs or folder / "log"
    logs.mkdir(parents=True, exist_ok=True)
    network = Network(slot.number) if level == "node" else None
    with socket.socket() as port_holder:
        plan, server = _plan(programs, network, port_holder, logs=logs, slot=slot, options=options)
        _write_files(plan, server, programs, network)
        keeper = _start_keeper(folder, logs, slot, port_holder, detached=options.detached)
    slot.record(Holder(pid=keeper.pid, level=level, detached=options.detached))
    return Cluster(
        kubectl=Kubectl(programs.kube / "kubectl", folder / f"{ADMIN}.kubeconfig"),
        level=level,
        folder=folder,
        logs=logs,
        slot=slot.number,
        keeper=keeper,
    )


def _plan(
    programs: Programs,
    network: Network | None,
    port_holder: socket.socket,
    *,
    logs: Path,
    slot: Slot,
    options: Options,
) -> tuple[Plan, str]:
    """The plan, and the API server's URL as this process sees it."""
    if network is not None:
        plan = layout.node(
            programs.kube,
            folder=slot.folder,
            logs=logs,
            network=network,
            path=programs.path,
            timeout_s=options.timeout_s,
        )
        return plan, f"https://{network.node}:{layout.API_PORT}"
    # Bound and kept, so that nobody else gets the port before the API server, which shares it.
    port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port_holder.bind(("127.0.0.1", 0))
    plan = layout.control_plane(
        programs.kube,
        folder=slot.folder,
        logs=logs,
        port=int(port_holder.getsockname()[1]),
        path=programs.path,
        timeout_s=options.timeout_s,
    )
    return plan, plan.api.server


def _write_files(plan: Plan, server: str, programs: Programs, network: Network | None) -> None:
    folder = Path(plan.folder)
    certs = folder / "certs"
    issue(certs, layout.identities(network))
    users = [components.CONTROLLER_MANAGER]
    if network is not None and programs.cni is not None:
        users += [components.SCHEDULER, components.KUBELET, components.PROXY]
        for name, content in node_files(folder, network, programs.cni).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content, "utf-8")
    for user in users:
        _write_secret(folder / f"{user}.kubeconfig", kubeconfig(certs, user, plan.api.server))
    _write_secret(folder / f"{ADMIN}.kubeconfig", kubeconfig(certs, ADMIN, server))
    (folder / "plan.json").write_text(plan.to_json(), "utf-8")


def _write_secret(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content, "utf-8")


def _start_keeper(
    folder: Path, logs: Path, slot: Slot, port_holder: socket.socket, *, detached: bool
) -> subprocess.Popen[bytes]:
    fds = (slot.lock_fd, port_holder.fileno())
    command = [sys.executable, "-m", "hack.local_cluster.keeper", str(folder / "plan.json")]
    command += [str(fds[0]), str(fds[1]), "detached" if detached else "lifeline"]
    with (logs / "keeper.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,  # a Ctrl-C is for the starter, which then stops the cluster
        )


def _wait_until_ready(cluster: Cluster, timeout_s: float) -> None:
    """Until the supervisor says so; it keeps the deadline, this only guards against its absence."""
    assert cluster.folder is not None
    assert cluster.logs is not None
    deadline = time.monotonic() + 2 * timeout_s
    while time.monotonic() < deadline:
        status = read_status(cluster.folder)
        if status is not None and status.phase == "ready":
            return
        cluster.check()
        if cluster.ended():
            cluster.check()  # it may have failed between the two looks
            break
        time.sleep(POLL_S)
    said = [tail(cluster.logs / f"{name}.log", 2000) for name in ("keeper", "supervisor")]
    raise ClusterError(f"the cluster's keeper gave up: {' '.join(said).strip() or 'silently'}")
