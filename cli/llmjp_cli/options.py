"""The options that several commands share, each written once: flag, range, default, help.

What a dataclass of another part declares (layout, plan request, serving settings) takes type and
default from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from llmjp_builder.contracts.defaults import ENGINE_BATCH_SIZE, GRPC_PORT
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_cli.option_groups import OptionGroup

# Input and output.

SourceFolder = Annotated[
    Path, typer.Argument(metavar="SRC", help="Folder of a Hugging Face checkpoint.")
]
OutputFolder = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder to create; must not exist.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TerminationMessage = Annotated[
    Path | None,
    typer.Option(
        envvar="LLMJP_TERMINATION_MESSAGE",
        help="File for a JSON object with the result, or with the reason of a failure.",
    ),
]

# How a checkpoint is laid out.

_TP_HELP = "Ranks that share every layer (tensor parallel)."
_PP_HELP = "Stages that divide the layers (pipeline parallel)."
LAYOUT = OptionGroup(
    {
        "tensor_parallel": typer.Option("--tp", min=1, help=_TP_HELP),
        "pipeline_parallel": typer.Option("--pp", min=1, help=_PP_HELP),
        "dtype": typer.Option(
            help="Element type; auto keeps the checkpoint's, but float32 becomes float16."
        ),
        "embedding_sharding_dim": typer.Option(
            min=0,
            max=1,
            show_default="not divided",
            help="Divide the embedding table over the ranks: 0 by vocabulary, 1 by hidden size.",
        ),
        "quantization": typer.Option(
            help="fp8: the decoder's linear layers in FP8, with one scale per tensor."
        ),
        "kv_cache": typer.Option(help="fp8: keys and values in FP8; auto: in the element type."),
        "pad_intermediate": typer.Option(
            min=0,
            metavar="MULTIPLE",
            help="Pad each rank's MLP width with zeros to a multiple of this, such as 16 for FP8. "
            "0 refuses widths that FP8 GEMMs may not support; 1 accepts any.",
        ),
    }
)
Layout = Annotated[LayoutOptions, LAYOUT]
UnifiedLayout = Annotated[LayoutOptions, LAYOUT.select("kv_cache", "dtype")]

# FP8 scales of activations.


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """The source of the largest activations."""

    activation_amax: Path | None = None
    calibration: Path | None = None


Calibration = Annotated[
    CalibrationOptions,
    OptionGroup(
        {
            "activation_amax": typer.Option(
                show_default="calibrate",
                help="JSON file with the largest activations by module; skips calibration.",
            ),
            "calibration": typer.Option(
                show_default="built-in Japanese texts",
                help="UTF-8 text file to calibrate FP8 scales on: passages, separated by lines of "
                "%% or, if there are none, by blank lines.",
            ),
        }
    ),
]

# Options of trtllm-build.


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options that only backend tensorrt reads."""

    max_batch_size: int | None = None
    max_input_len: int | None = None
    max_seq_len: int | None = None
    options: list[str] | None = None
    compile_limit_s: float | None = None


ENGINE = OptionGroup(
    {
        "max_batch_size": typer.Option(
            min=1,
            show_default=str(ENGINE_BATCH_SIZE),
            help="tensorrt: maximum requests per batch.",
        ),
        "max_input_len": typer.Option(
            min=1, show_default="the compiler's", help="tensorrt: maximum tokens of a prompt."
        ),
        "max_seq_len": typer.Option(
            min=1,
            show_default="the model's context",
            help="tensorrt: maximum tokens of prompt and reply together.",
        ),
        "options": typer.Option(
            "--option",
            metavar="NAME=VALUE",
            help="tensorrt: another option of trtllm-build; may be repeated.",
        ),
        "compile_limit_s": typer.Option(
            "--compile-limit",
            min=1,
            metavar="SECONDS",
            show_default="none",
            help="tensorrt: how long trtllm-build may take.",
        ),
    }
)
Engine = Annotated[EngineOptions, ENGINE]

# Where a checkpoint comes from.


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options of a source on a hub."""

    revision: str | None = None
    accepted_licence: str | None = None
    token_file: Path | None = None
    endpoint: str | None = None
    ca_file: Path | None = None

    def read_token(self) -> str | None:
        """Return the token in the file; None where no file is given."""
        from llmjp_builder.sources.hub import read_token

        return None if self.token_file is None else read_token(self.token_file)


SOURCE = OptionGroup(
    {
        "revision": typer.Option(
            show_default="the default branch", help="Branch, tag or commit of the repository."
        ),
        "accepted_licence": typer.Option(
            "--accept-licence",
            metavar="ID",
            help="Accept the model's own terms, if it has any, by their id.",
        ),
        "token_file": typer.Option(
            show_default="HF_TOKEN, or what `hf auth login` wrote",
            help="File with an access token, for private and gated repositories.",
        ),
        "endpoint": typer.Option(
            show_default="HF_ENDPOINT, or huggingface.co", help="Address of the hub."
        ),
        "ca_file": typer.Option(
            envvar="LLMJP_CA_FILE",
            show_default="the public ones only",
            help="PEM file of authorities to trust besides the public ones, for a private hub.",
        ),
    }
)
HubSource = Annotated[SourceOptions, SOURCE]

# Where the cluster is.

Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", show_default="the context's", help="Namespace of the models."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """A cluster, and the credentials for it."""

    kubeconfig: Path | None = None
    context: str | None = None


Cluster = Annotated[
    ClusterOptions,
    OptionGroup(
        {
            "kubeconfig": typer.Option(
                show_default="$KUBECONFIG, a pod's own credentials, or ~/.kube/config",
                help="File with the credentials for the cluster.",
            ),
            "context": typer.Option(
                show_default="the current one", help="Context of the kubeconfig."
            ),
        }
    ),
]

# Which endpoint, and how it generates.


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """An endpoint, and how to reach it."""

    endpoint: str = f"localhost:{GRPC_PORT}"
    tls_ca: Path | None = None
    tls_name: str | None = None
    model: str = "llmjp"
    timeout: float = 600.0


Endpoint = Annotated[
    EndpointOptions,
    OptionGroup(
        {
            "endpoint": typer.Option(
                envvar="LLMJP_ENDPOINT", help="host:port of the gRPC port; grpcs:// for TLS."
            ),
            "tls_ca": typer.Option(
                envvar="LLMJP_TLS_CA",
                exists=True,
                dir_okay=False,
                help="PEM file of the authority to trust; implies TLS.",
            ),
            "tls_name": typer.Option(
                help="Name in the server's certificate, if not the endpoint's host; implies TLS."
            ),
            "model": typer.Option(help="Name of the model at the endpoint."),
            "timeout": typer.Option(min=0.001, help="Seconds that a reply may take."),
        }
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Options of one reply; None keeps the server's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: list[str] | None = None


_MAX_TOKENS = typer.Option(help="Maximum tokens to generate.")
MaxTokens = Annotated[int | None, _MAX_TOKENS]
Generation = Annotated[
    GenerationOptions,
    OptionGroup(
        {
            "max_tokens": _MAX_TOKENS,
            "temperature": typer.Option(help="0 is greedy."),
            "top_p": typer.Option(help="Probability mass to sample from (nucleus)."),
            "top_k": typer.Option(help="Tokens to sample from; 1 is greedy."),
            "seed": typer.Option(
                help="Fixes the draws: in float32 the same seed gives the same reply."
            ),
            "stop": typer.Option(help="End before this string; may be repeated."),
        }
    ),
]
