"""Which fault points the code has: what a test of kills goes through."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path


def fault_names(folders: Iterable[Path]) -> dict[str, str]:
    """Every fault point in the Python files below `folders`: name -> 'file:line' of its first use.

    ValueError for a call of .fault() whose only argument is no literal: a kill test could not know of it.
    """
    found: dict[str, str] = {}
    for source in sorted(file for folder in folders for file in folder.rglob("*.py")):
        for name, line in _fault_calls(source):
            found.setdefault(name, f"{source}:{line}")
    return found


def _fault_calls(source: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source.read_text(), str(source))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
            match node.args:
                case [ast.Constant(value=str(name))]:
                    yield name, node.lineno
                case _:
                    raise ValueError(f"{source}:{node.lineno}: a fault point's name must be a literal")
