"""Values that the tests of this folder share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmjp_builder.compile.gpu import Gpu
from llmjp_builder.compile.model import CompilerModel
from llmjp_builder.compile.versions import Versions
from llmjp_builder.contracts.spec import Backend, BuildSpec, Source

VERSIONS = Versions(tensorrt_llm="1.2.1", tensorrt="10.14.1.48")
H100 = Gpu(product="NVIDIA-H100-80GB-HBM3", compute_capability="9.0", memory_bytes=80 << 30)
L40S = Gpu(product="NVIDIA-L40S", compute_capability="8.9", memory_bytes=46 << 30)
A100 = Gpu(product="NVIDIA-A100-SXM4-80GB", compute_capability="8.0", memory_bytes=80 << 30)
T4 = Gpu(product="Tesla-T4", compute_capability="7.5", memory_bytes=15 << 30)

BF16 = CompilerModel(
    dtype="bfloat16",
    weights_fp8=False,
    kv_fp8=False,
    tensor_parallel=1,
    pipeline_parallel=1,
    max_positions=4096,
    hidden_size=2048,
    intermediate_size=7168,
    num_heads=16,
    num_kv_heads=16,
    head_size=128,
)
"""llm-jp-3-1.8b."""
FP8 = replace(BF16, weights_fp8=True, kv_fp8=True)
FP8_172B_TP8 = replace(
    FP8, tensor_parallel=8, hidden_size=12288, intermediate_size=38464, num_heads=96
)


def spec(**fields: Any) -> BuildSpec:
    """A spec for backend tensorrt."""
    return BuildSpec(source=Source(path="/models/m"), backend=Backend.TENSORRT, **fields)
