"""Whole compilations, with the stand-in in the place of `trtllm-build`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from llmjp_builder.compile import compile_engine, decide_engine_inputs
from llmjp_builder.compile import gpu as gpu_module
from llmjp_builder.compile.gpu import Gpu
from llmjp_builder.compile.timing_cache import locate_timing_cache
from llmjp_builder.contracts.errors import (
    AccessDenied,
    BuilderError,
    CheckpointRejected,
    CompileFailed,
    CompileKilled,
    CompilerMissing,
    CompileTimedOut,
    GpuMissing,
    InvalidSpec,
    MissingFile,
    NotEnoughDisk,
    NotEnoughGpuMemory,
    NotEnoughHostMemory,
    UnsupportedGpu,
    UnsupportedRequest,
    VersionMismatch,
)
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.progress import Reporter
from tests.engine_builder.compile.processes import new_mark, wait_for_count
from tests.engine_builder.compile.rank_files import drop, rewritten
from tests.engine_builder.compile.samples import H100, VERSIONS, spec
from tests.support.shared import shared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmjp_builder.compile.engine import EngineResult
    from llmjp_builder.contracts.spec import BuildSpec, Progress

pytestmark = pytest.mark.usefixtures("standin")

TWO = replace(H100, count=2)


@dataclass
class Place:
    """Where a test compiles."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "work" / "key"

    @property
    def cache(self) -> Path:
        return locate_timing_cache(self.root / "timing-caches", H100, VERSIONS)

    @property
    def log(self) -> Path:
        return self.root / "logs" / "key.log"

    def compile(
        self,
        case: str | Path,
        *,
        gpu: Gpu = H100,
        wanted: BuildSpec | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        time_limit_s: float | None = 60,
    ) -> EngineResult:
        checkpoint = shared("trtllm-golden") / case / "ckpt" if isinstance(case, str) else case
        return compile_engine(
            checkpoint,
            self.out,
            spec=wanted or spec(),
            gpu=gpu,
            versions=VERSIONS,
            timing_caches=self.root / "timing-caches",
            log=self.log,
            on_progress=on_progress,
            time_limit_s=time_limit_s,
        )

    def assert_nothing_left(self) -> None:
        assert list(self.out.iterdir()) == []
        assert [path.name for path in self.out.parent.iterdir()] == ["key"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.out.mkdir(parents=True)
    return place


def config_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return document


@pytest.mark.parametrize(
    ("case", "gpu", "world"),
    [
        ("bf16_tp1", H100, 1),
        ("bf16_tp2", H100, 2),
        ("bf16_tp4_kvdup", TWO, 4),
        ("bf16_tp2_parallel_emb1", H100, 2),
        ("fp16_from_fp32_auto_tp2", H100, 2),
        ("fp8_tp2", TWO, 2),
        ("fp8_tp2_nokv", H100, 2),
        ("fp8_tp2pp2", H100, 4),
    ],
)
def test_goldens_compile(place: Place, case: str, gpu: Gpu, world: int) -> None:
    values: list[Progress] = []
    result = place.compile(case, gpu=gpu, on_progress=values.append)
    engines = [f"rank{rank}.engine" for rank in range(world)]
    assert sorted(path.name for path in place.out.iterdir()) == sorted(["config.json", *engines])
    assert result.files == tuple(sorted(["config.json", *engines]))
    assert result.bytes_per_rank == tuple((place.out / name).stat().st_size for name in engines)
    assert [path.name for path in place.out.parent.iterdir()] == ["key"]
    percents = [value.percent for value in values]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert f"{world} ranks, {gpu.count} GPUs" in values[0].message
    assert "Total time of building all engines" in place.log.read_text()


def test_the_engine_has_what_the_key_says_and_no_path_of_this_machine(place: Place) -> None:
    wanted = spec(max_batch_size=8, max_seq_len=96, options={"tokens_per_block": 64})
    result = place.compile("fp8_tp2", wanted=wanted)
    document = config_of(shared("trtllm-golden") / "fp8_tp2" / "ckpt")
    inputs = decide_engine_inputs(document, wanted, TWO, VERSIONS)
    assert inputs.options == result.options.values
    build = config_of(place.out)["build_config"]
    assert (build["max_batch_size"], build["max_seq_len"]) == (8, 96)
    assert build["plugin_config"]["tokens_per_block"] == 64
    assert str(place.root) not in (place.out / "config.json").read_text()
    assert '"/' not in (place.out / "config.json").read_text()


def test_our_own_conversion_compiles(place: Place) -> None:
    checkpoint = place.root / "checkpoint"
    prepared = prepare_ranks(
        shared("trtllm-golden") / "bf16_tp2" / "hf",
        LayoutOptions(tensor_parallel=2, embedding_sharding_dim=0),
    )
    convert_checkpoint(prepared, checkpoint, Reporter(None))
    result = place.compile(checkpoint)
    assert len(result.bytes_per_rank) == 2
    assert "[W] Provided" not in place.log.read_text()


FAILURES: dict[str, tuple[type[BuilderError], str]] = {
    "gpu_memory": (NotEnoughGpuMemory, "tensor_parallel"),
    "gpu_memory_of_torch": (NotEnoughGpuMemory, "20.00 GiB"),
    "host_memory": (NotEnoughHostMemory, "std::bad_alloc"),
    "disk": (NotEnoughDisk, "No space left on device"),
    "permission": (AccessDenied, "Permission denied"),
    "unsupported_gpu": (UnsupportedGpu, "SM 130"),
    "no_gpu": (GpuMissing, "No CUDA GPUs"),
    "driver": (VersionMismatch, "driver version is insufficient"),
    "terminated": (CompileKilled, "SIGTERM"),
    "crash": (CompileFailed, "SIGSEGV"),
    "unknown": (CompileFailed, "something that nobody has seen before"),
    "no_engine": (CompileFailed, "exit status 0"),
    "no_key": (CompileFailed, "tokens_per_block is missing"),
    "other_layout": (CompileFailed, "tp_size is 3, but 2 was requested"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures(place: Place, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, says = FAILURES[failure]
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", failure)
    with pytest.raises(BuilderError) as raised:
        place.compile("bf16_tp2")
    assert type(raised.value) is kind, raised.value
    assert says in str(raised.value)
    place.assert_nothing_left()
    assert place.log.stat().st_size > 0


@pytest.mark.parametrize("failure", ["gpu_memory_of_torch", "disk"])
def test_failures_of_ranks_built_at_once(
    place: Place, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", failure)
    monkeypatch.setenv("LLMJP_STANDIN_GPUS", "2")
    with pytest.raises(FAILURES[failure][0]):
        place.compile("bf16_tp2", gpu=TWO)
    place.assert_nothing_left()


def test_a_worker_killed_for_memory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "killed")
    monkeypatch.setenv("LLMJP_STANDIN_GPUS", "2")
    with pytest.raises(NotEnoughHostMemory, match="terminated abruptly"):
        place.compile("bf16_tp2", gpu=TWO)


@pytest.mark.parametrize(
    ("failure", "kind"), [("host_memory_kill", NotEnoughHostMemory), ("killed", CompileKilled)]
)
def test_the_kernel_says_whether_it_killed(
    place: Place, failure: str, kind: type[BuilderError], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = place.root / "memory.events"
    events.write_text("oom 0\noom_kill 0\n")
    monkeypatch.setattr(gpu_module, "CGROUP", place.root)
    monkeypatch.setenv("LLMJP_STANDIN_MEMORY_EVENTS", str(events))
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", failure)
    with pytest.raises(BuilderError) as raised:
        place.compile("bf16_tp1")
    assert type(raised.value) is kind
    place.assert_nothing_left()


def test_time_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = new_mark()
    monkeypatch.setenv(*mark.split("=", 1))
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "hang")
    monkeypatch.setenv("LLMJP_STANDIN_GPUS", "2")
    with pytest.raises(CompileTimedOut, match="after 1 s"):
        place.compile("bf16_tp2", gpu=TWO, time_limit_s=1)
    wait_for_count(mark, 0)
    place.assert_nothing_left()


def test_cancellation(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = new_mark()
    monkeypatch.setenv(*mark.split("=", 1))
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "hang")

    def cancel_when_it_works(value: Progress) -> None:
        if value.percent > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.compile("bf16_tp2", on_progress=cancel_when_it_works)
    wait_for_count(mark, 0)
    place.assert_nothing_left()


def test_the_timing_cache_is_handed_on(place: Place, tmp_path_factory: Any) -> None:
    place.compile("bf16_tp2")
    assert place.cache.read_text() == "1"
    assert "1 timings" in (place.out / "rank1.engine").read_text(), "rank 1 reads what 0 measured"
    again = Place(place.root)
    for path in place.out.iterdir():
        path.unlink()
    again.compile("bf16_tp2", gpu=TWO)
    assert place.cache.read_text() == "2"
    assert "1 timings" in (place.out / "rank1.engine").read_text()


def test_the_timing_cache_of_a_failed_run_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "no_engine")
    with pytest.raises(CompileFailed):
        place.compile("bf16_tp2")
    assert place.cache.read_text() == "1"


def test_another_version_than_detected(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMJP_STANDIN_VERSION", "1.2.0")
    with pytest.raises(VersionMismatch, match=r"built by TensorRT-LLM 1\.2\.0, but 1\.2\.1"):
        place.compile("bf16_tp1")
    place.assert_nothing_left()


def test_a_checkpoint_that_tensorrt_llm_refuses(place: Place) -> None:
    source = shared("trtllm-golden") / "fp8_tp1" / "ckpt"
    checkpoint = place.root / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_bytes((source / "config.json").read_bytes())
    name = "transformer.layers.1.attention.kv_cache_scaling_factor"
    rewritten(source, checkpoint, drop(name))
    with pytest.raises(CheckpointRejected, match="Required but not provided") as raised:
        place.compile(checkpoint)
    assert name in str(raised.value)


def test_refused_before_anything_starts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "hang")
    with pytest.raises(InvalidSpec, match="gemm_plugin"):
        place.compile("bf16_tp1", wanted=spec(options={"gemm_plugin": "fp8"}))
    with pytest.raises(UnsupportedRequest, match="intermediate_size is 24 per rank"):
        place.compile("fp8_tp4_kvdup")
    with pytest.raises(NotEnoughGpuMemory, match="NVIDIA-H100"):
        place.compile("bf16_tp1", gpu=replace(H100, memory_bytes=1000))
    with pytest.raises(MissingFile):
        place.compile(place.root / "nowhere")
    place.assert_nothing_left()
    assert not place.log.exists()


def test_no_compiler(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    with pytest.raises(CompilerMissing, match=r"NVIDIA's image"):
        place.compile("bf16_tp1")
    place.assert_nothing_left()


def test_too_little_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("llmjp_builder.store.files.shutil.disk_usage", lambda _: usage)
    with pytest.raises(NotEnoughDisk, match="1,000 bytes are free"):
        place.compile("bf16_tp1")
