"""Divides cases into train, validation and test by patient, never by slice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.sample import CaseFiles, Part
from unia_med.errors import UserError, nearest
from unia_med.names import number_of

if TYPE_CHECKING:
    from unia_med.config.schema import SplitConfig

PARTS: tuple[Part, ...] = ("train", "val", "test")


def split_cases(cases: Sequence[CaseFiles], split: SplitConfig, seed: int) -> dict[str, list[CaseFiles]]:
    """Return the cases of "train", "val" and "test", in their given order.

    Args:
        cases: All cases of a data set.
        split: How to divide. "modulo": by patient number modulo `modulus`, `val` and `test` listing
            remainders and the rest being trained on. "fractions": shuffled patients in proportion to
            `fractions`, each positive fraction getting at least one. "kfold": fold `fold` of `folds` is
            validated on, the rest trained on, none tested. "lists": patients by name; those in no list are left out.
            "given": as each case's `part` says; cases without one are left out.
        seed: Order in which "fractions" and "kfold" shuffle the patients. The order of `cases` has no influence.

    Raises:
        UserError: The split contradicts itself or the patients at hand, or leaves none to train on.
    """
    patients = sorted({case.patient for case in cases})
    if split.kind == "given":
        parts = {part: {case.patient for case in cases if case.part == part} for part in PARTS}
    else:
        parts = dict(zip(PARTS, _KINDS[split.kind](patients, split, seed), strict=True))
    _check_disjoint(parts)
    if not parts["train"]:
        raise UserError(
            f"the split leaves none of {number_of(len(patients), 'patient')} to train on",
            where="data.split",
            remedy="Change data.split",
        )
    given = split.kind == "given"
    return {
        part: [case for case in cases if case.patient in names and (not given or case.part == part)]
        for part, names in parts.items()
    }


def fold_lists(
    cases: Sequence[CaseFiles], split: SplitConfig, seed: int, folds: int, fold: int
) -> dict[Part, list[str]]:
    """Return the patients of each part for one of several folds, drawn from those that a split trains or validates on.

    Test patients stay test patients in every fold; those that the split leaves out stay out.

    Args:
        cases: all cases of a data set.
        split: how the config divides them; of `kfold` all patients are drawn from.
        seed: order in which patients are shuffled.
        folds: number of parts, at least 2.
        fold: the part that validates, from 0.

    Raises:
        UserError: more folds than patients, or a split that contradicts the data.
    """
    parts = split_cases(cases, split, seed)
    pool = sorted({case.patient for part in ("train", "val") for case in parts[part]})
    if folds > len(pool):
        what = f"{number_of(folds, 'fold')} for {number_of(len(pool), 'patient')}"
        raise UserError(what, where="--folds", remedy="Use 2 up to the number of patients")
    val = _shuffled(pool, seed)[fold::folds]
    test = sorted({case.patient for case in parts["test"]})
    return {"train": [patient for patient in pool if patient not in val], "val": sorted(val), "test": test}


def patient_number(patient: str) -> int:
    """Return the last number in a patient's name.

    Example:
        >>> patient_number("patient013")
        13
    """
    numbers = re.findall(r"\d+", patient)
    if not numbers:
        raise UserError(
            f"patient {patient!r} has no number in its name, and data.split.kind 'modulo' needs one",
            where="data.split",
            remedy="Use kind 'fractions', 'kfold' or 'lists'",
        )
    return int(numbers[-1])


def _by_modulo(patients: list[str], split: SplitConfig, seed: int) -> tuple[set[str], set[str], set[str]]:
    for part in ("val", "test"):
        for remainder in getattr(split, part) or ():
            if isinstance(remainder, bool) or not isinstance(remainder, int) or not 0 <= remainder < split.modulus:
                raise UserError(
                    f"remainder {remainder!r}, expected a whole number from 0 to {split.modulus - 1}",
                    where=f"data.split.{part}",
                    remedy="Correct the list or data.split.modulus",
                )
    remainders = {patient: patient_number(patient) % split.modulus for patient in patients}
    val = {patient for patient, remainder in remainders.items() if remainder in (split.val or ())}
    test = {patient for patient, remainder in remainders.items() if remainder in (split.test or ())}
    return set(patients) - val - test, val, test


def _by_fractions(patients: list[str], split: SplitConfig, seed: int) -> tuple[set[str], set[str], set[str]]:
    shares = np.asarray(split.fractions, dtype=np.float64)
    if shares.shape != (3,) or (shares < 0).any() or not np.isclose(shares.sum(), 1.0, atol=1e-3):
        raise UserError(
            f"fractions {list(split.fractions)}, expected three (train, val, test) from 0 to 1 that sum to 1",
            where="data.split.fractions",
            remedy="For example [0.8, 0.1, 0.1]",
        )
    counts = _apportion(len(patients), shares)
    order = _shuffled(patients, seed)
    train, val = counts[0], counts[0] + counts[1]
    return set(order[:train]), set(order[train:val]), set(order[val:])


def _by_fold(patients: list[str], split: SplitConfig, seed: int) -> tuple[set[str], set[str], set[str]]:
    if not 2 <= split.folds <= len(patients):
        raise UserError(
            f"{number_of(split.folds, 'fold')} for {number_of(len(patients), 'patient')}",
            where="data.split.folds",
            remedy="Use 2 up to the number of patients",
        )
    if not 0 <= split.fold < split.folds:
        raise UserError(f"fold {split.fold}", where="data.split.fold", remedy=f"Use 0 to {split.folds - 1}")
    val = set(_shuffled(patients, seed)[split.fold :: split.folds])
    return set(patients) - val, val, set()


def _by_lists(patients: list[str], split: SplitConfig, seed: int) -> tuple[set[str], set[str], set[str]]:
    listed = {part: [str(name) for name in getattr(split, part) or ()] for part in PARTS}
    known = {unicodedata.normalize("NFC", patient): patient for patient in patients}
    listed = {part: [known.get(unicodedata.normalize("NFC", n), n) for n in names] for part, names in listed.items()}
    for part, names in listed.items():
        for name in names:
            if name not in patients:
                close = nearest(name, patients)
                raise UserError(
                    f"patient {name!r} is not in the data set",
                    where=f"data.split.{part}",
                    remedy=f"Did you mean {close!r}?"
                    if close
                    else f"The {len(patients)} patients start with {patients[:3]}",
                )
    return set(listed["train"]), set(listed["val"]), set(listed["test"])


def _apportion(patients: int, shares: np.ndarray) -> list[int]:
    """Return whole counts by largest remainder, at least one for every positive share where there are enough."""
    exact = shares * patients
    counts = np.floor(exact + 1e-9).astype(int)
    # Stable, so that of equal remainders the training set's comes first.
    for part in np.argsort(-(exact - counts), kind="stable")[: patients - counts.sum()]:
        counts[part] += 1
    for part in np.flatnonzero((shares > 0) & (counts == 0)):
        if counts.max() > 1:
            counts[counts.argmax()] -= 1
            counts[part] += 1
    return [int(count) for count in counts]


def _shuffled(patients: Iterable[str], seed: int) -> list[str]:
    names = sorted(patients)
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def _check_disjoint(parts: Mapping[Part, set[str]]) -> None:
    pairs: tuple[tuple[Part, Part], ...] = (("train", "val"), ("train", "test"), ("val", "test"))
    for one, other in pairs:
        shared = sorted(parts[one] & parts[other])
        if shared:
            raise UserError(
                f"patients in both {one} and {other}: {', '.join(shared)}",
                where="data.split",
                remedy="A patient may belong to one part only; correct the lists",
            )


_KINDS: dict[str, Callable[[list[str], SplitConfig, int], tuple[set[str], set[str], set[str]]]] = {
    "modulo": _by_modulo,
    "fractions": _by_fractions,
    "kfold": _by_fold,
    "lists": _by_lists,
}
