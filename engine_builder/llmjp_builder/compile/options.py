"""From spec, model and GPU to the options of `trtllm-build`, and what to say of them. Pure.

The values are canonical: what has no effect is left out and what TensorRT-LLM would change is
changed here, so that specs that give the same engine give the same options, hence the same key.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.compile.draft import Draft, Finding
from llmjp_builder.compile.option_table import DISABLE, ENABLE, OPTIONS, Option, Who
from llmjp_builder.compile.rules import RULES
from llmjp_builder.contracts.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import EngineModel
    from llmjp_builder.contracts.spec import BuildSpec, Scalar

_FIELDS = ("max_batch_size", "max_input_len", "max_seq_len")

_NVSWITCH = {"NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"}
"""Products whose boards join up to 8 GPUs by NVSwitch."""
_NODE = 8
"""GPUs of such a board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """Options that are decided."""

    values: Mapping[str, Scalar]
    """What `trtllm-build` is given besides files and workers, by name, sorted."""
    reasons: Mapping[str, str]
    """Why the builder chose what the spec leaves open, by name."""
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing but no obstacle."""
        return tuple(str(finding) for finding in self.findings if finding.refusal is None)

    def require_accepted(self) -> None:
        """Nothing, if an engine can be built with these options.

        Raises:
            InvalidSpec, Unsupported, UnsupportedGpu: it cannot; all obstacles are named, and the
                first one decides the class.
        """
        refused = [finding for finding in self.findings if finding.refusal is not None]
        if refused and refused[0].refusal is not None:
            raise refused[0].refusal("; ".join(str(finding) for finding in refused))


def compile_options(spec: BuildSpec, model: EngineModel, gpu: Gpu) -> CompileOptions:
    """The options for `model` on `gpu` as `spec` wants them; nothing is raised (`findings`)."""
    asked, findings = _asked(spec)
    chosen = _defaults(model, gpu, asked)
    values: dict[str, Scalar] = {
        option.name: option.default
        for option in OPTIONS.values()
        if option.who in {Who.SPEC, Who.FIELD} and option.default is not None
    }
    values |= {name: value for name, (value, _) in chosen.items()} | asked
    draft = Draft(model, gpu, asked, values, findings)
    for rule in RULES:
        rule(draft)
    stated = {
        name: value
        for name, value in sorted(draft.values.items())
        if name in chosen or value != OPTIONS[name].default
    }
    return CompileOptions(
        values=stated,
        reasons={name: why for name, (_, why) in sorted(chosen.items()) if name not in asked},
        findings=tuple(draft.findings),
    )


def _defaults(
    model: EngineModel, gpu: Gpu, asked: Mapping[str, Scalar]
) -> dict[str, tuple[Scalar, str]]:
    """What the builder states even where `trtllm-build` has a default, each with the reason.

    After docs/source/legacy/performance and examples/models/core/llama of TensorRT-LLM.
    """
    fp8 = model.weights_fp8
    profiles = fp8 and "opt_num_tokens" not in asked
    fusion = fp8 and 1 < model.world <= _NODE and _one_board(model, gpu)
    return {
        "context_fmha": (ENABLE, "fused attention is faster and needs less memory"),
        "gemm_plugin": (DISABLE, "for FP8, TensorRT's own kernels are faster than the plugin's")
        if fp8
        else ("auto", "for weights that are not quantised, cuBLASLt's kernels are faster"),
        "kv_cache_type": ("paged", "in-flight batching needs it"),
        "max_batch_size": (128, "2048 would reserve memory for batches that no KV cache holds"),
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
        if fusion and asked.get("reduce_fusion", ENABLE) == ENABLE
        else (DISABLE, "it only works together with reduce_fusion"),
    }


def _one_board(model: EngineModel, gpu: Gpu) -> bool:
    return model.pipeline_parallel == 1 and gpu.product in _NVSWITCH


def _asked(spec: BuildSpec) -> tuple[dict[str, Scalar], list[Finding]]:
    """The options that the spec sets, parsed; what cannot be set is left out, with a finding."""
    asked: dict[str, Scalar] = {}
    for name in _FIELDS:
        if (value := getattr(spec, name)) is not None:
            asked[name] = value
    findings: list[Finding] = []
    for name in sorted(spec.options):
        option = OPTIONS.get(name)
        if option is None:
            findings.append(Finding(name, _unknown(name), InvalidSpec))
        elif (obstacle := _obstacle(option)) is not None:
            findings.append(obstacle)
        elif (parsed := _parsed(option, spec.options[name])) is None:
            reason = f"{spec.options[name]!r} is no value for it; expected {_expected(option)}"
            findings.append(Finding(name, reason, InvalidSpec))
        else:
            asked[name] = parsed
    return asked, findings


def _obstacle(option: Option) -> Finding | None:
    match option.who:
        case Who.SPEC:
            return None
        case Who.FIELD:
            reason = f"give it as the spec's own field {option.name}, not among the options"
            return Finding(option.name, reason, InvalidSpec)
        case Who.BUILDER:
            return Finding(option.name, "the builder sets it; leave it out", InvalidSpec)
        case Who.NOBODY:
            return Finding(option.name, f"not available: {option.why}; leave it out", InvalidSpec)
        case Who.INERT:
            return Finding(option.name, f"has no effect and is left out: {option.why}")


def _unknown(name: str) -> str:
    for option in OPTIONS.values():
        if name in option.aliases:
            return f"only its other name is accepted: {option.name}"
    bare = name.strip("-").replace("-", "_").lower()
    known = [option.name for option in OPTIONS.values() if option.who in {Who.SPEC, Who.FIELD}]
    close = difflib.get_close_matches(bare, known, n=1)
    return f"trtllm-build has no such option{f'; did you mean {close[0]}?' if close else ''}"


def _parsed(option: Option, value: Scalar) -> Scalar | None:
    """The value in its one form; YAML's true and false stand for enable and disable as well."""
    match option.form:
        case "int":
            return value if type(value) is int and value >= _least(option) else None
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


def _expected(option: Option) -> str:
    match option.form:
        case "int":
            return f"an integer of at least {_least(option)}"
        case "flag":
            return "true or false"
        case "switch" | "choice":
            return ", ".join(option.choices)
        case "text":
            return "a text"


def _least(option: Option) -> int:
    """What is off by default may be 0; everything else counts something that must exist."""
    return 0 if option.default == 0 else 1
