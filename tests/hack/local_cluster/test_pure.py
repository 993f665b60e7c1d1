"""Plans, addresses, logs' reasons and images, without processes."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import lzma
import os
import tarfile
from itertools import combinations
from pathlib import Path

import pytest

from hack.local_cluster import ImageConfig, image_archive, layout, programs
from hack.local_cluster.cgroups import hierarchies
from hack.local_cluster.errors import SlotsTaken, ToolsMissing
from hack.local_cluster.kubectl import environment
from hack.local_cluster.network import Network
from hack.local_cluster.node_files import node_files
from hack.local_cluster.plan import Plan
from hack.local_cluster.programs import cache_folder, search_path
from hack.local_cluster.slot import SLOTS, Holder, free_folders, held_slots, take_slot
from hack.local_cluster.status import log_reason

FOLDER = Path("/state")


def node_plan(slot: int) -> Plan:
    return layout.node(
        Path("/kube"),
        folder=FOLDER,
        logs=FOLDER / "log",
        network=Network(slot),
        path="/bin",
        timeout_s=1,
    )


def control_plane_plan() -> Plan:
    return layout.control_plane(
        Path("/kube"), folder=FOLDER, logs=FOLDER / "log", port=7, path="/bin", timeout_s=1
    )


@pytest.mark.parametrize("plan", [control_plane_plan(), node_plan(3)])
def test_a_plan_travels_as_json(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("plan", [control_plane_plan(), node_plan(3)])
def test_components_wait_for_earlier_ones_only(plan: Plan) -> None:
    earlier: set[str] = set()
    for component in plan.components:
        assert set(component.after) <= earlier
        earlier.add(component.name)


def test_a_control_plane_needs_no_root() -> None:
    plan = control_plane_plan()
    assert not plan.isolated
    assert not plan.setup
    assert not plan.masks
    assert [component.name for component in plan.components] == [
        "etcd",
        "apiserver",
        "controller-manager",
    ]


def test_slots_share_no_address_device_or_cgroup() -> None:
    networks = [Network(number) for number in range(SLOTS)]
    subnets = [
        ipaddress.IPv4Network(subnet, strict=False)
        for network in networks
        for subnet in (f"{network.host}/30", network.services, network.pods)
    ]
    assert all(not one.overlaps(other) for one, other in combinations(subnets, 2))
    tests = ipaddress.IPv4Network("198.18.0.0/15")
    assert all(subnet.subnet_of(tests) for subnet in subnets)
    assert len({network.device for network in networks}) == SLOTS
    assert len({network.cgroup for network in networks}) == SLOTS
    assert all(len(network.device) <= 15 for network in networks)  # the kernel's limit


def test_a_nodes_files_name_its_own_network_and_cgroup() -> None:
    files = node_files(FOLDER, Network(5), Path("/plugins"))
    assert json.loads(files["kubelet.json"])["cgroupRoot"] == "/llmjp-cluster-5"
    assert json.loads(files["cni/10-llmjp.conflist"])["plugins"][0]["ipam"]["subnet"] == (
        "198.19.5.0/24"
    )
    assert 'bin_dir = "/plugins"' in files["containerd.toml"]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "it said nothing"),
        ("I1123 a\n\nlast\n", "last"),
        ('E1123 1 run.go:72] "command failed" err="x"\nI1123 later\n', '"command failed" err="x"'),
        ("Error: unknown flag: --x\nUsage:\n  etcd\n", "Error: unknown flag: --x"),
        ("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: boom"),
        ("E1123 1 a.go:1] bad\nI1123 1 a.go:2] fine\n", "bad"),
        ('{"level":"fatal","msg":"no port"}\n{"level":"warn"}\n', '"msg":"no port"'),
        ('time="x" level=error msg="old"\ncontainerd: cannot bind\n', "containerd: cannot bind"),
    ],
)
def test_the_reason_is_picked_from_the_log(log: str, reason: str) -> None:
    assert reason in log_reason(log)


def test_a_long_reason_is_cut() -> None:
    assert len(log_reason("panic: " + "x" * 10_000)) < 600


def test_hierarchies_of_both_versions() -> None:
    mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    mounts += "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert hierarchies(mounts) == [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/unified")]


def test_environment_keeps_clusters_off_a_proxy() -> None:
    result = environment({"HTTPS_PROXY": "http://p", "NO_PROXY": "corp"})
    assert result["no_proxy"] == result["NO_PROXY"] == "corp,127.0.0.1,localhost,198.18.0.0/15"
    assert result["HTTPS_PROXY"] == "http://p"


def test_paths() -> None:
    assert search_path({"PATH": "/a:/usr/sbin"}) == "/a:/usr/sbin:/sbin"
    assert str(cache_folder({"HOME": "/h"})).startswith("/h/.cache/llmjp-serving/kube-v1.")
    assert str(cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/c"})).startswith("/c/llmjp-serving/")


def test_slots_are_exclusive_and_emptied(tmp_path: Path) -> None:
    first, second = take_slot(tmp_path), take_slot(tmp_path)
    assert first.folder != second.folder
    holder = Holder(pid=2, level="control-plane", detached=False)
    second.record(holder)
    assert held_slots(tmp_path) == {first.folder: None, second.folder: holder}
    (first.folder / "left").write_text("over", "utf-8")
    first.let_go()
    assert held_slots(tmp_path) == {second.folder: holder}
    assert free_folders(tmp_path) == [first.folder]
    again = take_slot(tmp_path)
    assert again.folder == first.folder
    assert not list(again.folder.iterdir())
    for slot in (second, again):
        slot.let_go()


def test_slots_run_out(tmp_path: Path) -> None:
    taken = [take_slot(tmp_path) for _ in range(SLOTS)]
    with pytest.raises(SlotsTaken, match=f"{SLOTS} clusters"):
        take_slot(tmp_path)
    for slot in taken:
        slot.let_go()


def test_equal_folders_give_equal_archives(tmp_path: Path) -> None:
    config = ImageConfig(entrypoint=("/run",), environment=("A=b",), user="1:1")
    archives: list[Path] = []
    for name in ("one", "two"):
        rootfs = tmp_path / name
        (rootfs / "etc").mkdir(parents=True)
        for file in ("run", "etc/x") if name == "one" else ("etc/x", "run"):
            (rootfs / file).write_text(file, "utf-8")
        (rootfs / "link").symlink_to("run")
        os.utime(rootfs / "run", (len(archives), len(archives)))
        archives.append(tmp_path / f"{name}.tar")
        image_archive(rootfs, "localhost/a:1", config, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "one.tar", "two.tar"}


def test_an_archive_is_an_image_layout(tmp_path: Path) -> None:
    rootfs = tmp_path / "root"
    rootfs.mkdir()
    (rootfs / "run").write_text("#!", "utf-8")
    archive = tmp_path / "a.tar"
    config = ImageConfig(entrypoint=("/run",), command=("x",), user="7:7")
    digest = image_archive(rootfs, "localhost/a:1", config, archive)
    with tarfile.open(archive) as tar:
        files = {
            info.name: content.read()
            for info in tar.getmembers()
            if (content := tar.extractfile(info)) is not None
        }
    blobs = {
        name.removeprefix("blobs/sha256/"): data for name, data in files.items() if "/" in name
    }
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"] == {"io.containerd.image.name": "localhost/a:1"}
    manifest = json.loads(blobs[digest.removeprefix("sha256:")])
    described = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert described["config"]["Entrypoint"] == ["/run"]
    assert described["config"]["User"] == "7:7"
    assert described["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]


def test_what_is_missing_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "CHECKOUT", tmp_path / "checkout")  # no folder beside it
    monkeypatch.setattr(programs, "missing_tools", lambda _level, _path: [])
    environ = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr(programs, "search_path", lambda environ: environ["PATH"])
    with pytest.raises(
        ToolsMissing, match=r"Kubernetes v1.*run: python -m hack.local_cluster install"
    ):
        programs.install("control-plane", environ, build=False)
    with pytest.raises(ToolsMissing, match=r"not on this machine: go; install Go"):
        programs.install("control-plane", environ)
    assert not list((tmp_path / "cache" / "llmjp-serving").iterdir())  # no half of it either


def test_a_prebuilt_program_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(programs, "missing_tools", lambda _level, _path: [])
    environ = {"PATH": "/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    folder = tmp_path / "shared" / "e2e-cluster"
    folder.mkdir(parents=True)
    name = f"{programs.cache_folder(environ).name}.xz"
    (folder / name).write_bytes(lzma.compress(b"#!/bin/sh\n"))
    found = programs.install("control-plane", environ)
    assert found.cni is None
    for link in programs.LINKS:
        assert os.access(found.kube / link, os.X_OK)
        assert (found.kube / link).read_bytes() == b"#!/bin/sh\n"
    (folder / name).unlink()
    assert programs.install("control-plane", environ) == found
