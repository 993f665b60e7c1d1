"""The rendered model repository, read back by Triton's own protobuf."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from llmjp_runtime.front.repository import (
    ENSEMBLE_NAME,
    MODEL_NAME,
    SETTINGS_PARAMETER,
    render_repository,
    write_repository,
)
from llmjp_runtime.front.tensors import INPUTS, OUTPUTS
from llmjp_runtime.settings import SamplingDefaults, ServingSettings

SETTINGS = ServingSettings(
    artefact=Path('/store/artefacts/日本 "x"'),
    defaults=SamplingDefaults(temperature=0.5),
    max_context=100,
)


def parsed(name: str) -> model_config_pb2.ModelConfig:
    text = render_repository(SETTINGS)[f"{name}/config.pbtxt"]
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_settings_survive_the_way_through_the_config() -> None:
    parameter = parsed(MODEL_NAME).parameters[SETTINGS_PARAMETER].string_value
    assert ServingSettings.from_json(parameter) == SETTINGS


def test_both_models_declare_every_tensor() -> None:
    for name in (MODEL_NAME, ENSEMBLE_NAME):
        config = parsed(name)
        assert config.name == name
        assert config.model_transaction_policy.decoupled
        assert config.max_batch_size == 1
        assert [each.name for each in config.input] == [spec.name for spec in INPUTS]
        assert all(each.optional for each in config.input)
        assert [each.name for each in config.output] == [spec.name for spec in OUTPUTS]
        types = {model_config_pb2.DataType.Name(each.data_type) for each in config.input}
        assert "TYPE_INVALID" not in types


def test_names_are_unique() -> None:
    for specs in (INPUTS, OUTPUTS):
        names = [spec.name for spec in specs]
        assert len(names) == len(set(names))


def test_files_land_where_triton_looks(tmp_path: Path) -> None:
    write_repository(render_repository(SETTINGS), tmp_path)
    for name in (MODEL_NAME, ENSEMBLE_NAME):
        assert (tmp_path / name / "config.pbtxt").is_file()
        assert "TritonPythonModel" in (tmp_path / name / "1" / "model.py").read_text()
