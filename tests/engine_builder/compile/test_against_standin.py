"""Our rules against the stand-in's, which were written apart from them: they always agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llmjp_builder.compile.command_line import render_command
from llmjp_builder.compile.option_table import OPTIONS, SetBy
from llmjp_builder.compile.options import CompileOptions, decide_options
from llmjp_builder.contracts.spec import BuildSpec, Scalar
from tests.engine_builder.compile.samples import A100, BF16, H100, L40S, spec
from tests.support.shared import shared
from tests.support.trtllm_build.arguments import parser
from tests.support.trtllm_build.engine_config import Outcome, outcome

if TYPE_CHECKING:
    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.model import CompilerModel

QUIET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def _values(name: str) -> st.SearchStrategy[Scalar]:
    option = OPTIONS[name]
    match option.form:
        case "int":
            return st.sampled_from([1, 8, 16, 32, 64, 100, 128, 4096, 8192, 20000])
        case "flag":
            return st.booleans()
        case "switch" | "choice":
            return st.sampled_from(option.choices)
        case "text":
            raise AssertionError(name)


@st.composite
def specs(draw: st.DrawFn) -> BuildSpec:
    names = [option.name for option in OPTIONS.values() if option.set_by is SetBy.SPEC]
    chosen = draw(st.lists(st.sampled_from(names), max_size=4, unique=True))
    limit = st.one_of(st.none(), st.sampled_from([1, 2, 32, 64, 512, 4096, 8192]))
    return spec(
        options={name: draw(_values(name)) for name in chosen},
        max_batch_size=draw(limit),
        max_input_len=draw(limit),
        max_seq_len=draw(limit),
    )


models = st.builds(
    lambda tp, pp, weights, kv: replace(
        BF16, tensor_parallel=tp, pipeline_parallel=pp, weights_fp8=weights, kv_fp8=weights and kv
    ),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.booleans(),
)
gpus = st.sampled_from([H100, L40S, A100])


def document(model: CompilerModel) -> dict[str, Any]:
    return {
        "architecture": "LlamaForCausalLM", "dtype": model.dtype, "head_size": model.head_size,
        "max_position_embeddings": model.max_positions, "rotary_scaling": None,
        "mapping": {"world_size": model.world, "tp_size": model.tensor_parallel,
                    "pp_size": model.pipeline_parallel},
        "quantization": {"quant_algo": "FP8" if model.weights_fp8 else None,
                         "kv_cache_quant_algo": "FP8" if model.kv_fp8 else None},
    }  # fmt: skip


def standin_outcome(options: CompileOptions, model: CompilerModel, gpu: Gpu) -> Outcome:
    arguments = render_command(Path("p"), options, checkpoint=Path("/c"), num_workers=1)[1:]
    recording = shared("trtllm-golden") / "trtllm_build_args_1.3.0rc3.json"
    parsed = parser(recording).parse_args(list(arguments))
    return outcome(parsed, document(model), sm=gpu.sm, version="1.2.1")


@QUIET
@given(wanted=specs(), model=models, gpu=gpus)
def test_what_we_pass_is_what_the_engine_gets(
    wanted: BuildSpec, model: CompilerModel, gpu: Gpu
) -> None:
    options = decide_options(wanted, model, gpu)
    assume(not any(found.refusal for found in options.findings))
    result = standin_outcome(options, model, gpu)
    silent = [w for w in result.warnings if not w.startswith("max_seq_len")]
    assert silent == [], "nothing that we pass is overridden"
    build = result.document["build_config"]
    got = {**build, **build["plugin_config"]}
    for name, value in options.values.items():
        if name == "fast_build":
            assert got["manage_weights"] is True
        elif name != "logits_dtype":
            found = got[name]
            match OPTIONS[name].form:
                case "switch":
                    assert (value == "enable") == found, name
                case "choice" if value == "disable":
                    assert found is None, name
                case _:
                    assert value == found, name


@QUIET
@given(wanted=specs(), model=models, gpu=gpus)
def test_asking_for_what_it_came_to_changes_nothing(
    wanted: BuildSpec, model: CompilerModel, gpu: Gpu
) -> None:
    options = decide_options(wanted, model, gpu)
    assume(not any(found.refusal for found in options.findings))
    fields = {
        name: value for name, value in options.values.items() if OPTIONS[name].set_by is SetBy.FIELD
    }
    rest = {
        name: value for name, value in options.values.items() if OPTIONS[name].set_by is SetBy.SPEC
    }
    again = decide_options(spec(options=rest, **fields), model, gpu)
    again.require_accepted()
    assert again.values == options.values


@QUIET
@given(wanted=specs(), model=models, gpu=gpus)
def test_what_was_asked_for_is_given_or_spoken_of(
    wanted: BuildSpec, model: CompilerModel, gpu: Gpu
) -> None:
    options = decide_options(wanted, model, gpu)
    spoken = {found.option for found in options.findings}
    for name, value in wanted.options.items():
        given_value = options.values.get(name, OPTIONS[name].default)
        same = given_value == value or (name == "gemm_plugin" and given_value == "auto")
        deduced = name in {"opt_num_tokens", "gpt_attention_plugin"}
        assert same or deduced or name in spoken, name
