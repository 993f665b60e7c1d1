"""Checkpoints of many kinds: planned, built and served, or refused at the first step.

There is nothing between: what `plan` and `resolve` take is built, and what is built is served, by
the executor `torch` in memory and the text room. What is refused is refused by all of them, before
a weight is hashed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from llmjp_builder.contracts.errors import BadConfig, BadTensors, BuilderError, UnsupportedRequest
from llmjp_builder.contracts.spec import Backend, BuildSpec, Source
from llmjp_builder.pipeline import build
from llmjp_builder.planning.capacity import plan_capacity
from llmjp_builder.planning.request import PlanRequest
from llmjp_builder.planning.source import read_model
from llmjp_builder.sources.pinning import pin_source
from llmjp_builder.sources.resolution import make_resolution
from llmjp_runtime.executor.protocol import GenerationRequest, RecordedEvents, SamplingParams
from llmjp_runtime.executor.torch.executor import TorchExecutor
from llmjp_runtime.text.messages import Message
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.engine_builder.checkpoints import Tiny, tree, write_checkpoint
from tests.engine_builder.contracts.judgement import scalings
from tests.engine_builder.test_tokenizer import REFUSED as REFUSED_TOKENIZERS
from tests.runtime.text import small_tokenizer, tokenizer_kinds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = Tiny(vocab=275)
Change = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A checkpoint, as a change of a plain one."""

    model: Tiny = MODEL
    config: Change = field(default_factory=dict)
    """Entries of config.json; a value of `...` removes one."""
    tokenizer: Callable[[Path], object] = small_tokenizer.write
    weights: Callable[[dict[str, Any]], object] | None = None
    options: Change = field(default_factory=dict)
    shards: int = 1

    def write(self, folder: Path) -> Path:
        """Write its files; the vocabulary is at least as large as the tokenizer's."""
        folder.mkdir()
        self.tokenizer(folder)
        model = replace(self.model, vocab=max(self.model.vocab, count_tokens(folder)))
        weights = model.weights()
        if self.weights is not None:
            self.weights(weights)
        write_checkpoint(folder, model, weights, shards=self.shards)
        config = {**model.config(), **self.config}
        kept = {key: value for key, value in config.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(kept))
        return folder


def count_tokens(folder: Path) -> int:
    try:
        return int(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size())
    except Exception:  # noqa: BLE001  one of those that are refused
        return 0


def kind(name: str) -> Callable[[Path], object]:
    return lambda folder: tokenizer_kinds.write(folder, name)


def files(**contents: Any) -> Callable[[Path], object]:
    return lambda folder: small_tokenizer.write(folder, **contents)


def template(source: str) -> Callable[[Path], object]:
    return files(tokenizer_config=small_tokenizer.config() | {"chat_template": source})


def own_code(folder: Path) -> None:
    own = {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}
    small_tokenizer.write(folder, tokenizer_config=small_tokenizer.config() | own)
    (folder / "tokenization_x.py").write_text("raise SystemExit('executed')")


def add_frequencies(*names: str) -> Callable[[dict[str, Any]], object]:
    halves = np.ones(2, np.uint16)
    return lambda weights: weights.update(dict.fromkeys(names, halves))


