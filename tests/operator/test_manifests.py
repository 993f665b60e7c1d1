"""The sample manifests: the API server takes them, the operator reads them, the planner agrees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.local_cluster import Cluster, Kubectl
from llmjp_builder.planning.capacity import plan_capacity
from llmjp_builder.planning.fit import FitVerdict
from llmjp_builder.planning.gpus import find_gpu_type
from llmjp_builder.planning.models import SIZES, find_model_by_size
from llmjp_builder.planning.request import PlanRequest
from llmjp_operator.api import Spec, parse_model
from llmjp_operator.names import KIND
from tests.operator.conftest import Models
from tests.support.shared import ROOT

FOLDER = ROOT / "manifests"
SAMPLES = sorted(path for path in FOLDER.glob("llmjp-*.yaml"))
EXPECTED = {
    "llmjp-172b.yaml",
    "llmjp-172b-h200.yaml",
    "llmjp-13b.yaml",
    "llmjp-3.7b.yaml",
    "llmjp-1.8b.yaml",
    "llmjp-tiny-cpu.yaml",
    "llmjp-from-pvc.yaml",
}


def load(path: Path) -> dict[str, Any]:
    [loaded] = [o for o in yaml.safe_load_all(path.read_text("utf-8")) if o["kind"] == KIND]
    assert isinstance(loaded, dict)
    return loaded


def size_of(spec: Spec) -> str | None:
    """The llm-jp-3 size that the checkpoint is of."""
    source = spec.source
    hub, volume = source.hugging_face, source.persistent_volume_claim
    name = hub.repository if hub else volume.path if volume else ""
    return next((size for size in SIZES if f"-{size}-" in name), None)


def binary(quantity: str) -> int:
    """Bytes of a quantity in Gi or Ti."""
    return int(quantity[:-2]) << {"Gi": 30, "Ti": 40}[quantity[-2:]]


def test_the_samples_are_the_documented_ones() -> None:
    assert {path.name for path in SAMPLES} == EXPECTED


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_read(path: Path) -> None:
    assert parse_model(load(path)).name == path.stem.replace(".", "-")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_fits_its_gpus(path: Path) -> None:
    spec = parse_model(load(path)).spec
    size, product = size_of(spec), spec.hardware.gpu_product
    if size is None or product is None:
        assert path.name == "llmjp-tiny-cpu.yaml"
        return
    engine = spec.engine
    request = PlanRequest(
        gpus=(find_gpu_type(product),),
        tensor_parallel=engine.tensor_parallel,
        pipeline_parallel=engine.pipeline_parallel,
        dtype=engine.dtype,
        quantization=engine.quantization,
        kv_cache=engine.kv_cache,
        pad_intermediate=engine.pad_intermediate,
        max_seq_len=engine.max_seq_len,
        max_batch_size=engine.max_batch_size,
        gpus_per_node=spec.hardware.gpus_per_node,
    )
    planned = plan_capacity(find_model_by_size(size), request)
    [division], [gpu] = planned.divisions, planned.gpus
    [fit] = gpu.fits
    assert fit.verdict is FitVerdict.WORKS
    if spec.storage.size is not None:
        needs, source = division.build, division.build.source_disk_bytes
        kept = needs.checkpoint_disk_bytes + needs.engine_disk_bytes
        assert binary(spec.storage.size) >= source + spec.storage.keep_engines * kept


def examples() -> Iterator[Any]:
    """Every LlmJpModel in the documentation."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and document.get("kind") == KIND:
                    yield pytest.param(document, id=path.name)


@pytest.mark.cluster
@pytest.mark.parametrize("document", list(examples()))
def test_an_example_is_accepted(models: Models, document: Any) -> None:
    answer = models.create(document)
    assert answer.status == 201, answer.causes


@pytest.mark.cluster
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_accepted(cluster_with_crd: Cluster, namespace: Kubectl, path: Path) -> None:
    arguments = ("apply", "--server-side", "--dry-run=server", f"--filename={path}")
    assert "serverside-applied (server dry run)" in namespace(*arguments)
