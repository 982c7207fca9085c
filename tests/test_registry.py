"""The registry: names resolve lazily, each table points at something that exists."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from unia_med import registry
from unia_med.errors import UserError

TABLES = [registry.METHODS, registry.DATASETS, registry.BACKBONES, registry.PRIORS]
ENTRIES = [(table, name) for table in TABLES for name in table]


@pytest.mark.parametrize(("table", "name"), ENTRIES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_name_resolves(table: dict[str, str], name: str) -> None:
    module, _, attribute = table[name].partition(":")
    assert importlib.util.find_spec(module) is not None
    assert registry.resolve(table, name).__name__ == attribute


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown method 'unai'.*Did you mean 'unia'"):
        registry.resolve(registry.METHODS, "unai", "method")


def test_import_is_lazy() -> None:
    code = "import sys, unia_med.registry; sys.exit('torch' in sys.modules or 'unia_med.methods' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
