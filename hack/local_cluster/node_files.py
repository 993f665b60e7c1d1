"""Configuration files of a node's components (pure)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from hack.local_cluster.network import Network

PAUSE_IMAGE: Final = "localhost/llmjp-pause:1"
"""Holds a pod's namespaces; imported before the first pod."""


def node_files(folder: Path, network: Network, cni_plugins: Path) -> dict[str, str]:
    """Configuration files of the node's components, by path below `folder`."""
    return {
        "cni/10-llmjp.conflist": json.dumps(_cni(network), indent=1),
        "containerd.toml": _containerd(folder, cni_plugins),
        "kubelet.json": json.dumps(_kubelet(folder, network), indent=1),
    }


def _cni(network: Network) -> dict[str, Any]:
    # A routed link per pod instead of a bridge: pods of one node reach each other through the
    # node's routing, so kube-proxy's rules apply without the br_netfilter kernel module.
    subnet = {"type": "host-local", "subnet": network.pods, "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "llmjp",
        "plugins": [
            {"type": "ptp", "ipam": subnet},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _containerd(folder: Path, cni_plugins: Path) -> str:
    # restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, runc could not lower a score and
    # no container would start ("can't get final child's PID from pipe: EOF").
    return f"""\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _kubelet(folder: Path, network: Network) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(folder / "certs" / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{network.cgroup}",
        "containerRuntimeEndpoint": f"unix://{folder / 'containerd.sock'}",
        "enforceNodeAllocatable": [],
        # The host's disk and memory are not this node's to defend.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "2s",
        "resolvConf": "",  # no DNS: a name fails at once instead of timing out
        "volumePluginDir": str(folder / "volume-plugins"),
    }
