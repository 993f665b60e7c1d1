"""A real Kubernetes on this machine, without Docker, for scenarios and `make demo-cluster`.

    from e2e.cluster import start

    with start("control-plane") as cluster:
        cluster.kubectl("get", "namespaces")

Level `control-plane` is etcd, the API server and the controllers: seconds, no root. Level `node`
adds a scheduler and one node whose pods really run: needs root, leaves the host's network, mounts
and processes alone by living in its own namespaces. Both are gone, with all they made, when the
process that started them is: see `keeper`.

Not here: DNS, a way out of the cluster for pods (they reach the host at the node's gateway), and
enforcement of NetworkPolicy.
"""

from __future__ import annotations

from e2e.cluster.attached import existing
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import ImageConfig, image_archive
from e2e.cluster.kubectl import Kubectl, Object, wait_until
from e2e.cluster.plan import Level
from e2e.cluster.programs import find_programs, install
from e2e.cluster.running import Cluster
from e2e.cluster.starting import Options, start

__all__ = [
    "Cluster",
    "ClusterError",
    "ImageConfig",
    "Kubectl",
    "Level",
    "Object",
    "Options",
    "existing",
    "find_programs",
    "image_archive",
    "install",
    "start",
    "wait_until",
]
