"""Artefacts of kind engine, and a tritonserver whose backend `tensorrtllm` is the stand-in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from llmjp_builder.contracts.spec import (
    EngineInputs,
    FileRecord,
    KeyInputs,
    Kind,
    Manifest,
    to_pretty_json,
)
from llmjp_runtime.executor.tensorrt.model_config import ENGINE_BACKEND
from llmjp_runtime.server.installation import HOME_VARIABLE, find_triton, prepare_backends
from tests.support.shared import ROOT

STAND_IN = ROOT / "tests" / "support" / "tensorrt_llm_stand_in"


def engine_config(*, tp: int = 1, pp: int = 1, **changes: Any) -> dict[str, Any]:
    """config.json as `trtllm-build` writes it, in short; `changes` are to any section's values."""
    plugins = {
        "gpt_attention_plugin": "auto",
        "remove_input_padding": True,
        "paged_kv_cache": True,
        "tokens_per_block": 32,
        "context_fmha": True,
        "use_paged_context_fmha": True,
        "lora_plugin": None,
    }
    build = {
        "max_input_len": 256,
        "max_seq_len": 512,
        "max_batch_size": 8,
        "max_beam_width": 1,
        "max_num_tokens": 1024,
        "lora_config": {},
        "plugin_config": plugins,
    }
    model = {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "vocab_size": 4096,
        "mapping": {"world_size": tp * pp, "tp_size": tp, "pp_size": pp},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
    }
    for name, value in changes.items():
        section = next(each for each in (plugins, build, model) if name in each)
        section[name] = value
    return {"version": "1.2.1", "pretrained_config": model, "build_config": build}


def engine_artefact(
    ranks: Path, folder: Path, *, tp: int = 1, broken: bool = False, **changes: Any
) -> Path:
    """An artefact of kind engine in `folder`, which the stand-in runs from the artefact `ranks`.

    A broken one loads, and fails every request.
    """
    folder.mkdir(parents=True)
    checkpoint = json.loads((ranks / "config.json").read_text())
    config = engine_config(tp=tp, vocab_size=checkpoint["vocab_size"], **changes)
    (folder / "config.json").write_text(to_pretty_json(config))
    for rank in range(tp):
        stand_in = {"checkpoint": str(ranks), "broken": broken}
        (folder / f"rank{rank}.engine").write_text(json.dumps(stand_in))
    shutil.copytree(ranks / "tokenizer", folder / "tokenizer")
    manifest = Manifest.load(ranks)
    inputs = KeyInputs(
        kind=Kind.ENGINE,
        source_sha256=manifest.inputs.source_sha256,
        dtype=manifest.inputs.dtype,
        converter_revision=manifest.inputs.converter_revision,
        tensor_parallel=tp,
        engine=EngineInputs(
            options={},
            gpu_product="NVIDIA-H100-80GB-HBM3",
            compute_capability="9.0",
            tensorrt_llm="1.2.1",
            tensorrt="10.14.1.48",
        ),
    )
    files = {
        path.relative_to(folder).as_posix(): FileRecord(
            size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    made = Manifest(
        kind=Kind.ENGINE,
        key=inputs.key,
        inputs=inputs,
        files=files,
        bytes_per_rank=tuple(files[f"rank{rank}.engine"].size for rank in range(tp)),
        versions={},
        checkpoint_key=manifest.key,
    )
    (folder / "manifest.json").write_text(to_pretty_json(made.to_json()))
    return folder


def stand_in_environment(folder: Path) -> dict[str, str]:
    """Environment of a tritonserver laid out as in NVIDIA's image, its C++ backend a stand-in."""
    installation = find_triton({})
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    home = folder / "tritonserver"
    # Copies: Triton wants the library of a backend in Python within the folder of backends.
    shutil.copytree(prepare_backends(installation, scratch), home / "backends")
    shutil.copytree(STAND_IN, home / "backends" / ENGINE_BACKEND)
    (home / "bin").mkdir()
    (home / "bin" / "tritonserver").symlink_to(installation.binary)
    libraries = [*map(str, installation.library_paths), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        HOME_VARIABLE: str(home),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
