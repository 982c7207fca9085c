"""The order of batches, and items that fail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unia_med.data.sample import CaseFiles
from unia_med.engine.session import classes_without_example
from unia_med.engine.stream import BatchStream, item_name, steps_from
from unia_med.errors import UserError
from unia_med.labels import IGNORE, TAG_UNKNOWN


def test_order_from_any_step_is_the_tail_of_the_whole_order(tiny: ModuleType) -> None:
    source = tiny.TinySlices(10)
    whole = list(islice(steps_from(source, 5, 3, 0), 20))
    for start in (1, 2, 3, 7, 19):
        assert list(islice(steps_from(source, 5, 3, start), 20 - start)) == whole[start:]
    assert list(islice(steps_from(source, 6, 3, 0), 20)) != whole


def test_an_epoch_shows_each_slice_at_most_once(tiny: ModuleType) -> None:
    batches = list(islice(steps_from(tiny.TinySlices(10), 0, 3, 0), 3))
    seen = [index for batch in batches for index in batch]
    assert len(set(seen)) == 9


def test_the_data_sets_own_order_is_used(tiny: ModuleType) -> None:
    class Ordered(tiny.TinySlices):
        def batch_order(self, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
            return [[epoch, seed, batch_size]] * (epoch + 1)

    assert list(islice(steps_from(Ordered(), 1, 2, 0), 3)) == [[0, 1, 2], [1, 1, 2], [1, 1, 2]]
    assert list(islice(steps_from(Ordered(), 1, 2, 2), 2)) == [[1, 1, 2], [2, 1, 2]]


def test_an_empty_data_set_is_an_error(tiny: ModuleType) -> None:
    class Empty(tiny.TinySlices):
        def batch_order(self, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
            return []

    with pytest.raises(UserError, match="no slice to train on"):
        next(steps_from(Empty(), 0, 2, 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_changes_at_a_boundary_is_seen_from_there_on(workers: int, tiny: ModuleType) -> None:
    source = tiny.TinySlices(8)
    source.scores = torch.zeros(8, 3, 2, 2)
    seen = []
    for step, batch in enumerate(_batches(source, workers), start=1):
        seen.append(float(batch["scores"].max()))
        if step == 3:
            source.scores = torch.ones(8, 3, 2, 2)
    assert seen == [0.0, 0.0, 0.0, 1.0, 1.0]


def _batches(source: Any, workers: int) -> Iterator[dict[str, Any]]:
    return iter(BatchStream(source, 0, 2, 0, 5, boundaries=(3,), workers=workers))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [OSError("no such file"), UserError("voxels are NaN", "scan.nii.gz", "fix it")])
def test_a_failing_item_names_its_case(workers: int, error: Exception, tiny: ModuleType) -> None:
    class Broken(tiny.TinySlices):
        def __getitem__(self, index: int) -> dict[str, Any]:
            if index == 4:
                raise error
            return super().__getitem__(index)

    with pytest.raises(UserError) as caught:
        list(BatchStream(Broken(6), 0, 3, 0, 4, workers=workers))
    assert str(caught.value).startswith("patient001 slice 1: cannot be loaded: ")
    assert str(error) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_names_of_items_without_cases() -> None:
    assert item_name(object(), 3) == "item 3"


def test_an_item_is_called_by_its_case_and_slice(tmp_path: Path) -> None:
    case = CaseFiles("patient7_frame01", "patient7", tmp_path / "a.nii.gz")
    assert item_name(SimpleNamespace(cases=[(case, 4)]), 0) == "patient7_frame01 slice 4"


def test_classes_that_nothing_shows() -> None:
    names, tags = ["RV", "MYO", "LV"], np.array([[0, 0, 1], [0, 0, 0]])
    assert classes_without_example(names, None, tags) == ["RV", "MYO"]
    assert classes_without_example(names, {"a": np.array([IGNORE, 0, 2])}, tags) == ["RV"]
    assert classes_without_example(names, {"a": np.array([IGNORE, 0])}, tags * 0) == names
    assert classes_without_example(names, None, np.full((2, 3), TAG_UNKNOWN)) == []
