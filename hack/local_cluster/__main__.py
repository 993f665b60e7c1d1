"""`python -m hack.local_cluster`: a real Kubernetes on this machine, from up to down."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from hack.local_cluster.attached import (
    bring_down,
    existing,
    last_failure,
    left_running,
    require_level,
)
from hack.local_cluster.errors import ClusterError, NotRunning
from hack.local_cluster.processes import descendants, process_name, resident_bytes
from hack.local_cluster.programs import install
from hack.local_cluster.starting import Options, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hack.local_cluster.plan import Level
    from hack.local_cluster.running import Cluster


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ClusterError as exc:
        sys.stderr.write(f"hack.local_cluster: {exc}\n")
        return exc.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.local_cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run, text in (
        ("install", _install, "put in place what a cluster needs"),
        ("up", _up, "start a cluster that stays; or use the one of $KUBECONFIG"),
        ("down", _down, "end what up started"),
        ("env", _env, 'print what a shell needs: eval "$(python -m hack.local_cluster env)"'),
        ("status", _status, "is it up, which processes, how much memory"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if name in {"install", "up"}:
            command.add_argument("--level", choices=("control-plane", "node"), default="node")
    return parser


def _install(options: argparse.Namespace) -> None:
    install(options.level, os.environ)


def _up(options: argparse.Namespace) -> None:
    level: Level = options.level
    theirs = existing(os.environ)
    left = left_running(os.environ)
    if theirs is not None:
        cluster = theirs
    elif left is not None:
        cluster = left[0]
        require_level(cluster, level)
    else:
        install(level, os.environ)
        cluster = start(level, Options(detached=True))
    _print_env(cluster)


def _down(_options: argparse.Namespace) -> None:
    left = left_running(os.environ)
    if left is None:
        raise NotRunning("nothing to end: no cluster was started with up")
    bring_down(left[1])


def _current() -> tuple[Cluster, int | None]:
    """The cluster to talk to, and its keeper's process id where it is ours."""
    theirs = existing(os.environ)
    if theirs is not None:
        return theirs, None
    left = left_running(os.environ)
    if left is None:
        raise NotRunning(f"no cluster is up{last_failure()}: python -m hack.local_cluster up")
    left[0].check()
    return left[0], left[1].pid


def _env(_options: argparse.Namespace) -> None:
    _print_env(_current()[0])


def _print_env(cluster: Cluster) -> None:
    sys.stdout.write(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}\n")
    path = shlex.quote(str(cluster.kubectl.program.parent))
    sys.stdout.write(f'export PATH={path}:"$PATH"\n')


def _status(_options: argparse.Namespace) -> None:
    cluster, keeper = _current()
    sys.stdout.write(cluster.kubectl("get", "--raw=/readyz").strip() + "\n")
    if keeper is None:
        sys.stdout.write(f"cluster of KUBECONFIG={cluster.kubeconfig}\n")
        return
    sys.stdout.write(f"level {cluster.level}, state and logs in {cluster.folder}\n")
    total = 0
    for pid in sorted(descendants(keeper)):
        total += resident_bytes(pid)
        sys.stdout.write(f"{pid:>8} {resident_bytes(pid) >> 20:>6} MB  {process_name(pid)}\n")
    sys.stdout.write(f"{'all':>8} {total >> 20:>6} MB  resident, shared pages counted each time\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
