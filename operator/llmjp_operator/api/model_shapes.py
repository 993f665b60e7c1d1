"""Shapes of the llm-jp-3 models, and the tensor parallelism that they allow. Pure.

Only what the API server can check by a repository's name; the checkpoint itself decides later.
Shapes: config.json of the llm-jp repositories on huggingface.co, and
megatron_configs of github.com/llm-jp/instruct3 for 150m, 980m and 7.2b. A test holds the result
against the converter's own check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmjp_builder.contracts.defaults import FP8_MULTIPLE

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions that decide how a model is divided."""

    heads: int
    """Attention heads."""
    kv_heads: int
    """Key-value heads; fewer than `heads` where several queries share one."""
    intermediate: int
    """Width of the MLP."""

    @property
    def tensor_parallel(self) -> tuple[int, ...]:
        """Every division into equal ranks, in ascending order."""
        return tuple(
            tp
            for tp in range(1, self.heads + 1)
            if self.heads % tp == 0
            and self.intermediate % tp == 0
            and (self.kv_heads % tp == 0 or tp % self.kv_heads == 0)
        )

    @property
    def fp8_tensor_parallel(self) -> tuple[int, ...]:
        """Divisions whose MLP width per rank suits FP8 without padding."""
        return tuple(
            tp for tp in self.tensor_parallel if self.intermediate // tp % FP8_MULTIPLE == 0
        )


SHAPES: Final[Mapping[str, Shape]] = {
    "150m": Shape(8, 8, 2048),
    "440m": Shape(8, 8, 3584),
    "980m": Shape(8, 8, 5376),
    "1.8b": Shape(16, 16, 7168),
    "3.7b": Shape(24, 24, 8192),
    "7.2b": Shape(32, 32, 11008),
    "13b": Shape(40, 40, 13824),
    "172b": Shape(96, 16, 38464),
}
"""By size, as repositories spell it."""


def build_repository_pattern(size: str) -> str:
    """Return a regular expression for the dense llm-jp-3 and 3.1 repositories of that size.

    Copies under other owners may have been changed; the checkpoint decides on them.
    """
    return f"^llm-jp/llm-jp-3(\\.1)?-{size.replace('.', '[.]')}(-.*)?$"
