"""config.pbtxt of the C++ model, read back by Triton's own protobuf."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
from llmjp_runtime.executor.tensorrt.messages import OUTPUT_NAMES
from llmjp_runtime.executor.tensorrt.model_config import render_engine_model_config
from llmjp_runtime.executor.tensorrt.tensors import ENGINE_INPUTS, ENGINE_OUTPUTS

ENGINE = EngineConfig(
    version="1.2.1",
    tensor_parallel=4,
    pipeline_parallel=2,
    vocab_size=99584,
    max_batch_size=64,
    max_seq_len=4096,
    max_num_tokens=8192,
    paged_context=True,
)
FOLDER = Path('/store/artefacts/日本 "x"')
BOOLEANS = {"enable_kv_cache_reuse", "enable_chunked_context", "exclude_input_in_output"}


def parsed(engine: EngineConfig = ENGINE, fraction: float = 0.9) -> model_config_pb2.ModelConfig:
    text = render_engine_model_config(engine, FOLDER, fraction)
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def parameters(config: model_config_pb2.ModelConfig) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_the_model_is_nvidias() -> None:
    config = parsed()
    assert (config.name, config.backend) == ("tensorrt_llm", "tensorrtllm")
    assert config.model_transaction_policy.decoupled
    assert config.max_batch_size == 64
    assert list(config.dynamic_batching.preferred_batch_size) == [64]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 0
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_CPU)


def test_keys_that_must_exist_do() -> None:
    found = parameters(parsed())
    assert found["gpt_model_type"] == "inflight_fused_batching"
    assert found["gpt_model_path"] == str(FOLDER)
    assert found["FORCE_CPU_ONLY_INPUT_TENSORS"] == "no"
    for key in ("tokenizer_dir", "xgrammar_tokenizer_info_path", "guided_decoding_backend"):
        assert found[key] == ""


def test_nothing_is_left_of_nvidias_template() -> None:
    assert not any("${" in value for value in parameters(parsed()).values())


def test_booleans_are_of_the_words_the_backend_reads() -> None:
    found = parameters(parsed())
    assert {found[key] for key in (*BOOLEANS, "normalize_log_probs")} <= {"true", "false"}


@pytest.mark.parametrize("fraction", [0.9, 0.35])
def test_the_kv_cache_takes_its_fraction(fraction: float) -> None:
    assert (
        float(parameters(parsed(fraction=fraction))["kv_cache_free_gpu_mem_fraction"]) == fraction
    )


def test_chunks_and_reuse_need_paged_context() -> None:
    found = parameters(parsed(replace(ENGINE, paged_context=False)))
    assert found["enable_chunked_context"] == found["enable_kv_cache_reuse"] == "false"


def test_every_tensor_is_declared_as_in_the_table() -> None:
    config = parsed()
    for declared, table in ((config.input, ENGINE_INPUTS), (config.output, ENGINE_OUTPUTS)):
        assert [each.name for each in declared] == [each.name for each in table]
        for found, spec in zip(declared, table, strict=True):
            kind = model_config_pb2.DataType.Name(found.data_type)
            assert (kind, tuple(found.dims)) == (f"TYPE_{spec.data_type}", spec.dims)
            assert found.HasField("reshape") == spec.scalar
    assert [each.name for each in config.input if not each.optional] == [
        "input_lengths",
        "request_output_len",
    ]


def test_names_are_unique_and_what_is_asked_for_exists() -> None:
    for table in (ENGINE_INPUTS, ENGINE_OUTPUTS):
        names = [each.name for each in table]
        assert len(names) == len(set(names))
    assert set(OUTPUT_NAMES) <= {each.name for each in ENGINE_OUTPUTS}
