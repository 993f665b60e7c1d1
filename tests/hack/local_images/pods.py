"""Pods as the operator makes them: restricted, a read-only root, scratch folders. Pure."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

USER = 10001


def pod(
    name: str, image: str, *arguments: str, command: tuple[str, ...] = (), **changes: Any
) -> Object:
    """One container that runs the image's entry point, or a command; `changes` are to it."""
    mounts = [
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "memory", "mountPath": "/dev/shm"},
        *changes.pop("volumeMounts", ()),
    ]
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts,
        **({"command": list(command)} if command else {}),
        **changes,
    }
    volumes: list[Object] = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    if any(mount["name"] == "volume" for mount in mounts):
        volumes.append({"name": "volume", "persistentVolumeClaim": {"claimName": "volume"}})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # Kubelets take the user from an image, but no group; the operator says both.
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
        },
    }
