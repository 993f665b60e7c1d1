"""A killed download leaves nothing that counts as complete, and the next one resumes it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Source
from llmjp_builder.sources.fetch import fetch_source
from tests.support.hub import Hang, Hub

from .conftest import REPOSITORY, SHARDS, needed

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """
import sys
from pathlib import Path
from llmjp_builder.sources.fetch import fetch_source
from llmjp_builder.contracts.spec import Source
fetch_source(Source(repository=sys.argv[1]), store=Path(sys.argv[2]), endpoint=sys.argv[3])
"""


def test_killed_while_downloading(hub: Hub, tmp_path: Path) -> None:
    release = threading.Event()
    hub.fail(Hang(150_000, release), f"*/{SHARDS[0]}")
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, REPOSITORY, str(tmp_path), hub.endpoint]
    )
    try:
        arrived = _wait_for_bytes(tmp_path, child)
    finally:
        child.kill()
        child.wait()
        release.set()
    assert not list(tmp_path.rglob("source.json"))
    assert not [path for path in (tmp_path / "sources").iterdir() if path.suffix != ".partial"]
    fetched = fetch_source(Source(repository=REPOSITORY), store=tmp_path, endpoint=hub.endpoint)
    for name, data in needed().items():
        assert (fetched.path / name).read_bytes() == data
    begins = hub.asked_for(f"*/{SHARDS[0]}")[-1].range
    assert begins is not None
    assert int(begins.removeprefix("bytes=").removesuffix("-")) >= arrived
    assert not list(tmp_path.rglob("*.partial"))


def _wait_for_bytes(store: Path, child: subprocess.Popen[bytes]) -> int:
    """How much of the first shard is on the disk, once it is most of what was sent."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in store.glob(f"sources/*/{SHARDS[0]}.partial"):
            if (size := path.stat().st_size) >= 100_000:
                return size
        assert child.poll() is None, "the download ended before it could be killed"
        time.sleep(0.01)
    raise AssertionError("nothing arrived")