LAYERS = [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(2)]
SERVED: dict[str, Case] = {
    "plain": Case(),
    "shards": Case(shards=3),
    "tied": Case(model=replace(MODEL, tied=True)),
    "no grouping": Case(model=replace(MODEL, kv_heads=4)),
    "one key head": Case(model=replace(MODEL, kv_heads=1)),
    "wide heads": Case(model=replace(MODEL, head_size=16)),
    "float16": Case(model=replace(MODEL, dtype="F16")),
    "float32": Case(model=replace(MODEL, dtype="F32")),
    "tp 2": Case(options={"tensor_parallel": 2}),
    "pp 2": Case(options={"pipeline_parallel": 2}),
    "a larger vocabulary": Case(model=replace(MODEL, vocab=300)),
    "no dtype": Case(config={"torch_dtype": ...}),
    "LLaMAForCausalLM": Case(config={"architectures": ["LLaMAForCausalLM"]}),
    "no architectures": Case(config={"architectures": ...}),
    "frequencies of the model": Case(weights=add_frequencies("model.rotary_emb.inv_freq")),
    "frequencies of the layers": Case(weights=add_frequencies(*LAYERS)),
    "a theta of transformers 5": Case(config={"rope_parameters": {"rope_theta": 5e5}}),
    "code of a tokenizer": Case(tokenizer=own_code),
    "no template": Case(tokenizer=files(tokenizer_config={"eos_token": "<end>"})),
    "a template for training": Case(
        tokenizer=template("{% generation %}{{ messages[0].content }}{% endgeneration %}")
    ),
    "a template with a date": Case(tokenizer=template("{{ strftime_now('%Y') }}")),
    **{f"rope_scaling: {n}": Case(config={"rope_scaling": s}) for n, s in scalings.SERVED.items()},
    **{
        f"rope_parameters: {n}": Case(config={"rope_parameters": {"rope_theta": 5e5, **s}})
        for n, s in scalings.SERVED.items()
    },
    **{f"tokenizer: {name}": Case(tokenizer=kind(name)) for name in tokenizer_kinds.KINDS},
}
REFUSED: dict[str, tuple[Case, str]] = {
    "another architecture": (Case(config={"architectures": ["GPT2LMHeadModel"]}), "architectures"),
    "attention bias": (Case(config={"attention_bias": True}), "attention_bias"),
    "an activation": (Case(config={"hidden_act": "gelu"}), "hidden_act"),
    "quantised": (Case(config={"quantization_config": {"bits": 4}}), "quantization_config"),
    "an odd head": (Case(model=replace(MODEL, head_size=3)), "odd size, 3"),
    "half of each head": (Case(config={"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
    "code of a model": (
        Case(config={"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}),
        "auto_map has AutoModelForCausalLM 'modeling_x.X'",
    ),
    "a smaller vocabulary": (Case(config={"vocab_size": 200}), "token id 274 is beyond"),
    "contradicting ropes": (
        Case(config={"rope_scaling": scalings.YARN, "rope_parameters": scalings.LLAMA3}),
        "contradict each other",
    ),
    **{
        f"{key}: {name}": (Case(config={key: document}), words)
        for key in ("rope_scaling", "rope_parameters")
        for name, (document, words) in scalings.REFUSED.items()
        if name != "an infinite factor"  # JSON has none
    },
    **{
        f"tokenizer: {name}": (Case(tokenizer=files(**contents)), words)
        for name, (contents, _, words) in REFUSED_TOKENIZERS.items()
    },
}
BROKEN: dict[str, int] = {"infinity": 0x7F80, "NaN": 0xFFC1}


def plan(folder: Path) -> None:
    plan_capacity(read_model(folder, Backend.TORCH), PlanRequest()).require_possible()


def resolve(folder: Path) -> None:
    make_resolution(pin_source(Source(path=str(folder))))


def run_build(folder: Path, store: Path, **options: Any) -> Path:
    return build(BuildSpec(source=Source(path=str(folder)), **options), store=store).path


def serve(artefact: Path) -> None:
    """Have a prompt answered and turned to text; and a chat, where there is a template."""
    tokenizer = TextTokenizer.load(artefact / "tokenizer")
    executor = TorchExecutor.load(
        artefact, device="cpu", num_valid_ids=tokenizer.num_entries, max_batch_size=1
    )
    prompts = [tokenizer.encode_prompt("a")]
    if tokenizer.chat_template is not None:
        prompts.append(tokenizer.encode_chat([Message("user", "a")]))
    try:
        for number, ids in enumerate(prompts):
            reply = RecordedEvents()
            sampling = SamplingParams(max_tokens=2, top_k=1)
            request = GenerationRequest(
                request_id=str(number), prompt_ids=tuple(ids), sampling=sampling
            )
            executor.submit(request, reply)
            final = reply.wait(30)
            assert final.error is None, final.error
            assert reply.token_ids
            assert isinstance(tokenizer.decode(reply.token_ids), str)
    finally:
        executor.close()


@pytest.mark.parametrize("name", SERVED)
def test_what_is_planned_is_built_and_served(name: str, tmp_path: Path) -> None:
    folder = SERVED[name].write(tmp_path / "hf")
    plan(folder)
    resolve(folder)
    serve(run_build(folder, tmp_path / "store", **SERVED[name].options))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_at_the_first_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same sentence, whoever asks; of `build`, before anything is hashed or kept."""
    case, words = REFUSED[name]
    folder = case.write(tmp_path / "hf")
    said = set()
    for step in (plan, resolve):
        with pytest.raises((UnsupportedRequest, BadConfig)) as raised:
            step(folder)
        said.add(str(raised.value))

    def hash_nothing(*_: object, **__: object) -> None:
        raise AssertionError("hashed before it was judged")

    monkeypatch.setattr("llmjp_builder.sources.pinning.hash_files", hash_nothing)
    for backend in (Backend.TORCH, Backend.PYTORCH):
        with pytest.raises((UnsupportedRequest, BadConfig)) as raised:
            run_build(folder, tmp_path / "store", backend=backend)
        said.add(str(raised.value))
    [sentence] = said
    assert words in sentence
    assert not tree(tmp_path / "store")


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.PYTORCH])
@pytest.mark.parametrize("what", BROKEN)
def test_weights_that_are_no_numbers(what: str, backend: Backend, tmp_path: Path) -> None:
    """They are seen while they are read, and nothing is published."""

    def spoil(weights: dict[str, Any]) -> None:
        weights["model.layers.1.mlp.up_proj.weight"][2, 3] = BROKEN[what]

    folder = Case(weights=spoil).write(tmp_path / "hf")
    with pytest.raises(BadTensors, match=r"up_proj\.weight: holds infinity or NaN"):
        run_build(folder, tmp_path / "store", backend=backend)
    assert not any(path.endswith("manifest.json") for path in tree(tmp_path / "store"))


def test_a_tokenizers_code_without_a_fast_file_is_named(tmp_path: Path) -> None:
    folder = Case(tokenizer=own_code).write(tmp_path / "hf")
    (folder / "tokenizer.json").unlink()
    for step in (plan, resolve, lambda source: run_build(source, tmp_path / "store")):
        with pytest.raises(BuilderError, match="tokenization_x"):
            step(folder)


@pytest.mark.parametrize("name", ["LLaMAForCausalLM", "no architectures"])
def test_other_loaders_find_the_architecture(name: str, tmp_path: Path) -> None:
    folder = SERVED[name].write(tmp_path / "hf")
    artefact = run_build(folder, tmp_path / "store", backend=Backend.PYTORCH)
    config = json.loads((artefact / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


PLAIN = {"rope_type": "default", "rope_theta": 5e5}
OLDER = {"rope_theta", "rope_scaling"}


@pytest.mark.parametrize(
    ("config", "theta", "scaling", "revision"),
    [
        ({}, 10000, None, "1"),
        ({"rope_theta": 5e5, "rope_scaling": scalings.LLAMA3}, 5e5, scalings.LLAMA3, "1"),
        ({"rope_parameters": PLAIN, "rope_theta": ..., "rope_scaling": ...}, 5e5, None, "1-rope"),
        ({"rope_parameters": PLAIN, "rope_theta": 5e5}, 5e5, None, "1"),
        (
            {"rope_parameters": {**scalings.YARN, "rope_theta": 1e6}, "rope_theta": ...},
            1e6,
            scalings.YARN,
            "1-rope",
        ),
    ],
)
def test_transformers_4_reads_the_same_rotary_embedding(
    config: Change, theta: float, scaling: Change | None, revision: str, tmp_path: Path
) -> None:
    """TensorRT-LLM's LLM API reads config.json with it; it knows the older keys only."""
    folder = Case(config=config).write(tmp_path / "hf")
    artefact = run_build(folder, tmp_path / "store", backend=Backend.PYTORCH)
    written = json.loads((artefact / "config.json").read_text())
    assert (written.get("rope_theta", 10000), written.get("rope_scaling")) == (theta, scaling)
    given = json.loads((folder / "config.json").read_text())
    assert {k: v for k, v in written.items() if k not in OLDER} == {
        k: v for k, v in given.items() if k not in OLDER
    }
    manifest = json.loads((artefact / "manifest.json").read_text())
    assert manifest["inputs"]["converter_revision"] == revision
    assert read_model(artefact).config == read_model(folder).config
