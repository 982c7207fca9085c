"""The commands that list settings and shipped models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unia_med import runs
from unia_med.cli import main as cli


def test_settings_prints_type_default_range_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "training.ema"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("training.ema = 0.99\n    number, from 0 below 1\n    Decay of the weight average")


def test_an_unknown_setting_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "training.emma"]) == 2
    assert "Did you mean 'training.ema'" in capsys.readouterr().err


def test_models_lists_what_came_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "_MODELS", tmp_path)
    assert cli.main(["models"]) == 0
    assert "no models" in capsys.readouterr().out
    folder = tmp_path / "two_lungs"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("data: {name: volumes, classes: [LEFT, RIGHT]}")
    (folder / "checkpoints" / "best.pt").write_bytes(bytes(2_000_000))
    (folder / "card.json").write_text(json.dumps({"summary": "Lungs.", "licence": "MIT", "scores": {"Dice": 0.875}}))
    assert cli.main(["models"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in shown] == [
        "two-lungs  (2.0 MB)",
        "Lungs.",
        "Classes: LEFT, RIGHT",
        "Licence: MIT",
        "Dice: 0.875",
    ]
