"""pytest fixtures: one control plane and one node per session, one namespace per test.

Loaded by the root `conftest.py`. By default the clusters are ours and leave with the session; with
LLMJP_TEST_CLUSTER=existing the tests run on the cluster of $KUBECONFIG instead. That takes more
than $KUBECONFIG alone, because tests create and delete cluster-wide objects and a shell's current
cluster is often one that matters.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

import pytest

from hack.local_cluster import Options, existing, install, start
from hack.local_cluster.errors import RootNeeded, ToolsMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hack.local_cluster import Cluster, Kubectl, Level

CHOICE: Final = "LLMJP_TEST_CLUSTER"
"""Environment variable: `existing` takes $KUBECONFIG's cluster."""


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with controllers and without nodes; no root needed."""
    yield from _session_cluster("control-plane", tmp_path_factory)


@pytest.fixture(scope="session")
def node_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose one node runs pods; skips without root."""
    yield from _session_cluster("node", tmp_path_factory)


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[Kubectl]:
    """A kubectl in a fresh namespace of the control plane."""
    yield from _fresh_namespace(control_plane)


@pytest.fixture
def node_namespace(node_cluster: Cluster) -> Iterator[Kubectl]:
    """A kubectl in a fresh namespace of the cluster with a node."""
    yield from _fresh_namespace(node_cluster)


def start_or_skip(level: Level, options: Options | None = None) -> Cluster:
    """A cluster of ours; skips the test where this machine cannot have one."""
    try:
        install(level, os.environ, build=False)
        return start(level, options)
    except (RootNeeded, ToolsMissing) as exc:
        pytest.skip(str(exc))


def _session_cluster(level: Level, folders: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.environ.get(CHOICE) == "existing":
        theirs = existing(os.environ)
        assert theirs is not None, f"{CHOICE}=existing needs KUBECONFIG"
        yield theirs
        return
    with start_or_skip(level, Options(logs=folders.mktemp(level))) as cluster:
        yield cluster
        cluster.check()


def _fresh_namespace(cluster: Cluster) -> Iterator[Kubectl]:
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield cluster.kubectl.within(name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
