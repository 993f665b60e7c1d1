"""files/check.py, which `helm test` runs, against a real API server and an operator's answers."""

from __future__ import annotations

import base64
import importlib.util
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

from hack.local_cluster import Kubectl
from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import CRD
from scripts.chart_files import CHART
from tests.charts.charts import Chart
from tests.support.shared import ROOT

SCRIPT = ROOT / CHART / "files/check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A port where every question is answered by that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"because")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def operator(port: int) -> dict[str, str]:
    return {
        "LLMJP_SERVICE": "my-operator",
        "LLMJP_SERVICE_PORT": str(port),
        "MY_OPERATOR_SERVICE_HOST": "127.0.0.1",
    }


def test_an_operator_that_is_ready(check: ModuleType) -> None:
    with answering(200) as port:
        assert check.operator_problems(operator(port)) == []


def test_an_operator_that_is_not_ready(check: ModuleType) -> None:
    with answering(503) as port:
        [problem] = check.operator_problems(operator(port))
    assert problem == f"http://127.0.0.1:{port}/readyz: HTTP 503: because"


def test_an_operator_that_is_not_there(check: ModuleType) -> None:
    with answering(200) as port:
        pass
    [problem] = check.operator_problems(operator(port))
    assert problem.endswith("is the operator running?")


def test_a_pod_knows_the_service_by_its_name_without_the_variables(check: ModuleType) -> None:
    environ = {"LLMJP_SERVICE": "localhost", "LLMJP_SERVICE_PORT": "1"}
    [problem] = check.operator_problems(environ)
    assert problem.startswith("http://localhost:1/readyz: ")


@pytest.fixture
def pod(place: Kubectl, tmp_path: Path) -> tuple[dict[str, str], Path]:
    """What a pod of that namespace's default ServiceAccount is given: environment and files."""
    [entry] = json.loads(place("config", "view", "--raw", "--output=json"))["clusters"]
    cluster = entry["cluster"]
    authority = cluster.get("certificate-authority-data")
    text = (
        base64.b64decode(authority)
        if authority
        else Path(cluster["certificate-authority"]).read_bytes()
    )
    (tmp_path / "ca.crt").write_bytes(text)
    (tmp_path / "token").write_text(place("create", "token", "default"), "utf-8")
    url = urlsplit(cluster["server"])
    environ = {
        "KUBERNETES_SERVICE_HOST": url.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(url.port),
    }
    return environ, tmp_path


@pytest.mark.cluster
def test_the_api(check: ModuleType, place: Kubectl, pod: tuple[dict[str, str], Path]) -> None:
    [problem] = check.api_problems(*pod)
    assert problem.endswith("HTTP 404; is the CRD installed?")

    place.apply(build_definition())
    try:
        place.wait(f"crd/{CRD}", "condition=Established")
        assert check.api_problems(*pod) == []
    finally:
        place("delete", "crd", CRD)


def test_a_pod_runs_it_as_it_is(chart: Chart) -> None:
    pod = chart.one("Pod")
    [container] = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    [text] = container["args"]
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines == SCRIPT.read_text("utf-8").splitlines()
    names = {entry["name"] for entry in container["env"]}
    assert names == {"LLMJP_SERVICE", "LLMJP_SERVICE_PORT"}
