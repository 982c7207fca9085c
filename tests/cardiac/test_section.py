"""The heart's part of a report: numbers of predicted and true masks, curve, bull's eyes; nothing for other organs."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_labels, true_volumes_ml
from unia_med.cardiac.section import heart_section
from unia_med.data.io.volume import Volume

CLASSES = ["RV", "MYO", "LV"]


@pytest.fixture(scope="module")
def frames() -> dict[int, Volume]:
    patient = patient_of(3, 1)
    affine = np.diag([*patient.scan.spacing_mm, 1.0])
    return {number: Volume(frame_labels(patient, number), affine) for number in (1, 3, patient.es_frame)}


def test_numbers_of_both_masks_are_shown(frames: dict[int, Volume]) -> None:
    patient = patient_of(3, 1)
    thinner = {number: Volume(np.where(v.array == 1, 0, v.array), v.affine) for number, v in frames.items()}
    text = heart_section("p <1>", thinner, frames, CLASSES)
    truth = true_volumes_ml(patient)
    assert f"<dt>LV EDV</dt><dd>{truth['ED']['LV']:.1f} ml (true masks: {truth['ED']['LV']:.1f} ml)" in text
    assert f"<dt>RV EDV</dt><dd>0.0 ml (true masks: {truth['ED']['RV']:.1f} ml)" in text
    assert f"<dt>ES</dt><dd>frame {patient.es_frame}" in text
    assert "Look again: RV EDV 0 ml" in text and "p &lt;1&gt;" in text and "<1>" not in text
    assert "LV, true" in text and "Wall at" not in text  # no RV, so no segments
    whole = heart_section("p", frames, {}, CLASSES)
    assert whole.count("<figcaption>Wall at") == 2 and "true masks" not in whole
    HTMLParser().feed(whole)


def test_other_organs_and_empty_masks(frames: dict[int, Volume]) -> None:
    assert heart_section("p", frames, {}, ["CSF", "GM", "WM"]) == ""
    empty = {1: Volume(np.zeros((4, 4, 2), np.uint8), np.eye(4))}
    assert "no frame holds any LV" in heart_section("p", empty, {}, CLASSES)
