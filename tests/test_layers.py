"""Imports point down only, without circles; all that knows a heart is a wing of its own. Read from the source."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

import unia_med

PACKAGE = Path(unia_med.__file__).parent
FREE = {"errors", "labels", "notes", "names", "account", "progress", "stopwatch", "memory"}
"""Standard library only; every room may import them."""

WING = "cardiac"
"""All that knows a heart: imported by itself and by `WING_GUESTS`, by others reached through a name of the registry."""

WING_GUESTS = {"cli"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "labels": set(),
    "notes": set(),
    "names": set(),
    "account": set(),
    "progress": set(),
    "stopwatch": set(),
    "memory": set(),
    "files": set(),
    "checksums": {"files"},
    "run_files": {"files"},
    "registry": set(),
    "distributed": set(),
    "config": {"registry", "files"},
    "metrics": {"files"},
    "nn": {"registry", "tensors", "files"},
    "tensors": set(),
    "losses": {"tensors"},
    "localise": {"tensors"},
    "data": {"config", "files", "registry", "localise"},
    "methods": {"nn", "losses", "localise", "tensors", "config", "registry", "data.sample", "run_files"},
    "inference": {"tensors", "config", "data", "methods.base", "files", "checksums", "localise", "distributed"},
    "priors": {"config", "data", "registry", "localise", "inference", "methods.base"},
    "cardiac": {"config", "data", "localise", "metrics", "priors", "files", "report.plots", "report.quantities"},
    "evaluation": {"build", "config", "data", "metrics", "files", "run_files"},
    "build": {"config", "files", "registry", "data", "nn", "methods"},
    "engine": {
        "tensors",
        "config",
        "data",
        "methods.base",
        "inference",
        "evaluation",
        "metrics",
        "priors",
        "build",
        "distributed",
        "files",
        "run_files",
    },
    "inspection": {"config", "data", "files"},
    "selection": {"build", "config", "data", "files", "inference"},
    "project": {"config", "data", "files", "notes"},
    "report": {
        "build",
        "config",
        "data",
        "metrics",
        "inference",
        "engine",
        "evaluation",
        "runs",
        "run_files",
        "files",
        "registry",
    },
}
"""What each room may import beside itself and the free modules."""

TOP = {"__init__", "api", "bench", "bundle", "cli", "pipeline", "runs", "sources"}
"""Rooms that may import all but the wing, as long as no circle follows."""

TORCH_FREE = ("__init__.py", "api.py", "errors.py", "labels.py", "registry.py", "config", "metrics", "cli")
"""Imported before a command is known to need torch."""

HEAVY = {"torch", "monai", "ignite", "timm", "skimage", "SimpleITK", "tensorboard"}


def _imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _runtime_statements(tree: ast.Module) -> ast.Module:
    """The module without blocks that only a type checker reads."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))]
    return ast.Module(body=body, type_ignores=[])


def _is_allowed(room: str, target: str) -> bool:
    parts = target.split(".")
    if parts[0] == room or parts[0] in FREE:
        return True
    if parts[0] == WING:
        return room in WING_GUESTS
    if room in TOP:
        return True
    return parts[0] in ALLOWED.get(room, set()) or ".".join(parts[:2]) in ALLOWED.get(room, set())


