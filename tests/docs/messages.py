"""The texts of errors as the sources have them, with a mark for each part that is filled in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

MARK = "…"


def raised_texts(path: Path, errors: frozenset[str]) -> Iterator[str]:
    """What is given to the ``errors`` as their first argument, wherever they are made, as far as it is a text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in errors:
                yield from _texts(node.args[0])


def returned_texts(path: Path, functions: frozenset[str]) -> Iterator[str]:
    """What these functions return, as far as it is a text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from _texts(inner.value)


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)) if len(text) > 1:
            yield text
        case ast.JoinedStr(values=values):
            text = "".join(part.value if isinstance(part, ast.Constant) else MARK for part in values)  # type: ignore[misc]
            if text.strip(f"{MARK} ,:;()"):
                yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)
        case ast.BinOp(left=left, op=ast.Add()):
            yield from _texts(left)
        case _:
            return
