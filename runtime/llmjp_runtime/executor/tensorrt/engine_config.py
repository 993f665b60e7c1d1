"""The parts of an engine's config.json that the runtime reads.

The file is written by `trtllm-build` (NVIDIA/TensorRT-LLM, tensorrt_llm/builder.py,
EngineConfig.to_dict): `version`, `pretrained_config`, `build_config`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from llmjp_runtime.errors import ArtefactInvalid, OptionInvalid, UnsupportedModel
from llmjp_runtime.executor.protocol import ExecutorLimits

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The limits that an engine was built with."""

    version: str
    """TensorRT-LLM's version; only the same one can run the engine."""
    tensor_parallel: int
    pipeline_parallel: int
    vocab_size: int
    max_batch_size: int
    max_seq_len: int
    """Prompt plus reply."""
    max_num_tokens: int
    """Ids that one step takes in, of all requests together."""
    paged_context: bool
    """Prompts may be prefilled in chunks, and a cached prefix reused."""

    @property
    def world_size(self) -> int:
        """Processes that run the engine, one GPU each."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def max_prompt(self) -> int:
        """Ids of a prompt, at most: a prompt that is not read in chunks must fit one step.

        `max_input_len` is no limit of engines with packed input, which are the only ones served
        (tensorrt_llm/builder.py, "max_input_len ... ignored").
        """
        longest = self.max_seq_len - 1
        return longest if self.paged_context else min(longest, self.max_num_tokens)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the configuration of the engine in `folder`.

        Raises:
            ArtefactInvalid: config.json is missing, malformed or lacks a value.
            UnsupportedModel: the engine cannot batch requests in flight.
        """
        path = folder / CONFIG_NAME
        try:
            parsed = cls._parse(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
            what = f"has no {exc}" if isinstance(exc, KeyError) else f"cannot be read: {exc}"
            raise ArtefactInvalid(f"{path} {what}: build the engine again") from exc
        config, problems = parsed
        if problems:
            raise UnsupportedModel(
                f"{path}: requests cannot be batched in flight, because the engine was built "
                f"{' and '.join(problems)}: build it with trtllm-build's defaults for both"
            )
        return config

    @classmethod
    def _parse(cls, value: Any) -> tuple[Self, list[str]]:
        """Return the configuration, and what keeps the engine from being served."""
        model, build = value["pretrained_config"], value["build_config"]
        plugins, mapping = build["plugin_config"], model["mapping"]
        config = cls(
            version=str(value["version"]),
            tensor_parallel=_parse_count(mapping, "tp_size"),
            pipeline_parallel=_parse_count(mapping, "pp_size"),
            vocab_size=_parse_count(model, "vocab_size"),
            max_batch_size=_parse_count(build, "max_batch_size"),
            max_seq_len=_parse_count(build, "max_seq_len"),
            max_num_tokens=_parse_count(build, "max_num_tokens"),
            paged_context=bool(plugins["use_paged_context_fmha"]),
        )
        needed = {
            "without remove_input_padding": plugins["remove_input_padding"],
            "without a paged KV cache": plugins["paged_kv_cache"],
        }
        return config, [name for name, there in needed.items() if not there]

    def narrow_limits(self, max_batch_size: int | None, max_context: int | None) -> ExecutorLimits:
        """Return the engine's limits, narrowed to the serving settings.

        Raises:
            OptionInvalid: a setting exceeds what the engine was built for.
        """
        return ExecutorLimits(
            max_context=_narrow("max_context", max_context, self.max_seq_len),
            vocab_size=self.vocab_size,
            max_batch_size=_narrow("max_batch_size", max_batch_size, self.max_batch_size),
        )


def _parse_count(section: dict[str, Any], key: str) -> int:
    number = section[key]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{key} is {number!r}, a count is expected")
    return number


def _narrow(name: str, asked: int | None, built: int) -> int:
    if asked is None:
        return built
    if not 1 <= asked <= built:
        raise OptionInvalid(f"{name} is {asked}, but the engine was built for 1 to {built}")
    return asked
