"""The docstrings below fields and above classes, which Python forgets, read from the source."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@functools.cache
def field_docs(cls: type) -> Mapping[str, str]:
    """By attribute (for an enumeration by member), each as one line of text."""
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


def class_doc(cls: type) -> str:
    """The first paragraph of the class's docstring, as one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
