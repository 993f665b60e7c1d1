"""GPU products that plans know, as literals. Pure.

Memory is what `nvidia-smi` reports as memory.total, in public logs of each product (a collection:
https://github.com/modal-labs/modal-client/pull/2797). Products are values of the node label
nvidia.com/gpu.product: the driver's name with dashes for spaces. Compute capabilities:
https://developer.nvidia.com/cuda-gpus.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmjp_builder.contracts.errors import UnsupportedGpu

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuType:
    """A GPU product."""

    name: str
    products: tuple[str, ...]
    """Values of nvidia.com/gpu.product. Shared GPUs and slices have others, and less memory."""
    compute_capability: str
    memory_mib: int
    """Total memory as the driver reports it."""

    @property
    def usable_bytes(self) -> int:
        """Total memory in whole GiB, less one for the driver, CUDA context and allocator."""
        return (self.memory_mib // 1024 - 1) * _GIB

    @property
    def fp8(self) -> bool:
        """True from Ada (8.9) on, the first to multiply FP8 matrices."""
        major, _, minor = self.compute_capability.partition(".")
        return (int(major), int(minor)) >= (8, 9)


GPU_TYPES = (
    GpuType(name="L4", products=("NVIDIA-L4",), compute_capability="8.9", memory_mib=23034),
    GpuType(
        name="A10",
        products=("NVIDIA-A10", "NVIDIA-A10G"),
        compute_capability="8.6",
        memory_mib=23028,
    ),
    GpuType(
        name="A100-40GB",
        products=("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"),
        compute_capability="8.0",
        memory_mib=40960,
    ),
    GpuType(name="L40S", products=("NVIDIA-L40S",), compute_capability="8.9", memory_mib=46068),
    GpuType(
        name="A100-80GB",
        products=("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"),
        compute_capability="8.0",
        memory_mib=81920,
    ),
    GpuType(
        name="H100",
        products=("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"),
        compute_capability="9.0",
        memory_mib=81559,
    ),
    GpuType(
        name="H100-NVL", products=("NVIDIA-H100-NVL",), compute_capability="9.0", memory_mib=95830
    ),
    GpuType(
        name="H200",
        products=("NVIDIA-H200", "NVIDIA-H200-NVL"),
        compute_capability="9.0",
        memory_mib=143771,
    ),
    GpuType(name="B200", products=("NVIDIA-B200",), compute_capability="10.0", memory_mib=183359),
)
"""By memory, then by age."""


def find_gpu_type(name: str) -> GpuType:
    """Return the GPU with this name or product label, ignoring case.

    Raises:
        UnsupportedGpu: the table has no such GPU.
    """
    wanted = name.casefold()
    for gpu in GPU_TYPES:
        if wanted in {known.casefold() for known in (gpu.name, *gpu.products)}:
            return gpu
    known = ", ".join(gpu.name for gpu in GPU_TYPES)
    raise UnsupportedGpu(
        f"GPU {name}: unknown; expected one of {known}, or a value of nvidia.com/gpu.product"
    )
