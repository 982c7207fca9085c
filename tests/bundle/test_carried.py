"""Package parts that travel in a bundle: all that is needed, nothing more."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from unia_med.bundle.carried import carried_modules, write_carried
from unia_med.bundle.templates import filled_json, filled_text, template

START = '''"""First."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from unia_med.bundle_test_second import TWICE, unneeded, used

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig

# Why it is so.
LIMIT = 3
"""What the limit means."""


def start(config: RunConfig) -> float:
    """Uses one name of the second module, at run time only."""
    from unia_med.bundle_test_third import late

    return math.sqrt(used(LIMIT)) + late()
'''
SECOND = '''"""Second."""

from collections.abc import Callable

TWICE = 2
"""Needed by `used`."""
OTHER = 5
"""Needed by nobody."""


def _double(function: Callable) -> Callable:
    return function


@_double
def used(value: int) -> int:
    return TWICE * value


def unneeded() -> int:
    return OTHER
'''
THIRD = '"""Third."""\n\n\ndef late() -> int:\n    return 1\n'


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three modules that pretend to be the package's."""

    class Spec:
        def __init__(self, origin: Path) -> None:
            self.origin = str(origin)

    for name, text in (("start", START), ("second", SECOND), ("third", THIRD)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(
        "unia_med.bundle.carried.find_spec", lambda name: Spec(tmp_path / f"{name.rpartition('_')[2]}.py")
    )
    return tmp_path


def test_only_what_is_reached_travels(sources: Path) -> None:
    found = carried_modules("unia_med.bundle_test_start")
    assert found == {
        "unia_med.bundle_test_start": {"LIMIT", "start", "math", "used"},
        "unia_med.bundle_test_second": {"TWICE", "used", "_double", "Callable"},
        "unia_med.bundle_test_third": {"late"},
    }


def test_the_copy_runs_and_keeps_its_comments(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_carried(tmp_path / "carried_by_test", "unia_med.bundle_test_start")
    text = (tmp_path / "carried_by_test" / "bundle_test_start.py").read_text()
    assert '# Why it is so.\nLIMIT = 3\n"""What the limit means."""' in text
    assert text.startswith('"""First."""')
    assert "RunConfig" not in text.partition("def start")[0]
    assert "import os" not in text
    second = (tmp_path / "carried_by_test" / "bundle_test_second.py").read_text()
    assert "@_double\ndef used" in second
    assert "OTHER" not in second
    assert "Needed by nobody" not in second
    monkeypatch.syspath_prepend(tmp_path)
    from carried_by_test.bundle_test_start import start

    assert start(None) == pytest.approx(6**0.5 + 1)


def test_a_bundle_needs_no_configuration_and_no_method() -> None:
    found = set(carried_modules())
    assert "unia_med.inference.postprocess" in found
    assert not any(name.startswith(("unia_med.config", "unia_med.methods", "unia_med.engine")) for name in found)


def test_foreign_packages_of_the_carried_parts_are_declared(tmp_path: Path) -> None:
    """A bundle imports nothing but what its metadata names, beside MONAI's own requirements."""
    write_carried(tmp_path / "carried")
    allowed = {"monai", "torch", "numpy", "nibabel", "scipy", "carried"}
    import sys

    for path in (tmp_path / "carried").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{path.name}: {name}"


def test_a_place_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        filled_text("{{absent}}", {})
    with pytest.raises(KeyError):
        filled_json('{"a": ["{{absent}}"]}', {})


def test_the_licence_in_a_bundle_is_the_package_s() -> None:
    assert template("LICENSE") == (Path(__file__).parents[2] / "LICENSE").read_text()