def upward_imports(room: str, source: str) -> list[str]:
    """Package modules that a module of a room imports although it may not."""
    names = _imports(_runtime_statements(ast.parse(source)))
    targets = {name.removeprefix("unia_med.") for name in names if name.startswith("unia_med.")} - {"__version__"}
    # `from unia_med.a import b` is seen as a and a.b; one that is allowed vouches for the module itself.
    wrong = {target for target in targets if not _is_allowed(room, target)}
    return sorted(t for t in wrong if not any(o.startswith(f"{t}.") and _is_allowed(room, o) for o in targets))


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert upward_imports(_room(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "line", "wrong"),
    [
        ("losses", "from unia_med.nn.vit import TimmViT", True),
        ("losses", "import unia_med.localise.cam", True),
        ("methods", "from unia_med.data.layouts.acdc import AcdcDataset", True),
        ("methods", "from unia_med.data.sample import Sample", False),
        ("methods", "from unia_med.data import sample", False),
        ("inference", "from unia_med.methods.unia import UniA", True),
        ("data", "from unia_med.labels import IGNORE", False),
        ("data", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from unia_med.engine import trainer", False),
        ("data", "def f():\n    from unia_med.engine import trainer", True),
        ("cli", "from unia_med.engine import trainer", False),
        ("cli", "from unia_med.cardiac.cases import find_cases", False),
        ("engine", "from unia_med.cardiac.shape import shape_heart", True),
        ("pipeline", "def f():\n    import unia_med.cardiac.indices", True),
        ("report", "from unia_med import cardiac", True),
        ("nn", "import unia_med.errors", False),
    ],
)
def test_the_check_itself(room: str, line: str, wrong: bool) -> None:
    assert bool(upward_imports(room, line)) is wrong


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_is_named() -> None:
    assert {_room(path) for path in _sources()} <= set(ALLOWED) | TOP


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def _arrows() -> dict[str, set[str]]:
    """The package's modules that each module imports, within functions too."""
    files = {_module(path): path for path in _sources()}
    arrows = {}
    for name, path in files.items():
        found = _imports(_runtime_statements(ast.parse(path.read_text(encoding="utf-8")))) & set(files)
        # `from unia_med.a import b` is seen as a and a.b; the nearest is meant.
        arrows[name] = {one for one in found if not any(other.startswith(f"{one}.") for other in found)} - {name}
    return arrows


def circles(arrows: Mapping[str, set[str]]) -> list[str]:
    """Nodes of a graph that lie on a circle or lead to one: what is left when leaves are taken off again and again."""
    left = {name: set(targets) & set(arrows) for name, targets in arrows.items()}
    while leaves := {name for name, targets in left.items() if not targets}:
        left = {name: targets - leaves for name, targets in left.items() if name not in leaves}
    return sorted(left)


def test_no_circles_between_files() -> None:
    assert circles(_arrows()) == []


def test_no_circles_between_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for name, targets in _arrows().items():
        if "." in name:
            room = name.split(".")[1]
            rooms.setdefault(room, set()).update(target.split(".")[1] for target in targets if "." in target)
    assert circles({room: targets - {room} for room, targets in rooms.items()}) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["a", "b", "c"]


def _top_level_imports(tree: ast.Module) -> set[str]:
    statements = [node for node in _runtime_statements(tree).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {name.split(".")[0] for name in _imports(ast.Module(body=statements, type_ignores=[]))}


def test_the_command_line_is_called_by_nobody() -> None:
    """The package, its comparison and the examples use the verbs of `unia_med`."""
    examples = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
    others = [path for path in _sources() if _room(path) != "cli"]
    assert examples
    for path in [*examples, *others]:
        called = {name for name in _imports(ast.parse(path.read_text(encoding="utf-8"))) if "unia_med.cli" in name}
        assert not called, f"{path.name} imports {called}"


@pytest.mark.parametrize("start", TORCH_FREE)
def test_start_up_rooms_import_nothing_heavy(start: str) -> None:
    files = [PACKAGE / start] if start.endswith(".py") else sorted((PACKAGE / start).rglob("*.py"))
    assert files
    for path in files:
        heavy = _top_level_imports(ast.parse(path.read_text(encoding="utf-8"))) & HEAVY
        assert not heavy, f"{path.name} imports {heavy} when it is itself imported"


WALKING = ("data", "evaluation", "inference", "cardiac", "inspection")


def test_user_folders_are_searched_in_one_way() -> None:
    ways = (".rglob(", "os.walk(", "os.scandir(")
    sources = [path for room in WALKING for path in sorted((PACKAGE / room).rglob("*.py")) if path.name != "walk.py"]
    found = [str(path.relative_to(PACKAGE)) for path in sources if any(way in path.read_text("utf-8") for way in ways)]
    assert found == [], "use unia_med.data.io.walk: find_volumes or walk"
