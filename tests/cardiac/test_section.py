"""The heart's part of a report: numbers of predicted and true masks, curve, bull's eyes; nothing for other organs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_labels, true_volumes_ml
from unia_med.cardiac.section import heart_section
from unia_med.data.io.volume import Volume
from unia_med.report.measured import folded
from unia_med.report.plots import colour_of
from unia_med.report.quantities import PatientFindings

CLASSES = ["RV", "MYO", "LV"]


@pytest.fixture(scope="module")
def frames() -> dict[int, Volume]:
    patient = patient_of(3, 1)
    affine = np.diag([*patient.scan.spacing_mm, 1.0])
    return {number: Volume(frame_labels(patient, number), affine) for number in (1, 3, patient.es_frame)}


def test_numbers_of_both_masks_are_shown(frames: dict[int, Volume]) -> None:
    patient = patient_of(3, 1)
    thinner = {number: Volume(np.where(v.array == 1, 0, v.array), v.affine) for number, v in frames.items()}
    found = heart_section("p <1>", thinner, frames, CLASSES)
    text = found.html
    truth = true_volumes_ml(patient)
    assert f"<dt>LV EDV</dt><dd>{truth['ED']['LV']:.1f} ml (true masks: {truth['ED']['LV']:.1f} ml)" in text
    assert f"<dt>RV EDV</dt><dd>0.0 ml (true masks: {truth['ED']['RV']:.1f} ml)" in text
    assert f"<dt>ES</dt><dd>frame {patient.es_frame}" in text
    assert "Look again: RV EDV 0 ml" in text
    assert "LV, true" in text and "<figcaption>Wall at" not in text  # no RV, so no segments
    whole = heart_section("p", frames, {}, CLASSES).html
    assert whole.count("<figcaption>Wall at") == 2 and "true masks" not in whole
    assert ">ED</text>" in whole and ">ES</text>" in whole  # of the curve
    HTMLParser().feed(whole)
    assert found.events == {1: "ED", patient.es_frame: "ES"}
    shown = folded("p <1>", found)
    assert "<summary>p &lt;1&gt;:" in shown and "<1>" not in shown
    # One colour per class on the whole page: LV is the third class.
    line = re.search(r'stroke="(#\w+)" stroke-dasharray=""/></svg> LV<', whole)
    assert line is not None and line[1] == colour_of(2)
    (low, high), *others = set(re.findall(r"pale ([\d.]+) to dark ([\d.]+) mm", whole))
    assert not others and float(low) < float(high)  # both phases in the same colours
    numbers = {one.name: one for one in found.quantities}
    assert numbers["RV EDV"].error == pytest.approx(-truth["ED"]["RV"]) and not numbers["RV EDV"].too_far
    assert numbers["LV EF"].error == 0 and not numbers["LV EF"].too_far
    assert found.notes[0].startswith("RV EDV 0 ml")


def test_an_ejection_fraction_far_off_is_called_so(frames: dict[int, Volume]) -> None:
    still = {number: frames[1] for number in frames}  # a heart that does not beat
    numbers = {one.name: one for one in heart_section("p", still, frames, CLASSES).quantities}
    assert numbers["LV EF"].found == 0 and numbers["LV EF"].true > 10 and numbers["LV EF"].too_far


def test_other_organs_and_empty_masks(frames: dict[int, Volume]) -> None:
    assert heart_section("p", frames, {}, ["CSF", "GM", "WM"]) == PatientFindings()
    empty = {1: Volume(np.zeros((4, 4, 2), np.uint8), np.eye(4))}
    found = heart_section("p", empty, {1: frames[1]}, CLASSES)
    assert "no frame holds any LV" in found.html and "no frame holds any LV" in found.notes[0]
    assert found.quantities[0].found is None and found.quantities[0].true > 0  # what was missed still counts
