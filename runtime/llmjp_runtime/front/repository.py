"""The Triton model repository, rendered at start from the serving settings.

It holds no weights and nothing that outlives the server: two `config.pbtxt` and two one-line
`model.py`, in a scratch folder; for an engine also the `config.pbtxt` of NVIDIA's model, which
reads the engine where it is. The field names are those of `model_config.proto`
(triton-inference-server/common, protobuf/model_config.proto).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_runtime.executor.tensorrt.model_config import (
    ENGINE_MODEL_NAME,
    render_engine_model_config,
)
from llmjp_runtime.front.tensors import INPUTS, MAX_BATCH_SIZE, OUTPUTS

if TYPE_CHECKING:
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig
    from llmjp_runtime.front.tensors import TensorSpec
    from llmjp_runtime.settings import ServingSettings

MODEL_NAME = "llmjp"
"""The front model: the model card's defaults, replies without the prompt."""
ENSEMBLE_NAME = "ensemble"
"""The same with NVIDIA's defaults, for clients written for NVIDIA's ensemble."""
SETTINGS_PARAMETER = "llmjp_settings"
"""Key in `parameters` of `config.pbtxt` that holds `ServingSettings.to_json()`."""


def _render_tensor(kind: str, spec: TensorSpec) -> str:
    dims = ", ".join(map(str, spec.dims))
    optional = " optional: true" if kind == "input" else ""
    return (
        f"{kind} {{ name: {json.dumps(spec.name)} data_type: TYPE_{spec.data_type} "
        f"dims: [ {dims} ]{optional} }}"
    )


def render_model_config(name: str, parameters: dict[str, str]) -> str:
    """Return the text of one model's `config.pbtxt`."""
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "python"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        "model_transaction_policy { decoupled: true }",
        "instance_group { count: 1 kind: KIND_CPU }",
    ]
    lines += [_render_tensor("input", spec) for spec in INPUTS]
    lines += [_render_tensor("output", spec) for spec in OUTPUTS]
    lines += [
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in sorted(parameters.items())
    ]
    return "\n".join(lines) + "\n"


def locate_model_file(root: Path, name: str) -> Path:
    """Return the path of a model's code, which Triton names in the command line of its process."""
    return root / name / "1" / "model.py"


def render_repository(
    settings: ServingSettings, engine: EngineConfig | None = None
) -> dict[str, str]:
    """Return the files as path and text; `engine` is for backend tensorrt."""
    told = {SETTINGS_PARAMETER: settings.to_json()}
    shim = "from llmjp_runtime.front.{module} import TritonPythonModel  # noqa: F401\n"
    files = {
        f"{MODEL_NAME}/config.pbtxt": render_model_config(MODEL_NAME, told),
        str(locate_model_file(Path(), MODEL_NAME)): shim.format(module="model"),
        f"{ENSEMBLE_NAME}/config.pbtxt": render_model_config(ENSEMBLE_NAME, told),
        str(locate_model_file(Path(), ENSEMBLE_NAME)): shim.format(module="ensemble"),
    }
    if engine is not None:
        pbtxt = render_engine_model_config(engine, settings.artefact, settings.kv_cache_fraction)
        files[f"{ENGINE_MODEL_NAME}/config.pbtxt"] = pbtxt
        # Triton loads no model without a folder for its version.
        files[f"{ENGINE_MODEL_NAME}/1/.keep"] = ""
    return files


def write_repository(files: dict[str, str], root: Path) -> None:
    """Write the files below `root`, which must exist and be empty."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
