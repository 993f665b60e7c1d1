"""`python -m hack.local_cluster` as a person types it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hack.local_cluster import existing, install
from hack.local_cluster.__main__ import main
from hack.local_cluster.attached import left_running, require_level
from hack.local_cluster.errors import NotOurs, NotRunning, OtherLevelRunning, ToolsMissing

if TYPE_CHECKING:
    from hack.local_cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def without_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    if left_running(os.environ) is not None:
        pytest.skip("a cluster that somebody uses was left running by `up`")


@pytest.mark.usefixtures("without_kubeconfig")
def test_from_up_to_down(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        install("control-plane", os.environ, build=False)
    except ToolsMissing as exc:
        pytest.skip(str(exc))
    assert main(["up", "--level", "control-plane"]) == 0
    try:
        exports = capsys.readouterr().out
        assert main(["up", "--level", "control-plane"]) == 0  # the same one
        assert capsys.readouterr().out == exports
        assert main(["env"]) == 0
        assert capsys.readouterr().out == exports
        assert main(["up"]) == OtherLevelRunning.exit_code
        assert "down, then up again" in capsys.readouterr().err
        assert main(["status"]) == 0
        status = capsys.readouterr().out
        assert status.startswith("ok\n")
        assert re.search(r"^ +\d+ +\d+ MB  kube-apiserver$", status, re.MULTILINE)
    finally:
        assert main(["down"]) == 0
    found = re.search(r"KUBECONFIG=(\S+)", exports)
    assert found is not None
    assert not Path(found[1]).exists()
    assert main(["down"]) == NotRunning.exit_code
    assert main(["status"]) == NotRunning.exit_code
    assert "no cluster is up" in capsys.readouterr().err


def test_a_kubeconfig_is_taken_and_left_alone(
    control_plane: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    theirs = existing(os.environ)
    assert theirs is not None
    with theirs:
        require_level(theirs, "node")
        with pytest.raises(NotOurs):
            theirs.pretend_gpus(8, product="x", compute_capability="9.0")
    assert main(["up"]) == 0
    assert f"KUBECONFIG={control_plane.kubeconfig}\n" in capsys.readouterr().out
    assert control_plane.kubectl("get", "--raw=/readyz") == "ok"


def test_a_kubeconfig_that_does_not_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    try:
        install("control-plane", os.environ, build=False)
    except ToolsMissing as exc:
        pytest.skip(str(exc))
    assert main(["up"]) == NotRunning.exit_code
    error = capsys.readouterr().err
    assert "does not answer" in error
    assert error.count("\n") == 1
