"""Parts of this package that travel in a bundle: copied from the installation, so that there is one source of each.

Of every module only the functions, classes and constants travel that `STARTS` reach; their text is not changed but
for the package they import from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "unia_med"
STARTS = tuple(
    f"unia_med.bundle.{name}" for name in ("steps", "several", "clients", "finetune", "meta", "native", "slabs")
)


class _Module:
    """A source file, its top-level statements by the names they bind, and the names that are needed of it."""

    def __init__(self, name: str) -> None:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name} is not installed with its source")
        self.lines = Path(spec.origin).read_text(encoding="utf-8").splitlines(keepends=True)
        self.body = ast.parse("".join(self.lines)).body
        self.bound = {bound: node for node in self.body for bound in _bound(node)}
        self.needed: set[str] = set()

    def text(self, package: str) -> str:
        """Return the needed part of the source, importing from another package."""
        parts: list[str] = []
        end, kept = 0, True
        for node in self.body:
            text = "".join(self.lines[end : node.end_lineno])
            end = node.end_lineno or end
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                text, kept = _import_text(node, self.needed, package), False
            elif isinstance(node, ast.Expr):  # the module's docstring, or that of a constant
                kept = kept and bool(parts or node is self.body[0])
                text = text if kept or node is self.body[0] else ""
            else:
                kept = bool(self.needed.intersection(_bound(node)))
                text = _renamed(text, package) if kept else ""
            parts.append(text)
        return "".join(parts)


def carried_modules(*starts: str) -> dict[str, set[str]]:
    """Names that modules need of themselves and of this package's other modules, directly or not, by module.

    Args:
        starts: dotted names of modules, all of whose own definitions are needed; none: those of `STARTS`.
    """
    return {name: module.needed for name, module in sorted(_reached(starts or STARTS).items())}


def write_carried(folder: Path, *starts: str) -> None:
    """Write what a module needs as a package whose imports stay within it.

    Args:
        folder: of the package; its name is the package's.
        starts: see `carried_modules`.
    """
    for name, module in _reached(starts or STARTS).items():
        target = folder.joinpath(*name.split(".")[1:]).with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(module.text(folder.name), encoding="utf-8")
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        (place / "__init__.py").touch()


def _reached(starts: Sequence[str]) -> dict[str, _Module]:
    modules = {start: _Module(start) for start in starts}
    waiting = [
        (start, name)
        for start, module in modules.items()
        for name, node in module.bound.items()
        if not isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    while waiting:
        place, name = waiting.pop()
        if place not in modules:
            modules[place] = _Module(place)
        module = modules[place]
        if name in module.needed or name not in module.bound:
            continue
        module.needed.add(name)
        node = module.bound[name]
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{PACKAGE}."):
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            waiting.append((node.module, original))
        elif not isinstance(node, (ast.Import, ast.ImportFrom)):
            waiting += [(place, used) for used in _used(node)]
            waiting += _inner_imports(node)
    return modules


def _bound(node: ast.stmt) -> list[str]:
    """Names that a top-level statement defines; blocks for type checkers define nothing that runs."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)]


def _used(node: ast.stmt) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}


def _inner_imports(node: ast.stmt) -> Iterator[tuple[str, str]]:
    for item in ast.walk(node):
        if isinstance(item, ast.ImportFrom) and item.module and item.module.startswith(f"{PACKAGE}."):
            yield from ((item.module, alias.name) for alias in item.names)


def _import_text(node: ast.Import | ast.ImportFrom, needed: set[str], package: str) -> str:
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return f"\n\n{ast.unparse(node)}\n\n"
    node.names = [alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) in needed]
    return f"{_renamed(ast.unparse(node), package)}\n" if node.names else ""


def _renamed(text: str, package: str) -> str:
    return text.replace(f"from {PACKAGE}.", f"from {package}.")
