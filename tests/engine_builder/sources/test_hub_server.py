"""The hub of the tests satisfies huggingface_hub itself: what is learnt from it holds elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub import Hub

from .conftest import REPOSITORY, SHARDS, checkpoint


@pytest.mark.parametrize("redirect", [False, True])
@pytest.mark.parametrize("name", ["config.json", SHARDS[0]])
def test_a_file(tmp_path: Path, name: str, redirect: bool) -> None:
    with Hub(redirect=redirect) as hub:
        hub.publish(REPOSITORY, checkpoint())
        path = hf_hub_download(
            REPOSITORY, name, local_dir=tmp_path, endpoint=hub.endpoint, token=False
        )
        assert Path(path).read_bytes() == checkpoint()[name]


def test_a_snapshot(hub: Hub, tmp_path: Path) -> None:
    snapshot_download(
        REPOSITORY,
        local_dir=tmp_path,
        endpoint=hub.endpoint,
        token=False,
        allow_patterns=["*.json"],
        max_workers=1,
    )
    assert (tmp_path / "tokenizer.json").read_bytes() == checkpoint()["tokenizer.json"]


def test_errors_are_the_ones_of_the_library(tmp_path: Path) -> None:
    with Hub(granted=False) as hub:
        hub.publish(REPOSITORY, checkpoint(), access="gated")
        hub.publish("o/open", {"a": b""})
        api = HfApi(endpoint=hub.endpoint, token="hf_right")
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("o/none")
        with pytest.raises(RevisionNotFoundError):
            api.model_info("o/open", revision="v9")
        with pytest.raises(EntryNotFoundError):
            api.hf_hub_download("o/open", "b", local_dir=tmp_path)
        with pytest.raises(GatedRepoError):
            api.hf_hub_download(REPOSITORY, "config.json", local_dir=tmp_path)
