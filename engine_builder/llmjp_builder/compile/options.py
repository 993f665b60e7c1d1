"""Options of `trtllm-build`, decided from spec, model and GPU, with findings. Pure.

The values are canonical: options without effect are left out, and values that TensorRT-LLM would
change are changed here, so specs that give the same engine have the same options and the same key.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.compile.option_review import OptionFinding, OptionReview
from llmjp_builder.compile.option_table import DISABLE, ENABLE, OPTIONS, Option, SetBy
from llmjp_builder.compile.rules import RULES
from llmjp_builder.contracts.defaults import ENGINE_BATCH_SIZE
from llmjp_builder.contracts.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import CompilerModel
    from llmjp_builder.contracts.spec import BuildSpec, Scalar

_FIELDS = ("max_batch_size", "max_input_len", "max_seq_len")

_NVSWITCH = {"NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"}
"""Products whose boards join up to 8 GPUs by NVSwitch."""
_NODE = 8
"""Number of GPUs on such a board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """Options as they were decided."""

    values: Mapping[str, Scalar]
    """Arguments of `trtllm-build` besides files and workers, sorted by name."""
    reasons: Mapping[str, str]
    """The builder's reason for each value that the spec leaves open, by option."""
    findings: tuple[OptionFinding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Findings that do not prevent a build."""
        return tuple(str(finding) for finding in self.findings if finding.refusal is None)

    def require_accepted(self) -> None:
        """Raise unless an engine can be built with these options.

        Raises:
            InvalidSpec, UnsupportedRequest, UnsupportedGpu: it cannot; the message names every
                obstacle, and the first one decides the class.
        """
        refused = [finding for finding in self.findings if finding.refusal is not None]
        if refused and refused[0].refusal is not None:
            raise refused[0].refusal("; ".join(str(finding) for finding in refused))


def decide_options(spec: BuildSpec, model: CompilerModel, gpu: Gpu) -> CompileOptions:
    """Decide the options for `model` on `gpu`; problems are reported in `findings`, not raised."""
    requested, findings = _parse_requested(spec)
    chosen = _choose_defaults(model, gpu, requested)
    values: dict[str, Scalar] = {
        option.name: option.default
        for option in OPTIONS.values()
        if option.set_by in {SetBy.SPEC, SetBy.FIELD} and option.default is not None
    }
    values |= {name: value for name, (value, _) in chosen.items()} | requested
    review = OptionReview(model, gpu, requested, values, findings)
    for rule in RULES:
        rule(review)
    stated = {
        name: value
        for name, value in sorted(review.values.items())
        if name in chosen or value != OPTIONS[name].default
    }
    return CompileOptions(
        values=stated,
        reasons={name: why for name, (_, why) in sorted(chosen.items()) if name not in requested},
        findings=tuple(review.findings),
    )


def _choose_defaults(
    model: CompilerModel, gpu: Gpu, requested: Mapping[str, Scalar]
) -> dict[str, tuple[Scalar, str]]:
    """Return the options that the builder always gives, each with value and reason.

    After docs/source/legacy/performance and examples/models/core/llama of TensorRT-LLM.
    """
    fp8 = model.weights_fp8
    profiles = fp8 and "opt_num_tokens" not in requested
    fusion = fp8 and 1 < model.world <= _NODE and _is_one_board(model, gpu)
    return {
        "context_fmha": (ENABLE, "fused attention is faster and needs less memory"),
        "gemm_plugin": (DISABLE, "for FP8, TensorRT's own kernels are faster than the plugin's")
        if fp8
        else ("auto", "for weights that are not quantised, cuBLASLt's kernels are faster"),
        "kv_cache_type": ("paged", "in-flight batching needs it"),
        "max_batch_size": (
            ENGINE_BATCH_SIZE,
            "2048 would reserve memory for batches that no KV cache holds",
        ),
        "max_beam_width": (1, "sampling needs no beams"),
        "max_num_tokens": (8192, "upstream's advice to start from"),
        "max_seq_len": (model.max_positions, "the model's whole context"),
        "multiple_profiles": (ENABLE, "TensorRT picks FP8 kernels for small and large batches")
        if profiles
        else (DISABLE, "the GEMM plugin or opt_num_tokens decides; one profile builds faster"),
        "reduce_fusion": (ENABLE, "measured faster for FP8 on boards with NVSwitch")
        if fusion
        else (
            DISABLE,
            "it is known to pay only for FP8 and several GPUs of one H100 or H200 board",
        ),
        "remove_input_padding": (ENABLE, "in-flight batching needs it"),
        "use_fp8_context_fmha": (
            ENABLE if fp8 and model.kv_fp8 else DISABLE,
            "follows the KV cache",
        ),
        "use_paged_context_fmha": (ENABLE, "reuse of the KV cache and chunked context need it"),
        "user_buffer": (ENABLE, "measured faster for FP8 together with reduce_fusion")
        if fusion and requested.get("reduce_fusion", ENABLE) == ENABLE
        else (DISABLE, "it only works together with reduce_fusion"),
    }


def _is_one_board(model: CompilerModel, gpu: Gpu) -> bool:
    return model.pipeline_parallel == 1 and gpu.product in _NVSWITCH


def _parse_requested(spec: BuildSpec) -> tuple[dict[str, Scalar], list[OptionFinding]]:
    """Return the options that the spec sets, parsed, and a finding for each that it cannot set."""
    requested: dict[str, Scalar] = {}
    for name in _FIELDS:
        if (value := getattr(spec, name)) is not None:
            requested[name] = value
    findings: list[OptionFinding] = []
    for name in sorted(spec.options):
        option = OPTIONS.get(name)
        if option is None:
            findings.append(OptionFinding(name, _describe_unknown(name), InvalidSpec))
        elif (obstacle := _find_obstacle(option)) is not None:
            findings.append(obstacle)
        elif (parsed := _parse_value(option, spec.options[name])) is None:
            expected = _describe_expected(option)
            reason = f"{spec.options[name]!r} is not a valid value; expected {expected}"
            findings.append(OptionFinding(name, reason, InvalidSpec))
        else:
            requested[name] = parsed
    return requested, findings


def _find_obstacle(option: Option) -> OptionFinding | None:
    match option.set_by:
        case SetBy.SPEC:
            return None
        case SetBy.FIELD:
            reason = f"set the spec's field {option.name} instead of an option"
            return OptionFinding(option.name, reason, InvalidSpec)
        case SetBy.BUILDER:
            return OptionFinding(option.name, "the builder sets it; leave it out", InvalidSpec)
        case SetBy.NOBODY:
            reason = f"not available: {option.why}; leave it out"
            return OptionFinding(option.name, reason, InvalidSpec)
        case SetBy.INERT:
            return OptionFinding(option.name, f"has no effect and is left out: {option.why}")


def _describe_unknown(name: str) -> str:
    for option in OPTIONS.values():
        if name in option.aliases:
            return f"use its other name, {option.name}"
    bare = name.strip("-").replace("-", "_").lower()
    known = [
        option.name for option in OPTIONS.values() if option.set_by in {SetBy.SPEC, SetBy.FIELD}
    ]
    close = difflib.get_close_matches(bare, known, n=1)
    return f"trtllm-build has no such option{f'; did you mean {close[0]}?' if close else ''}"


def _parse_value(option: Option, value: Scalar) -> Scalar | None:
    """Return the value in its canonical form; None if it is invalid.

    YAML reads `on` and `off` as booleans, so a switch takes true and false as well.
    """
    match option.form:
        case "int":
            return value if type(value) is int and value >= _get_minimum(option) else None
        case "flag":
            return value if type(value) is bool else None
        case "switch":
            if type(value) is bool:
                return ENABLE if value else DISABLE
            return value if value in option.choices else None
        case "choice":
            return value if type(value) is str and value in option.choices else None
        case "text":
            return value if type(value) is str else None


def _describe_expected(option: Option) -> str:
    match option.form:
        case "int":
            return f"an integer of at least {_get_minimum(option)}"
        case "flag":
            return "true or false"
        case "switch" | "choice":
            return ", ".join(option.choices)
        case "text":
            return "a string"


def _get_minimum(option: Option) -> int:
    """Return 0 for options that are off by default, else 1: they count things that must exist."""
    return 0 if option.default == 0 else 1
