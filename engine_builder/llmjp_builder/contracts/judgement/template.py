"""Judgement of a chat template's tags, without a template engine. Pure.

Blocks that nobody opened, that never end, or whose name the server does not know are found here.
Faults inside expressions need Jinja itself; `llmjp_builder.tokenizer` asks it where it is there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = re.compile(r"\{\{|\{%|\{#")
_STRINGS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_RAW = re.compile(r"\s*[-+]?\s*raw\s*[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")

_BLOCKS = frozenset(
    ["autoescape", "block", "call", "filter", "for", "generation", "if", "macro", "with"]
)
_INSIDE = {"else": {"if", "for"}, "elif": {"if"}}
"""Where these may stand."""
_OF_LOOPS = frozenset({"break", "continue"})
_ALONE = frozenset({"print", "set"})
_READS_FILES = frozenset({"extends", "from", "import", "include"})


def require_served_template(source: str, where: str) -> None:
    """Raise where the server would refuse the template.

    `{% generation %}` is known, as transformers and TRL write it.

    Raises:
        UnsupportedRequest: it has a tag that the server does not know, or reads other files.
        BadConfig: its blocks do not fit together.
    """
    where = f"{where}: chat template"
    opened: list[str] = []
    for body in _iterate_tags(source, where):
        name = (re.match(r"\w*", body) or [""])[0]
        if name in _BLOCKS or (name == "set" and not _assigns(body)):
            opened.append(name)
        elif name.startswith("end"):
            if not opened or name != f"end{opened.pop()}":
                raise BadConfig(f"{where}: not valid Jinja: {name} closes nothing that is open")
        elif name in _INSIDE:
            if not opened or opened[-1] not in _INSIDE[name]:
                raise BadConfig(f"{where}: not valid Jinja: {name} stands outside of a block")
        elif name in _READS_FILES:
            raise UnsupportedRequest(f"{where}: {{% {name} %}} reads another file; there is none")
        elif name in _OF_LOOPS:
            if "for" not in opened:
                raise BadConfig(f"{where}: not valid Jinja: {name} stands outside of a loop")
        elif name not in _ALONE:
            raise UnsupportedRequest(f"{where}: the tag {{% {name[:40]} %}} is unknown")
    if opened:
        raise BadConfig(f"{where}: not valid Jinja: {opened[-1]} is not closed")


def _assigns(body: str) -> bool:
    """Return whether `set` gives a value on the spot; without one it opens a block."""
    return "=" in _STRINGS.sub("", body)


def _iterate_tags(source: str, where: str) -> Iterator[str]:
    """Yield what stands between `{%` and `%}`; expressions, comments and raw text are skipped."""
    source, position = source.removesuffix("\n"), 0  # as Jinja does
    while opening := _OPENING.search(source, position):
        position = opening.end()
        if opening[0] == "{#":
            position = _find_end(source, "#}", position, where)
        elif opening[0] == "{{":
            position = _find_end(source, "}}", position, where)
        elif raw := _RAW.match(source, position):
            closing = _END_RAW.search(source, raw.end())
            if closing is None and raw.end() < len(source):
                raise BadConfig(f"{where}: not valid Jinja: raw is not closed")
            position = len(source) if closing is None else closing.end()
        else:
            begin, position = position, _find_end(source, "%}", position, where)
            yield source[begin : position - 2].strip("-+ \t\r\n")


def _find_end(source: str, closing: str, position: int, where: str) -> int:
    """Return the position after `closing`; outside of comments one in a string does not count."""
    while True:
        found = source.find(closing, position)
        if found < 0:
            raise BadConfig(f"{where}: not valid Jinja: {closing} is missing")
        string = None if closing == "#}" else _STRINGS.search(source, position)
        if string is None or string.start() > found:
            return found + 2
        position = string.end()
