"""Which process listens on a port, as Linux tells it under /proc."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
LISTEN: Final = "0A"
"""State of a listening socket in /proc/net/tcp."""


def find_port_holder(port: int, proc: Path = PROC) -> str | None:
    """Return the command and the id of the process that listens on a port, such as `nginx (7)`.

    Returns:
        None where nobody does, or the process is another user's, or outside this container.
    """
    inodes = {
        f"socket:[{inode}]"
        for table in ("tcp", "tcp6")
        for inode in _list_listening_inodes(_read(proc / "net" / table), port)
    }
    if not inodes:
        return None
    return next((_name(each) for each in proc.glob("[0-9]*") if _holds(each, inodes)), None)


def _list_listening_inodes(table: str, port: int) -> list[str]:
    """Return the inodes of the sockets that listen on a port (pure).

    A row: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`; addresses
    are `HEX:PORT`, the port in hexadecimal.
    """
    rows = [line.split() for line in table.splitlines()[1:]]
    return [
        row[9]
        for row in rows
        if len(row) > 9 and row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port
    ]


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir())
    except OSError:  # it has ended, or is another user's
        return False


def _name(process: Path) -> str:
    return f"{_read(process / 'comm').strip() or 'process'} ({process.name})"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
