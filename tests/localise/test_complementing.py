"""The fusion table, row by row, over every combination of labels and gates."""

from __future__ import annotations

import itertools

import pytest
import torch

from unia_med.labels import IGNORE
from unia_med.localise.complement import complement

VALUES = (0, 1, 2, IGNORE)


def literal(p1: int, p2: int, p3: int, row1: bool, row2: bool) -> int:
    """Section 11 read from the top; the first row that matches."""
    foreground = (1, 2)
    if row1 and p1 in foreground and p2 == IGNORE:
        return p1
    if row2 and p1 in foreground and p2 == p1:
        return p1
    if p3 in foreground:
        return p3
    if p2 in foreground and p3 in (0, IGNORE):
        return p2
    if p2 in (0, IGNORE) and p3 == 0:
        return 0
    if p2 in (0, IGNORE) and p3 == IGNORE:
        return IGNORE
    raise AssertionError("the table has no row for this")


@pytest.mark.parametrize("row1", [False, True])
@pytest.mark.parametrize("row2", [False, True])
def test_every_combination(row1: bool, row2: bool) -> None:
    combinations = list(itertools.product(VALUES, repeat=3))
    p1, p2, p3 = torch.tensor(combinations).T.reshape(3, 1, 8, 8)
    expected = [literal(*labels, row1, row2) for labels in combinations]
    assert complement(p1, p2, p3, trust_cam=row1, agreement=row2).flatten().tolist() == expected


def test_agreement_changes_nothing_with_a_single_tag() -> None:
    combinations = torch.tensor(list(itertools.product((0, 1, IGNORE), repeat=3))).T.reshape(3, 1, 3, 9)
    assert torch.equal(complement(*combinations), complement(*combinations, agreement=True))
