"""Which label feeds which term, from settings and step alone."""

from __future__ import annotations

import pytest

from unia_med.config.unia import UniaConfig
from unia_med.methods.label_plan import label_plan

GATES = {"segmentation": 0.1, "affinity": 0.2, "token_contrast": 0.3, "agreement": 0.5, "trust_cam": 0.7}


def _plan(step: int, **method: object) -> object:
    return label_plan(UniaConfig.model_validate({"gates": {**GATES, "final_labels": 0.4}, **method}), step, 100)


@pytest.mark.parametrize("affinity", [0.0, 0.1])
@pytest.mark.parametrize(("source", "before", "after"), [("P1", "P1", "P1"), ("P2", "P2", "P2"), ("F", "P2", "F")])
def test_the_decoder_reads_what_the_settings_name(source: str, before: str, after: str, affinity: float) -> None:
    """Whatever the affinity loss does: its weight once decided what the decoder learned."""
    weights = {"affinity": affinity}
    early, late = (_plan(step, label_source=source, weights=weights) for step in (39, 40))
    assert (early.decoder, late.decoder) == (before, after)
    assert early.affinity == early.distribution == early.contrast == late.contrast == "auxiliary"
    assert late.affinity == late.distribution == after


def test_the_published_preset_keeps_its_own_sources() -> None:
    """[R] VOC: the decoder learns P2 throughout, the affinity P_aux, F reaches the distribution map alone [A9, A10]."""
    late = label_plan(UniaConfig(preset="published"), 99, 100)
    assert (late.decoder, late.affinity, late.distribution, late.contrast) == ("P2", "auxiliary", "F", "auxiliary")
    assert late.needs_affinity and late.needed == {"P2", "F", "auxiliary"}
    early = label_plan(UniaConfig(preset="published"), 39, 100)
    assert early.distribution == "auxiliary" and "F" not in early.needed


@pytest.mark.parametrize(
    ("gate", "terms"),
    [
        ("segmentation", {"segmentation", "dense_energy"}),
        ("affinity", {"affinity"}),
        ("token_contrast", {"token_contrast"}),
    ],
)
def test_each_gate_opens_its_terms_at_its_step(gate: str, terms: set[str]) -> None:
    opens = round(100 * GATES[gate])
    before, after = _plan(opens - 1).weights, _plan(opens).weights
    assert not terms & set(before) and terms <= set(after)
    never = _plan(100, gates={gate: 1.0}).weights
    assert not terms & set(never)
    assert {"classification", "auxiliary", "distribution"} <= set(_plan(0).weights)


def test_rows_of_the_refinement_follow_their_gates() -> None:
    steps = (49, 50, 69, 70)
    assert [_plan(step).agreement for step in steps] == [False, True, True, True]
    assert [_plan(step).trust_cam for step in steps] == [False, False, False, True]


def test_weights_are_those_of_the_settings_and_zero_is_off() -> None:
    weights = {"classification": 0.5, "segmentation": 2.0, "dense_energy": 0.0, "affinity": 0.25}
    found = _plan(99, weights=weights).weights
    assert {name: found.get(name, 0.0) for name in weights} == weights
    assert "dense_energy" not in found


def test_a_label_is_needed_by_active_terms_alone() -> None:
    off = {"affinity": 0.0, "distribution": 0.0, "segmentation": 0.0, "dense_energy": 0.0, "token_contrast": 0.0}
    assert _plan(99, weights=off).needed == frozenset() and not _plan(99, weights=off).needs_affinity
    one = _plan(99, weights={**off, "dense_energy": 0.1})
    assert one.needed == {"F"} and one.needs_affinity
    assert not _plan(99, weights={**off, "dense_energy": 0.1}, label_source="P2").needs_affinity
    assert _plan(99, weights={**off, "affinity": 0.1}, label_source="P1").needs_affinity
    assert _plan(99, weights={**off, "distribution": 0.1}, label_source="P2").needed == {"P2"}
    assert _plan(99, weights={**off, "token_contrast": 0.1}).needed == {"auxiliary"}
