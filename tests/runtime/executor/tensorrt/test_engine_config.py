"""An engine's config.json, real and spoilt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmjp_runtime.errors import ArtefactInvalid, OptionInvalid, UnsupportedModel
from llmjp_runtime.executor.protocol import ExecutorLimits
from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
from tests.support.engine import engine_config
from tests.support.shared import shared


def written(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("recording", ["bf16", "fp8"])
def test_a_real_engines_config(tmp_path: Path, recording: str) -> None:
    path = shared("trtllm-golden") / f"engine_config_{recording}_tp2.json"
    assert EngineConfig.load(written(tmp_path, json.loads(path.read_text()))) == EngineConfig(
        version="1.2.1",
        tensor_parallel=2,
        pipeline_parallel=1,
        vocab_size=101,
        max_batch_size=8,
        max_seq_len=128,
        max_num_tokens=512,
        paged_context=True,
    )


def test_a_prompt_read_in_chunks_may_fill_the_context(tmp_path: Path) -> None:
    config = engine_config(max_seq_len=4096, max_num_tokens=1024)
    assert EngineConfig.load(written(tmp_path, config)).max_prompt == 4095


def test_a_prompt_read_at_once_must_fit_one_step(tmp_path: Path) -> None:
    config = engine_config(max_seq_len=4096, max_num_tokens=1024, use_paged_context_fmha=False)
    assert EngineConfig.load(written(tmp_path, config)).max_prompt == 1024


def test_the_world_is_tp_times_pp(tmp_path: Path) -> None:
    assert EngineConfig.load(written(tmp_path, engine_config(tp=4, pp=2))).world_size == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"remove_input_padding": False}, "without remove_input_padding"),
        ({"paged_kv_cache": False}, "without a paged KV cache"),
    ],
)
def test_an_engine_that_cannot_batch_in_flight_is_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        EngineConfig.load(written(tmp_path, engine_config(**change)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c.pop("version"), "has no 'version'"),
        (lambda c: c["build_config"].pop("max_seq_len"), "has no 'max_seq_len'"),
        (lambda c: c["build_config"].update(max_batch_size="8"), "a count is expected"),
        (lambda c: c["build_config"].update(max_batch_size=0), "a count is expected"),
        (lambda c: c["build_config"].update(max_batch_size=True), "a count is expected"),
        (lambda c: c.update(pretrained_config=[]), "cannot be read"),
        (lambda c: c["build_config"].update(plugin_config=None), "cannot be read"),
    ],
)
def test_a_malformed_config_is_named(tmp_path: Path, spoil: Any, says: str) -> None:
    config = engine_config()
    spoil(config)
    with pytest.raises(ArtefactInvalid, match=says) as caught:
        EngineConfig.load(written(tmp_path, config))
    assert "config.json" in str(caught.value)


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(ArtefactInvalid, match="build the engine again"):
        EngineConfig.load(tmp_path)


def test_settings_narrow_the_engines_limits(tmp_path: Path) -> None:
    engine = EngineConfig.load(written(tmp_path, engine_config()))
    assert engine.narrow_limits(None, None) == ExecutorLimits(
        max_context=512, vocab_size=4096, max_batch_size=8
    )
    assert engine.narrow_limits(2, 100) == ExecutorLimits(
        max_context=100, vocab_size=4096, max_batch_size=2
    )


@pytest.mark.parametrize("asked", [(9, None), (0, None), (None, 513), (None, 0)])
def test_settings_beyond_the_engines_limits(
    tmp_path: Path, asked: tuple[int | None, int | None]
) -> None:
    engine = EngineConfig.load(written(tmp_path, engine_config()))
    with pytest.raises(OptionInvalid, match="the engine was built for 1 to"):
        engine.narrow_limits(*asked)
