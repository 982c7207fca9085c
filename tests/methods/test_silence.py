"""A source that abstains everywhere is reported, once per validation."""

from __future__ import annotations

import logging

import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.methods.silence import SilenceWatch


@pytest.mark.parametrize(("value", "words"), [(1, ["background"]), (0, ["class"]), (IGNORE, ["background", "class"])])
def test_what_no_label_map_held_is_named(value: int, words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    watch = SilenceWatch()
    watch.record({"F": torch.full((1, 2, 2), value)})
    with caplog.at_level(logging.WARNING):
        watch.report()
        watch.report()
    assert len(caplog.records) == 1 and caplog.records[0].getMessage().startswith("labels F held no pixel of")
    said = caplog.records[0].getMessage().partition(" since ")[0]
    assert [word for word in ("background", "class") if word in said] == words


def test_labels_that_hold_both_at_some_step_are_fine(caplog: pytest.LogCaptureFixture) -> None:
    watch = SilenceWatch()
    watch.record({"P2": torch.tensor([0, 0]), "F": torch.tensor([IGNORE, 0])})
    watch.record({"P2": torch.tensor([2, IGNORE]), "F": torch.tensor([1, 0])})
    with caplog.at_level(logging.WARNING):
        watch.report()
    assert not caplog.records
