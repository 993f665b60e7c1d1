"""Backend tensorrt on two pretend GPUs, with the stand-ins of hack/local_images/stand_in.

Everything of ours is real: the build Job, its GPUs, the options of `trtllm-build`, the artefact,
the rollout under mpirun, Triton and the front model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from e2e.harness.namespace import ANSWER, QUESTION
from llmjp_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster

H100 = "NVIDIA-H100-80GB-HBM3"
FAILURES = (
    # what the stand-in does (tests/support/trtllm_build/failures.py), how it is told, retryable
    ("gpu_memory", "not_enough_gpu_memory", False),
    ("disk", "not_enough_disk", True),
    ("unsupported_gpu", "unsupported_gpu", False),
    ("driver", "version_mismatch", False),
    ("terminated", "compile_killed", True),
    ("unknown", "compile_failed", False),
    ("permission", "not_permitted", False),
    ("host_memory", "not_enough_host_memory", False),
)
"""No two neighbours have one code."""


@pytest.fixture
def gpus(models: ModelNamespace) -> Iterator[None]:
    """The node shows 4 H100."""
    models.installation.cluster.pretend_gpus(4, product=H100, compute_capability="9.0")
    yield
    models.installation.cluster.pretend_gpus(0, product=H100, compute_capability="9.0")


def engine(models: ModelNamespace, **changes: Any) -> dict[str, Any]:
    wanted = {"backend": "tensorrt", "tensorParallel": 2, "maxBatchSize": 8, "maxSeqLen": 512}
    return models.render_example(engine=wanted, hardware={"gpuProduct": H100}, **changes)


@pytest.mark.usefixtures("gpus")
def test_an_engine_is_built_and_served_on_two_gpus(models: ModelNamespace) -> None:
    models.apply(engine(models))
    status = models.wait_for_phase("Serving")
    assert status["engine"]["computeCapability"] == "9.0"
    assert status["engine"]["trtllmVersion"] == "1.2.1"

    # Compiling and serving each had two GPUs, of the kind that was asked for; converting had none.
    builds = models.kubectl.get("pods", "--selector=app.kubernetes.io/component=build")["items"]
    steps = {step: pod for pod in builds for step in list_arguments(pod)}
    assert "nvidia.com/gpu" not in steps["--until"]["spec"]["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in steps["--until"]["spec"]
    [pod] = models.list_serving_pods()
    for one in (steps["--from-checkpoint"], pod):
        assert one["spec"]["nodeSelector"]["nvidia.com/gpu.product"] == H100
        assert one["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"

    with Client(models.get_address()) as client:
        reply = client.chat([{"role": "user", "content": QUESTION}], top_k=1)
        assert reply.text == ANSWER

    artefact = models.get_store_folder() / "artefacts" / status["engine"]["key"]
    assert {path.name for path in artefact.glob("*.engine")} == {"rank0.engine", "rank1.engine"}


def list_arguments(pod: dict[str, Any]) -> list[str]:
    arguments: list[str] = pod["spec"]["containers"][0]["args"]
    return arguments


@pytest.mark.usefixtures("gpus")
def test_every_class_of_compiler_failure_is_told(models: ModelNamespace) -> None:
    """One after another; each time the annotation asks for another attempt with nothing changed."""
    folder = models.installation.create_volume(models.kubectl, "llmjp-tiny-cpu-store")
    order = folder / ".stand-in-failure"
    for i, (failure, code, retryable) in enumerate(FAILURES):
        order.write_text(failure)
        if i == 0:
            models.kubectl.apply(engine(models, build={"backoffLimit": 0}))
        else:
            retry(models, failure)
        told = models.wait_for_failure(code)
        assert told["phase"] == "Failed"
        assert told["build"]["failure"]["step"] == "compile"
        assert told["build"]["failure"]["retryable"] is retryable
        condition = models.get_condition("EngineReady")
        assert condition["reason"] == "BuildFailed"
        assert f"({code})" in condition["message"]

    order.unlink()
    retry(models, "mended")
    models.wait_for_phase("Serving")


def retry(models: ModelNamespace, word: str) -> None:
    """Do what the condition tells people to do."""
    annotation = f"serving.llmjp.dev/retry={word}"
    models.kubectl("annotate", "--overwrite", "ljm/llmjp-tiny-cpu", annotation)


@pytest.mark.usefixtures("gpus")
def test_an_engine_for_another_gpu_never_reaches_a_pod(models: ModelNamespace) -> None:
    models.apply(engine(models))
    old = models.wait_for_phase("Serving")["engine"]["active"]

    # Nodes are replaced by newer ones, whose label says the same product.
    models.installation.cluster.pretend_gpus(4, product=H100, compute_capability="10.0")
    models.patch_spec("llmjp-tiny-cpu", {"engine": {"maxBatchSize": 4}})
    condition = models.wait_for_reason("EngineReady", "Incompatible")
    assert "compute capability 9.0" in condition["message"]
    assert "has 10.0" in condition["message"]
    status = models.get_status()
    assert status["engine"]["key"] != old
    assert keys_of_pods(models) == {old}
    assert (status["phase"], status["engine"]["active"]) == ("Degraded", old)

    # The right ones are back, and the rollout goes on by itself.
    models.installation.cluster.pretend_gpus(4, product=H100, compute_capability="9.0")
    status = models.wait_for_phase("Serving")
    assert status["engine"]["active"] == status["engine"]["key"] != old


def keys_of_pods(models: ModelNamespace) -> set[str]:
    """Return keys of the engines that pods serve, or will serve."""
    pods = models.list_serving_pods()
    return {pod["metadata"]["labels"]["serving.llmjp.dev/key"] for pod in pods}
