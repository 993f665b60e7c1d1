"""The programs a cluster is made of: found, or put there once.

Kubernetes itself is one program of our own making (`kube/main.go`), kept in a cache outside the
checkout: unpacked from `../shared` where somebody has built it before, else built by Go, which
takes minutes. The rest (containerd, runc, network plugins, iptables, openssl, a C compiler) is the
distribution's.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hack.local_cluster.errors import RootNeeded, SetupFailed, ToolsMissing
from hack.local_cluster.images import MACHINES, ImageConfig, image_archive
from hack.local_cluster.node_files import PAUSE_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hack.local_cluster.plan import Level

KUBERNETES: Final = "v1.34.4"
"""The release that `kube/go.mod` names."""
LINKS: Final = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
)
"""What the one program is called by."""
SOURCE: Final = Path(__file__).with_name("kube")
"""The Go module."""
CHECKOUT: Final = Path(__file__).resolve().parents[2]
"""Of this repository."""
CNI_FOLDERS: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
"""Where distributions put network plugins."""
CNI_PLUGINS: Final = ("host-local", "loopback", "portmap", "ptp")
"""Those a node uses."""
_DEBIAN: Final = {
    "openssl": "openssl",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "cc": "gcc libc6-dev",
    "network plugins": "containernetworking-plugins",
}
"""Program to its Debian packages."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Everything that is needed, found."""

    kube: Path
    """Folder of `LINKS`."""
    cni: Path | None
    """Folder of network plugins; None on level control-plane."""
    path: str
    """$PATH that has the rest."""


def search_path(environ: Mapping[str, str]) -> str:
    """$PATH with the folders of system programs, which other users' often lacks (pure)."""
    folders = environ.get("PATH", "/usr/bin:/bin").split(":")
    return ":".join(dict.fromkeys([*folders, "/usr/sbin", "/sbin"]))


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where this release of Kubernetes is, or is to be, kept (pure)."""
    home = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "/root")) / ".cache")
    return Path(home) / "llmjp-serving" / f"kube-{KUBERNETES}-{_machine()}"


def missing_tools(level: Level, path: str) -> list[str]:
    """Programs of the distribution that are not on this machine."""
    if level == "control-plane":
        return [] if shutil.which("openssl", path=path) else ["openssl"]
    missing = [
        tool
        for tool in _DEBIAN
        if tool != "network plugins" and shutil.which(tool, path=path) is None
    ]
    return missing if _cni_folder() else [*missing, "network plugins"]


def find_programs(level: Level, environ: Mapping[str, str]) -> Programs:
    """What `install` has put there.

    Raises:
        RootNeeded: level `node` as another user.
        ToolsMissing: names what is missing.
    """
    if level == "node" and os.geteuid() != 0:
        raise RootNeeded
    path = search_path(environ)
    cache = cache_folder(environ)
    missing = missing_tools(level, path)
    if not (cache / "kube").exists():
        missing.insert(0, f"Kubernetes {KUBERNETES}")
    if missing:
        raise ToolsMissing(missing, f"run: python -m hack.local_cluster install --level {level}")
    return Programs(cache, _cni_folder() if level == "node" else None, path)


def install(level: Level, environ: Mapping[str, str], *, build: bool = True) -> Programs:
    """Put in place what is missing; says on standard error what it does.

    With `build` false Kubernetes is not compiled, which takes minutes, but only unpacked.

    Raises:
        RootNeeded: level `node` as another user.
        ToolsMissing: what cannot be installed here, and the packages to install.
        SetupFailed: a package manager or a compiler refused.
    """
    if level == "node" and os.geteuid() != 0:
        raise RootNeeded
    path = search_path(environ)
    if missing := missing_tools(level, path):
        _install_packages(missing, path, environ)
    cache = cache_folder(environ)
    if not (cache / "kube").exists() and (build or _prebuilt().exists()):
        _provide_kubernetes(cache, path, environ)
    return find_programs(level, environ)


def pause_archive(scratch: Path, path: str) -> Path:
    """The sandbox image, compiled from `pause.c`, as an archive in `scratch`."""
    rootfs = scratch / "pause"
    rootfs.mkdir()
    source = Path(__file__).with_name("pause.c")
    _run(["cc", "-static", "-Os", "-s", "-o", str(rootfs / "pause"), str(source)], path)
    archive = scratch / "pause.tar"
    config = ImageConfig(entrypoint=("/pause",), user="65535:65535")
    image_archive(rootfs, PAUSE_IMAGE, config, archive)
    return archive


def _machine() -> str:
    machine = os.uname().machine
    return f"linux-{MACHINES.get(machine, machine)}"


def _cni_folder() -> Path | None:
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    return None


def _install_packages(missing: list[str], path: str, environ: Mapping[str, str]) -> None:
    packages = sorted({name for tool in missing for name in _DEBIAN[tool].split()})
    if os.geteuid() != 0 or shutil.which("apt-get", path=path) is None:
        raise ToolsMissing(missing, f"Debian and Ubuntu: apt-get install {' '.join(packages)}")
    _say(f"installing {', '.join(packages)}")
    environment = {**environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], path, environment)
    _run(["apt-get", "install", "-qqy", "--no-install-recommends", *packages], path, environment)


def _prebuilt() -> Path:
    return CHECKOUT.parent / f"shared/e2e-cluster/kube-{KUBERNETES}-{_machine()}.xz"


def _provide_kubernetes(cache: Path, path: str, environ: Mapping[str, str]) -> None:
    prebuilt = _prebuilt()
    with _new_folder(cache) as folder:
        if prebuilt.exists():
            _say(f"unpacking {prebuilt.name}")
            with lzma.open(prebuilt) as packed, (folder / "kube").open("wb") as program:
                shutil.copyfileobj(packed, program, 1 << 20)
        else:
            _build_kubernetes(folder / "kube", path, environ)
        (folder / "kube").chmod(0o755)
        for link in LINKS:
            (folder / link).symlink_to("kube")


def _build_kubernetes(target: Path, path: str, environ: Mapping[str, str]) -> None:
    if shutil.which("go", path=path) is None:
        raise ToolsMissing(["go"], "install Go 1.24 or newer (https://go.dev/dl) to build it")
    _say(f"building Kubernetes {KUBERNETES} (about 10 minutes on 2 cores, once)")
    version = "k8s.io/component-base/version.git"
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    flags = f"-s -w -X {version}Version={KUBERNETES} -X {version}Major={major}"
    command = [
        *("go", "build", "-trimpath", "-o", str(target)),
        *(f"-ldflags={flags} -X {version}Minor={minor}", "."),
    ]
    _run(command, path, {**environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}, SOURCE)


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` at the end, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        draft.chmod(0o755)
        yield draft
        with contextlib.suppress(OSError):  # somebody else was faster: theirs is as good
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run(
    command: list[str],
    path: str,
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SetupFailed(command, done.returncode, done.stderr[-2000:])


def _say(message: str) -> None:
    sys.stderr.write(f"hack.local_cluster: {message}\n")
