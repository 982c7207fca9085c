"""Converted models are found again, and never those of another network or a damaged file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from unia_med.inference import converted_models as models


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("UNIA_MED_CACHE", str(tmp_path / "cache"))


def network(seed: int = 0, padding: int = 1, **attributes: object) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, 2, 3, padding=padding), nn.BatchNorm2d(2))
    vars(made).update(attributes)
    return made


def test_equal_networks_share_a_name_and_others_do_not() -> None:
    size = (1, 8, 8)
    others = [
        (network(1), size),
        (network(padding=2), size),
        (network(sigma=2.0), size),
        (network(sigma=(1, [2])), size),
        (network(), (1, 8, 9)),
    ]
    moved = network()
    moved[1].running_mean += 1
    names = [models.name_of(*pair) for pair in [*others, (moved, size), (network(), size)]]
    assert len(set(names)) == len(names)
    assert models.name_of(network(), size) == names[-1]


def test_kept_until_damaged_and_only_the_last_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.read_model("a") is None
    models.keep_model("a", b"first")
    assert models.read_model("a") == b"first"
    path = models.cache_folder() / "a.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    assert models.read_model("a") is None
    monkeypatch.setattr(models, "_KEPT", 2)
    for name in "abc":
        models.keep_model(name, name.encode())
    assert len(list(models.cache_folder().iterdir())) == 2
    assert models.read_model("c") == b"c"


def test_a_folder_that_cannot_be_made_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    models.keep_model("a", b"first")
    assert models.read_model("a") is None
