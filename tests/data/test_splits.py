from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unia_med.config.schema import SplitConfig
from unia_med.data.sample import CaseFiles
from unia_med.data.splits import PARTS, split_cases
from unia_med.errors import UserError


def cases(*patients: str) -> list[CaseFiles]:
    return [CaseFiles(f"{p}_frame{f:02d}", p, Path(f"{p}_{f}.nii.gz"), frame=f) for p in patients for f in (1, 7)]


def numbered(count: int) -> list[CaseFiles]:
    return cases(*(f"patient{n:03d}" for n in range(1, count + 1)))


def patients(part: list[CaseFiles]) -> list[str]:
    return sorted({case.patient for case in part})


def test_modulo_by_hand() -> None:
    parts = split_cases(numbered(40), SplitConfig(), seed=0)
    assert patients(parts["val"]) == [f"patient{n:03d}" for n in (13, 14, 15, 16, 33, 34, 35, 36)]
    assert patients(parts["test"]) == [f"patient{n:03d}" for n in (17, 18, 19, 20, 37, 38, 39, 40)]
    assert len(parts["train"]) == 2 * 24


def test_modulo_needs_numbers() -> None:
    with pytest.raises(UserError, match="'anna' has no number.*fractions"):
        split_cases(cases("patient001", "anna"), SplitConfig(), seed=0)


KINDS = {
    "modulo": SplitConfig(),
    "fractions": SplitConfig(kind="fractions", fractions=(0.6, 0.2, 0.2)),
    "kfold": SplitConfig(kind="kfold", folds=3, fold=1),
    "lists": SplitConfig(kind="lists", train=["patient001", "patient004"], val=["patient002"], test=["patient003"]),
}


@pytest.mark.parametrize("kind", KINDS)
@given(count=st.integers(4, 60), seed=st.integers(0, 5), turn=st.integers(0, 7))
def test_no_patient_is_in_two_parts_and_order_is_irrelevant(kind: str, count: int, seed: int, turn: int) -> None:
    every = numbered(count)
    parts = split_cases(every, KINDS[kind], seed)
    names = [name for part in PARTS for name in patients(parts[part])]
    assert len(names) == len(set(names)) and set(names) <= set(patients(every))
    for part in PARTS:  # both frames of a patient stay together
        assert all(sum(c.patient == name for c in parts[part]) == 2 for name in patients(parts[part]))
    if kind != "lists":
        assert len(names) == count
    turned = split_cases(every[turn:] + every[:turn], KINDS[kind], seed)
    assert {p: patients(turned[p]) for p in PARTS} == {p: patients(parts[p]) for p in PARTS}


@pytest.mark.parametrize(
    ("count", "fractions", "expected"),
    [
        (10, (0.8, 0.1, 0.1), (8, 1, 1)),
        (80, (0.75, 0.25, 0.0), (60, 20, 0)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (7, (0.5, 0.5, 0.0), (4, 3, 0)),
        (2, (0.8, 0.1, 0.1), (1, 1, 0)),
    ],
)
def test_fraction_counts(count: int, fractions: tuple[float, float, float], expected: tuple[int, ...]) -> None:
    split = SplitConfig(kind="fractions", fractions=fractions)
    parts = split_cases(numbered(count), split, seed=3)
    assert tuple(len(patients(parts[part])) for part in PARTS) == expected


def test_seed_decides_fractions() -> None:
    split = SplitConfig(kind="fractions", fractions=(0.5, 0.5, 0))
    one, same, other = (patients(split_cases(numbered(30), split, seed)["val"]) for seed in (1, 1, 2))
    assert one == same != other


def test_folds_cover_every_patient_once() -> None:
    folds = [split_cases(numbered(11), SplitConfig(kind="kfold", folds=4, fold=f), 0)["val"] for f in range(4)]
    names = [name for fold in folds for name in patients(fold)]
    assert sorted(names) == patients(numbered(11))
    assert max(map(len, folds)) - min(map(len, folds)) <= 2
    with pytest.raises(UserError, match="4 folds for 3 patients"):
        split_cases(numbered(3), SplitConfig(kind="kfold", folds=4), 0)


def test_unknown_patients_are_named_with_the_nearest() -> None:
    split = SplitConfig(kind="lists", train=["patient001"], val=["patint002"], test=[])
    with pytest.raises(UserError, match=r"data.split.val: patient 'patint002'.*Did you mean 'patient002'"):
        split_cases(numbered(4), split, 0)


def test_a_patient_in_two_parts_is_refused() -> None:
    split = SplitConfig.model_construct(
        kind="lists", train=["patient001", "patient002"], val=["patient002"], test=[]
    )  # past the config's own check, as from Python code
    with pytest.raises(UserError, match="both train and val: patient002"):
        split_cases(numbered(4), split, 0)


def test_nobody_left_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="none of 1 patient"):
        split_cases(cases("patient013"), SplitConfig(), 0)
