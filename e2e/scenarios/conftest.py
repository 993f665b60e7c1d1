"""The installation that scenarios on a real node share, and a namespace in it for each."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from e2e.fixtures import start_or_skip
from e2e.harness.installation import Installation
from e2e.harness.namespace import ModelNamespace
from hack.local_cluster import Options
from hack.local_images import IMAGES, ImagesMissing, load
from scripts.chart_files import NoHelm, find_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A node of its own with all images, and the operator installed from its chart."""
    try:
        helm = find_tools() / "helm"
    except NoHelm as exc:
        pytest.skip(str(exc))
    with start_or_skip("node", Options(logs=tmp_path_factory.mktemp("installation"))) as cluster:
        try:
            load(cluster, IMAGES)
        except ImagesMissing as exc:
            pytest.skip(str(exc))
        installed = Installation(cluster, helm)
        try:
            installed.install()
            yield installed
            cluster.check()
        finally:
            installed.close()


@pytest.fixture
def models(installation: Installation) -> Iterator[ModelNamespace]:
    """A namespace with the example model on a volume."""
    name = f"scenario-{secrets.token_hex(3)}"
    installation.kubectl("create", "namespace", name)
    models = ModelNamespace(installation, installation.kubectl.within(name))
    models.put_checkpoint()
    try:
        yield models
    except BaseException:
        print(models.collect_diagnostics())
        raise
    finally:
        installation.kubectl("delete", "namespace", name, "--wait=false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A scenario that fails shows what the cluster knew."""
    report = yield
    used = item.funcargs.get("models") if isinstance(item, pytest.Function) else None
    if report.when == "call" and report.failed and isinstance(used, ModelNamespace):  # type: ignore[attr-defined]
        report.sections.append(("cluster", used.collect_diagnostics()))  # type: ignore[attr-defined]
    return report
