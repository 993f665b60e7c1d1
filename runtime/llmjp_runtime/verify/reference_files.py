"""The reference's tensors: found by name in its safetensors files, checked, read one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_runtime.executor.torch.checkpoint import open_tensors
from llmjp_runtime.verify.errors import ReferenceInvalid
from llmjp_runtime.verify.reference_config import read_object, read_reference_config

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import LlamaConfig

EMBEDDING, FINAL_NORM, LM_HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFiles:
    """A Hugging Face folder whose headers agree with its config."""

    folder: Path
    config: LlamaConfig
    files: dict[str, Path]
    """Path by name of tensor."""
    dtypes: frozenset[str]
    """Types that the tensors are stored in: float32, bfloat16, float16."""

    @classmethod
    def open(cls, folder: Path) -> ReferenceFiles:
        """Read config.json and every header; no weights.

        Raises:
            ReferenceInvalid: a file or tensor is missing, damaged, of wrong shape or dtype.
            ReferenceUnsupported: see `read_reference_config`.
            ArtefactInvalid: a safetensors file cannot be read or is damaged.
        """
        config = read_reference_config(folder / "config.json")
        files = _list_files(folder)
        dtypes = set()
        expected = list_parameter_shapes(config)
        if missing := sorted(expected.keys() - files.keys()):
            raise ReferenceInvalid(f"{folder}: lacks {missing[0]} ({len(missing)} are missing)")
        for path in sorted(set(files.values())):
            with open_tensors(path) as tensors:
                held = set(tensors.keys())
                for name in sorted(n for n in expected if files[n] == path):
                    if name not in held:
                        raise ReferenceInvalid(f"{path}: lacks {name}, which {_INDEX} says it has")
                    stored = tensors.get_slice(name)
                    _check(path, name, tuple(stored.get_shape()), expected[name])
                    if (dtype := _DTYPES.get(stored.get_dtype())) is None:
                        raise ReferenceInvalid(f"{path}: {name} is {stored.get_dtype()}")
                    dtypes.add(dtype)
        return cls(folder=folder, config=config, files=files, dtypes=frozenset(dtypes))

    def read(self, name: str) -> torch.Tensor:
        """Read a tensor as it is stored, on the CPU."""
        with open_tensors(self.files[name]) as tensors:
            stored: torch.Tensor = tensors.get_tensor(name)
            return stored


def _check(path: Path, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ReferenceInvalid(f"{path}: {name} has shape {found}, config.json implies {expected}")


def _list_files(folder: Path) -> dict[str, Path]:
    index = folder / _INDEX
    if not index.is_file():
        path = folder / _SINGLE
        with open_tensors(path) as tensors:
            return dict.fromkeys(tensors.keys(), path)
    placed = read_object(index).get("weight_map")
    if not isinstance(placed, dict) or not all(
        isinstance(file, str) and file and "/" not in file for file in placed.values()
    ):
        raise ReferenceInvalid(f"{index}: weight_map must name a file of this folder per tensor")
    return {name: folder / file for name, file in placed.items()}


def list_parameter_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter that transformers' model has, without making one."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if config.tie_word_embeddings:
        shapes.pop(LM_HEAD, None)
    return shapes
