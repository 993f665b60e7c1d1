"""A real Kubernetes on this machine, without Docker, for scenarios and `make demo-cluster`.

    from hack.local_cluster import start

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

from hack.local_cluster.attached import existing
from hack.local_cluster.errors import ClusterError
from hack.local_cluster.images import ImageConfig, image_archive
from hack.local_cluster.kubectl import Kubectl, Object, wait_until
from hack.local_cluster.plan import Level
from hack.local_cluster.programs import find_programs, install
from hack.local_cluster.running import Cluster
from hack.local_cluster.starting import Options, start

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
