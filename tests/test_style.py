"""Measurable parts of the style guide, over the whole package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import unia_med

PACKAGE = Path(unia_med.__file__).parent
LONGEST_FUNCTION = 80
LONGEST_FILE = 400
VAGUE_NAMES = {"utils.py", "helpers.py", "misc.py", "common.py"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def untyped(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Arguments, and `return`, that lack an annotation."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    missing = [a.arg for a in (*named, *starred) if a.annotation is None and a.arg not in ("self", "cls")]
    return missing + (["return"] if function.returns is None else [])


def faults(source: str) -> list[str]:
    """Everything in a module that breaks a measurable rule."""
    tree = ast.parse(source)
    found = [f"{len(source.splitlines())} lines"] if len(source.splitlines()) > LONGEST_FILE else []
    if not ast.get_docstring(tree):
        found.append("no module docstring")
    for function in _functions(tree):
        length = function.end_lineno - function.lineno + 1
        if length > LONGEST_FUNCTION:
            found.append(f"{function.name} has {length} lines")
        if untyped(function):
            found.append(f"{function.name}: no type for {', '.join(untyped(function))}")
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    return found + [f"bare except in line {node.lineno}" for node in handlers if node.type is None]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_the_style(path: Path) -> None:
    assert path.name not in VAGUE_NAMES
    assert faults(path.read_text(encoding="utf-8")) == []


def test_the_check_itself() -> None:
    long = "def f() -> None:\n" + "    x = 1\n" * LONGEST_FUNCTION
    assert faults(f'"""Doc."""\n{long}') == ["f has 81 lines"]
    assert faults('"""Doc."""\ndef f(a, *b: int):\n    pass') == ["f: no type for a, return"]
    assert faults('"""Doc."""\ntry:\n    pass\nexcept:\n    pass') == ["bare except in line 4"]
    assert faults("x = 1") == ["no module docstring"]


EXTRAS = {"pydicom", "highdicom", "gdcm", "pycocotools", "onnx", "onnxruntime", "onnxscript", "openvino"}
"""Packages of extras: the tests are collected without them, too."""


def unguarded(source: str) -> list[str]:
    """Packages of extras that a module imports at its top, with no `pytest.importorskip` of them before."""
    skipped: set[str] = set()
    found = []
    for node in ast.parse(source).body:
        for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "importorskip":
                skipped |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if (top := name.partition(".")[0]) in EXTRAS and top not in skipped]
    return found


def test_no_test_needs_an_extra_to_be_collected() -> None:
    files = sorted([*Path(__file__).parent.rglob("test_*.py"), *Path(__file__).parent.rglob("conftest.py")])
    assert {file.name: names for file in files if (names := unguarded(file.read_text(encoding="utf-8")))} == {}
    assert unguarded("import onnx.helper\nfrom pydicom import x\n") == ["onnx.helper", "pydicom"]
    assert unguarded("import pytest\npydicom = pytest.importorskip('pydicom')\nfrom pydicom import x\n") == []
