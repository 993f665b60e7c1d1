"""The stage that scenarios on a real node share, and a place on it for each."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from e2e.fixtures import start_or_skip
from e2e.place import Place
from e2e.stage import Stage
from hack.local_cluster import Options
from hack.local_images import IMAGES, ImagesMissing, load
from scripts.chart_files import NoHelm, tools

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A node of its own with all images, and the operator installed from its chart."""
    try:
        helm = tools() / "helm"
    except NoHelm as exc:
        pytest.skip(str(exc))
    with start_or_skip("node", Options(logs=tmp_path_factory.mktemp("stage"))) as cluster:
        try:
            load(cluster, IMAGES)
        except ImagesMissing as exc:
            pytest.skip(str(exc))
        scene = Stage(cluster, helm)
        try:
            scene.install()
            yield scene
            cluster.check()
        finally:
            scene.close()


@pytest.fixture
def place(stage: Stage) -> Iterator[Place]:
    """A namespace with the example model on a volume."""
    name = f"scene-{secrets.token_hex(3)}"
    stage.kubectl("create", "namespace", name)
    place = Place(stage, stage.kubectl.within(name))
    place.put_checkpoint()
    try:
        yield place
    except BaseException:
        print(place.story())
        raise
    finally:
        stage.kubectl("delete", "namespace", name, "--wait=false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A scenario that fails shows what the cluster knew."""
    report = yield
    scene = item.funcargs.get("place") if isinstance(item, pytest.Function) else None
    if report.when == "call" and report.failed and isinstance(scene, Place):  # type: ignore[attr-defined]
        report.sections.append(("cluster", scene.story()))  # type: ignore[attr-defined]
    return report
