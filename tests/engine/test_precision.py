"""Mixed precision on a CPU: where it has units for bfloat16 that prove faster, and nowhere else. Units are faked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from unia_med.engine import precision as rule
from unia_med.engine.checkpoint import load_checkpoint
from unia_med.engine.interrupt import Interrupted
from unia_med.engine.precision import half_precision, precision

CPU = torch.device("cpu")


def fake(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, gain: float) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(rule, "bfloat16_gain", lambda: gain)


@pytest.mark.parametrize(
    ("amx", "avx512", "gain", "expected"),
    [
        (True, False, 4.0, torch.bfloat16),
        (False, True, 2.0, torch.bfloat16),
        (True, True, 1.2, None),
        (False, False, 9.0, None),
    ],
)
def test_bfloat16_needs_units_that_are_faster(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, gain: float, expected: torch.dtype | None
) -> None:
    fake(monkeypatch, amx, avx512, gain)
    assert half_precision(CPU) == expected


def test_what_was_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, True, False, 4.0)
    assert precision(CPU, mixed=True) == "mixed bfloat16 (bfloat16 products take 1/4.0 of the time here)"
    assert precision(CPU, mixed=False) == "float32"
    fake(monkeypatch, True, False, 1.2)
    assert precision(CPU, mixed=True) == "float32 (bfloat16 products take 1/1.2 of the time here)"
    fake(monkeypatch, False, False, 4.0)
    assert precision(CPU, mixed=True) == "float32"


def test_the_gain_is_a_ratio_of_times() -> None:
    assert 0.001 < rule.bfloat16_gain() < 1000


def test_a_run_goes_on_in_the_precision_in_which_it_began(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = tiny.settings(amp=True)
    fake(monkeypatch, True, False, 4.0)
    tiny.tiny_trainer(tmp_path / "whole", training=mixed).run()
    trainer = tiny.tiny_trainer(tmp_path / "parts", training=mixed)
    losses = trainer.method.losses
    trainer.method.losses = lambda batch, step: (trainer.request_stop() if step == 6 else None, losses(batch, step))[1]
    with pytest.raises(Interrupted):
        trainer.run()
    fake(monkeypatch, True, False, 1.0)  # the timing comes out otherwise today
    tiny.tiny_trainer(tmp_path / "parts", training=mixed).run()
    whole, parts = (load_checkpoint(tmp_path / one / "checkpoints" / "last.pt") for one in ("whole", "parts"))
    assert whole["precision"] == parts["precision"] == "bfloat16"
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])
    fake(monkeypatch, False, False, 1.0)
    tiny.tiny_trainer(tmp_path / "single", training=mixed).run()
    single = load_checkpoint(tmp_path / "single" / "checkpoints" / "last.pt")
    assert single["precision"] is None
    assert any(not torch.equal(whole["model"][name], single["model"][name]) for name in whole["model"])
