"""An OCI image archive from a plain folder: no registry, no daemon, no Dockerfile.

One uncompressed layer in an OCI image layout (image-spec 1.1), packed as a tar file that
`ctr images import` takes. Equal folders give equal bytes: names sorted, owner 0, time 0.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""`uname -m` to the name in images."""
_MEDIA: Final = "application/vnd.oci.image"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How a container of the image starts."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    """`NAME=value`."""
    user: str = ""
    """`uid:gid`; empty: root."""
    working_directory: str = "/"


def image_archive(rootfs: Path, name: str, config: ImageConfig, archive: Path) -> str:
    """Write `rootfs` as image `name` (`localhost/x:1`) to `archive`; its manifest's digest.

    Reads the layer twice and holds none of it in memory.
    """
    layer = archive.with_suffix(".layer")
    try:
        with layer.open("wb") as file:
            _pack(rootfs, file)
        digest = _digest_of(layer)
        blobs, manifest_digest = _documents(digest, layer.stat().st_size, config)
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            _add(tar, "index.json", _index(name, manifest_digest, len(blobs[manifest_digest])))
            for blob_digest, content in sorted(blobs.items()):
                _add(tar, _blob(blob_digest), content)
            with layer.open("rb") as file:
                info = tarfile.TarInfo(_blob(digest))
                info.size = layer.stat().st_size
                tar.addfile(info, file)
    finally:
        layer.unlink(missing_ok=True)
    return manifest_digest


def _pack(rootfs: Path, file: io.BufferedWriter) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(rootfs.rglob("*")):
            tar.add(path, str(path.relative_to(rootfs)), recursive=False, filter=_anonymous)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


def _documents(
    layer_digest: str, layer_bytes: int, config: ImageConfig
) -> tuple[dict[str, bytes], str]:
    """Config and manifest by digest, and the manifest's digest."""
    machine = platform.machine()
    config_json = _json(
        {
            "architecture": MACHINES.get(machine, machine),
            "os": "linux",
            "config": {
                "Entrypoint": list(config.entrypoint),
                "Cmd": list(config.command),
                "Env": list(config.environment),
                "User": config.user,
                "WorkingDir": config.working_directory,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _descriptor("config.v1+json", _digest(config_json), len(config_json)),
            "layers": [_descriptor("layer.v1.tar", layer_digest, layer_bytes)],
        }
    )
    digest = _digest(manifest)
    return {_digest(config_json): config_json, digest: manifest}, digest


def _index(name: str, digest: str, size_bytes: int) -> bytes:
    manifest = _descriptor("manifest.v1+json", digest, size_bytes)
    manifest["annotations"] = {"io.containerd.image.name": name}
    return _json({"schemaVersion": 2, "manifests": [manifest]})


def _descriptor(kind: str, digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": f"{_MEDIA}.{kind}", "digest": digest, "size": size_bytes}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _digest_of(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return f"sha256:{state.hexdigest()}"
