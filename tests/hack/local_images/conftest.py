"""The project's images on a node, and a namespace that admits restricted pods only."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.local_cluster import Cluster, Kubectl
from hack.local_images import IMAGES, ImagesMissing, load
from tests.hack.local_images.pods import USER
from tests.support.triton import EXAMPLE


@pytest.fixture(scope="session")
def images(node_cluster: Cluster) -> dict[str, str]:
    """How pods call them, by name."""
    try:
        return load(node_cluster, IMAGES)
    except ImagesMissing as exc:
        pytest.skip(str(exc))


@pytest.fixture
def restricted(node_cluster: Cluster) -> Iterator[Kubectl]:
    """A kubectl in a fresh namespace whose pods must be as PodSecurity `restricted` wants them."""
    name = f"images-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": labels}
    node_cluster.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield node_cluster.kubectl.within(name)
    node_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def volume(restricted: Kubectl, tmp_path: Path) -> Iterator[Path]:
    """The folder behind the claim `volume`, with the example model in `checkpoint`.

    A claim, as restricted pods may not mount a node's folders.
    """
    tmp_path.chmod(0o755)  # pods come as another user
    shutil.copytree(EXAMPLE, tmp_path / "checkpoint")
    for path in (tmp_path, *tmp_path.rglob("*")):
        shutil.chown(path, USER, USER)
    name = restricted.namespace
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    claim = {"namespace": name, "name": "volume"}
    spec = {**common, "capacity": size, "claimRef": claim, "hostPath": {"path": str(tmp_path)}}
    restricted.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {**spec, "persistentVolumeReclaimPolicy": "Retain"},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "volume"},
            "spec": {**common, "resources": {"requests": size}, "volumeName": name},
        },
    )
    yield tmp_path
    restricted("delete", "pods", "--all", "--grace-period=1")
    restricted("delete", "persistentvolume", name, "--wait=false")
