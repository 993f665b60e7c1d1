"""Docstrings below fields, which Python forgets, read from the source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@functools.cache
def read_field_docs(cls: type) -> Mapping[str, str]:
    """Return the docstrings of a dataclass's fields, or of an enumeration's members, by name.

    Each is one line of text; inherited fields are included.
    """
    docs: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        own = dataclasses.is_dataclass(ancestor) or (ancestor is cls and issubclass(cls, Enum))
        docs |= _read_own_docs(ancestor) if own else {}
    return docs


def _read_own_docs(cls: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    name = None
    for statement in definition.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=attribute)):
                name = attribute
            case ast.Assign(targets=[ast.Name(id=attribute)]):
                name = attribute
            case ast.Expr(value=ast.Constant(value=str(text))) if name is not None:
                docs[name] = " ".join(text.split())
                name = None
            case _:
                name = None
    return docs


def read_class_doc(cls: type) -> str:
    """Return the first paragraph of the class's docstring, as one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
