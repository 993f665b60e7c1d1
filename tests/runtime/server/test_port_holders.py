"""Which process listens on a port, from made-up and real /proc."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from llmjp_runtime.server.port_holders import find_port_holder
from llmjp_runtime.server.preflight import find_free_ports

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode"


def row(address: str, state: str, inode: int) -> str:
    return f"0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 0 0 0 {inode} 1"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with nginx (7) on 8001, of IPv4, and python (9) on 8002, of IPv6."""
    tables = {
        "tcp": [row("0100007F:1F41", "0A", 70), row("0100007F:1F42", "01", 71)],
        "tcp6": [row(f"{'0' * 32}:1F42", "0A", 90), row(f"{'0' * 32}:1F43", "0A", 66)],
    }
    (tmp_path / "net").mkdir()
    for name, rows in tables.items():
        (tmp_path / "net" / name).write_text("\n".join([HEADER, *rows, ""]))
    for pid, command, inodes in ((7, "nginx", [71, 70]), (9, "python", [90])):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(f"{command}\n")
        for number, inode in enumerate(inodes):
            (tmp_path / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (tmp_path / "8").mkdir()  # another user's: no fd to be seen
    return tmp_path


@pytest.mark.parametrize(
    ("port", "holder"),
    [
        (8001, "nginx (7)"),
        (8002, "python (9)"),  # a connection of nginx uses that port, but does not listen
        (8003, None),  # somebody listens, who cannot be seen
        (8004, None),
    ],
)
def test_who_listens(proc: Path, port: int, holder: str | None) -> None:
    assert find_port_holder(port, proc) == holder


def test_where_there_is_no_proc(tmp_path: Path) -> None:
    assert find_port_holder(8001, tmp_path) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_this_process(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        taken = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"no {address} here")
    with taken:
        holder = find_port_holder(taken.getsockname()[1])
    assert holder is not None
    assert holder.endswith(f"({os.getpid()})")


def test_a_free_port() -> None:
    assert find_port_holder(find_free_ports(1)[0]) is None
