"""Building from a hub: what is asked of it, in which order, and what stays in the store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.errors import (
    AccessDenied,
    LicenceNotAccepted,
    SourceChanged,
    UnsupportedRequest,
)
from llmjp_builder.contracts.spec import Backend, BuildSpec, Progress, Source
from llmjp_builder.pipeline import BuildResult, build
from llmjp_builder.store.leases import read_leases
from llmjp_builder.store.store import check_artefact
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.command_line import CommandLine
from tests.engine_builder.pipeline.conftest import REPOSITORY
from tests.support.hub import Hub, Status


def built(hub: Hub, store: Path, **options: Any) -> BuildResult:
    options = {"source": Source(repository=REPOSITORY), **options}
    return build(BuildSpec(endpoint=hub.endpoint, **options), store=store)


def test_a_repository_and_a_folder_give_the_same_artefact(
    hub: Hub, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    ended = llmjp("build", REPOSITORY, "--endpoint", hub.endpoint, "--store", tmp_path / "store")
    assert ended.exit_code == 0
    other = build(BuildSpec(source=Source(path=str(source))), store=tmp_path / "other")
    assert tree(Path(ended.last_line)) == tree(other.path)
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    assert list(dict.fromkeys(line["step"] for line in lines)) == [
        "fetch",
        "convert",
        "assemble",
        "publish",
    ]


def test_a_revision_a_token_and_a_licence_go_to_the_hub(
    hub: Hub, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    name = "llm-jp/llm-jp-3-172b-instruct3"
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.publish(name, files, access="gated", branch="v1")
    (tmp_path / "token").write_text("hf_right\n")
    place = ("--store", tmp_path / "store", "--endpoint", hub.endpoint, "--revision", "v1")
    token = ("--token-file", tmp_path / "token")
    refused = llmjp("build", name, *place, *token)
    assert refused.exit_code == 5
    assert "llm-jp-3-172b-instruct3-tou" in refused.complaint
    assert hub.requests == []
    accepted = ("--accept-licence", "llm-jp-3-172b-instruct3-tou")
    assert llmjp("build", name, *place, *accepted).exit_code == 5
    assert llmjp("build", name, *place, *accepted, *token).exit_code == 0
    assert "hf_right" not in "".join(
        data.decode(errors="replace") for data in tree(tmp_path / "store").values()
    )


def test_terms_must_be_accepted_before_any_request(hub: Hub, tmp_path: Path) -> None:
    source = Source(repository="llm-jp/llm-jp-3-172b-instruct3")
    with pytest.raises(LicenceNotAccepted):
        built(hub, tmp_path / "store", source=source)
    assert hub.requests == []


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.TENSORRT])
@pytest.mark.usefixtures("gpu_machine")
def test_an_impossible_layout_is_refused_before_weights_are_requested(
    backend: Backend, hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedRequest, match="it does not divide 4 attention heads"):
        built(hub, tmp_path / "store", backend=backend, tensor_parallel=3)
    assert hub.asked_for("*.safetensors") == []


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.TENSORRT, Backend.PYTORCH])
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("config.json", {"rope_scaling": {"rope_type": "dynamic"}}, "rope_type is 'dynamic'"),
        ("config.json", {"auto_map": {"AutoModel": "modeling_x.X"}}, "auto_map has AutoModel"),
        ("tokenizer.json", {"decoder": None}, "decoder"),
        ("tokenizer_config.json", {"chat_template": "{% do x %}"}, "the tag {% do %} is unknown"),
    ],
)
@pytest.mark.usefixtures("gpu_machine")
def test_what_no_server_takes_is_refused_before_weights_are_requested(
    name: str,
    change: dict[str, Any],
    words: str,
    backend: Backend,
    hub: Hub,
    source: Path,
    tmp_path: Path,
) -> None:
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    changed = json.dumps({**json.loads(files[name]), **change}).encode()
    hub.publish(REPOSITORY, {**files, name: changed})
    with pytest.raises(UnsupportedRequest) as raised:
        built(hub, tmp_path / "store", backend=backend)
    assert words in str(raised.value)
    assert hub.asked_for("*.safetensors") == []


def test_a_downloaded_source_serves_the_next_build(hub: Hub, tmp_path: Path) -> None:
    built(hub, tmp_path / "store")
    asked = len(hub.asked_for("*/resolve/*"))
    second = built(hub, tmp_path / "store", tensor_parallel=2)
    assert not second.cache_hit
    assert len(hub.asked_for("*.safetensors")) == 2
    assert asked > 0


def test_an_interrupted_download_resumes(hub: Hub, tmp_path: Path) -> None:
    hub.fail(Status(403), "*/model-00002-of-00002.safetensors")
    with pytest.raises(AccessDenied):
        built(hub, tmp_path / "store")
    seen: list[Progress] = []
    spec = BuildSpec(source=Source(repository=REPOSITORY), endpoint=hub.endpoint)
    result = build(spec, store=tmp_path / "store", on_progress=seen.append)
    check_artefact(result.path)
    began = next(p for p in seen if "are there already" in p.message)
    assert 0 < began.bytes_done < began.bytes_total
    assert (began.step, began.bytes_per_second) == ("fetch", 0.0)


def test_a_source_in_the_store_that_changes_is_noticed(hub: Hub, tmp_path: Path) -> None:
    def spoil(progress: Progress) -> None:
        if progress.step == "convert":
            [shard] = (tmp_path / "store" / "sources").glob("*/model-00001-of-00002.safetensors")
            shard.write_bytes(shard.read_bytes())

    spec = BuildSpec(source=Source(repository=REPOSITORY), endpoint=hub.endpoint)
    with pytest.raises(SourceChanged, match="modified during the build"):
        build(spec, store=tmp_path / "store", on_progress=spoil)
    assert not list((tmp_path / "store" / "artefacts").iterdir())


def test_that_it_was_built_and_read_is_on_record(hub: Hub, tmp_path: Path) -> None:
    result = built(hub, tmp_path / "store")
    [artefact] = read_leases(tmp_path / "store", result.key)
    assert artefact.is_current(time.time())
    assert artefact.label == REPOSITORY
    [folder] = (tmp_path / "store" / "sources").iterdir()
    [source] = read_leases(tmp_path / "store", f"source-{folder.name}")
    assert not source.is_current(time.time())
