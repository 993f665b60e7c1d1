"""What chat templates rely on beyond Jinja: the environment that transformers gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Never

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.parser import Parser


class RefusedByTemplate(jinja2.TemplateError):
    """The template called `raise_exception`."""


class _GenerationTag(Extension):
    """`{% generation %} ... {% endgeneration %}`: marks the assistant's text for training.

    Serving renders what stands inside, in a scope of its own.
    """

    tags = {"generation"}  # noqa: RUF012  Jinja's own declaration is no ClassVar

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse one block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_render_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render_body(self, caller: Callable[[], str]) -> str:
        return caller()


def build_environment() -> ImmutableSandboxedEnvironment:
    """Build the sandbox, with all but `strftime_now`, which depends on when one renders."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationTag, "jinja2.ext.loopcontrols"],
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _dump_json
    return environment


def _raise_exception(message: str) -> Never:
    raise RefusedByTemplate(message)


def _dump_json(  # noqa: PLR0917  as in transformers; templates may pass all by position
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Return JSON; Jinja's own filter escapes `<` and `&` for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
