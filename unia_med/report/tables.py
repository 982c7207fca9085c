"""Tables of a report: cases, label quality over training, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from unia_med.engine.calibration import Calibration
from unia_med.metrics.calibration import ErrorSearch, expected_calibration_error
from unia_med.metrics.table import CaseScores, summarise, summarise_set
from unia_med.names import number_of
from unia_med.report.cases import Examination, mean_dice
from unia_med.report.overview import PARTS, link
from unia_med.report.plots import NEUTRAL, bar_cell, colour_of, reliability_diagram
from unia_med.report.run_folder import LABEL_PREFIX, RunRecord
from unia_med.report.words import LABEL_WORDS, label_title

SHOWN_CASES = 12
"""Rows before the fold."""

_FLAT = 0.01  # spread of a map in [0, 1] below which nobody sees a difference


def case_section(done: Examination, classes: Sequence[str], shown: Sequence[str]) -> str:
    """Cases, worst first, with a bar per class; the tail is folded away.

    Args:
        done: scored cases.
        classes: names in label order.
        shown: patients that the viewer has.
    """
    table = summarise(classes, done.scores)
    means, failures = table["mean"], table["failures"]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("mean Dice", *classes, "uncertainty"))
    rows = [_case_row(scores, classes, done, shown) for scores in done.scores]
    summary = "".join(
        bar_cell(means["dice"][name], colour_of(index), _mean_distance(means, name))
        for index, name in enumerate(classes)
    )
    mean_cell = bar_cell(means["dice"]["mean"], NEUTRAL)
    doubts = [doubt for doubt in done.doubts.values() if doubt is not None]
    doubt_cell = _doubt_cell(float(np.mean(doubts)) if doubts else None)
    title = f"mean of {number_of(len(rows), 'case')}"
    mean_row = f'<tr class="mean"><th scope="row">{title}</th>{mean_cell}{summary}{doubt_cell}</tr>'
    missed = ", ".join(f"{escape(name)} {count}" for name, count in failures.items())
    caption = f"{PARTS[done.part].capitalize()} cases, lowest class first: Dice of whole volumes, and HD95"

    def whole(body: str) -> str:
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}"><table>'
            f'<thead><tr><th scope="col">case</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    folded = rows[SHOWN_CASES:]
    rest = f"<details><summary>{len(folded)} more cases</summary>{whole(''.join(folded))}</details>" if folded else ""
    return (
        f"<p>{caption}. Missed or invented structures, counted as Dice 0 and without a distance: {missed}. "
        "Uncertainty: mean over the voxels that are called some class, from 0, certain, to 1, a guess.</p>"
        f"{_whole_set(done, classes)}{whole(mean_row + ''.join(rows[:SHOWN_CASES]))}{rest}"
    )


def _whole_set(done: Examination, classes: Sequence[str]) -> str:
    """Return the scores over all pixels together, for a run in pixels."""
    if done.counted is None or not done.counted.cases:
        return ""
    found = summarise_set(classes, done.counted.scores(), done.counted.cases)["iou"]
    each = ", ".join(f"{escape(name)} {_share(value)}" for name, value in found.items() if name != "mean")
    return f"<p>IoU over the pixels of all cases together: mean <strong>{_share(found['mean'])}</strong>; {each}.</p>"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mean_distance(means: Mapping[str, Mapping[str, float | None]], name: str) -> str:
    """Return the mean HD95 of a class in each unit that cases have."""
    found = [(unit, means[f"hd95_{unit}"][name]) for unit in ("mm", "px") if f"hd95_{unit}" in means]
    return ", ".join(_distance(value, unit) for unit, value in found if value is not None)


def label_section(run: RunRecord) -> str:
    """Return a table of label quality at each validation; empty for methods without label columns.

    Args:
        run: record of the training.
    """
    columns = run.label_columns
    if not columns:
        return ""
    head = "".join(f'<th scope="col">{escape(label_title(name))}</th>' for name in columns)
    rows = "".join(
        f'<tr><th scope="row">{row["step"]:g}</th>'
        + "".join(bar_cell(row.get(LABEL_PREFIX + name), colour_of(index)) for index, name in enumerate(columns))
        + "</tr>"
        for row in run.rows
    )
    words = [LABEL_WORDS[key] for name in columns if (key := name.replace("_", " ")) in LABEL_WORDS]
    known = [f"{title}: {meaning}" for title, meaning in words]
    note = (
        '<p class="note">Where a prior or self-training gives the labels, the decoder learns from those, and the '
        "columns of activation maps show what the tags alone would have given.</p>"
        if run.config.prior.names
        else ""
    )
    return (
        "<p>Dice on the validation slices, mean over classes, at the network's resolution. "
        f"{escape('; '.join(known))}.</p>{note}"
        '<div class="scroll" tabindex="0" role="region" aria-label="Label quality over training"><table>'
        f'<thead><tr><th scope="col">iteration</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def calibration_section(fitted: Calibration | None, done: Examination | None, own: str = "") -> str:
    """Reliability diagram, calibration error, and errors found in the most uncertain voxels.

    Args:
        fitted: the run's temperature, or None.
        done: examined cases, or None.
        own: name of the method's own uncertainty map; empty where it has none.
    """
    parts = [_fitted_sentence(fitted)] if fitted is not None else []
    if done is not None and done.near.count.any():
        parts.append(_measured(done, fitted is not None, own))
        parts.append(_spread(done.spreads, own) if own else "")
    return "".join(parts)


def _spread(percentiles: Sequence[np.ndarray], own: str) -> str:
    """Say how much the method's own map varies: one that is constant says nothing, whatever its colours."""
    if not percentiles:
        return ""
    low, middle, high = np.mean(percentiles, 0)
    flat = " It hardly varies, so it says little." if high - low < _FLAT else ""
    return (
        f"<p>{escape(own)} near the structures: {low:.3g} at the 1st percentile, {middle:.3g} at the median, {high:.3g}"
        f" at the 99th, mean over cases.{flat}</p>"
    )


def _fitted_sentence(fitted: Calibration) -> str:
    return (
        f"<p>Temperature {fitted.temperature:.3f}, fitted on {fitted.voxels:,} voxels in and round the structures of "
        f"{fitted.cases} validation volumes: their expected calibration error fell from {fitted.ece_before:.4f} to "
        f"{fitted.ece_after:.4f}.</p>"
    )


def _measured(done: Examination, fitted: bool, own: str) -> str:
    near, whole = expected_calibration_error(done.near), expected_calibration_error(done.whole)
    margin = "10 mm" if done.counted is None else "10 mm, or pixels of pictures"
    caveat = " These are the patients the temperature was fitted on." if fitted and done.part == "val" else ""
    diagram = reliability_diagram("Reliability in and round the structures", done.near)
    shares = "".join(f'<th scope="col">{100 * share:g} %</th>' for share in done.entropy.shares)
    chance = "".join(f"<td>{share:.3f}</td>" for share in done.entropy.shares)
    searched = [("entropy, whole volume", done.entropy_whole), ("entropy, near the structures", done.entropy)]
    if own:
        searched += [(f"{own}, whole volume", done.network_whole), (f"{own}, near the structures", done.network)]
    rows = "".join(_search_row(name, search) for name, search in searched)
    said = f" {escape(own)}: what the method itself calls uncertain, from a branch of its network." if own else ""
    volumes = number_of(len(done.scores), f"{PARTS[done.part]} volume")
    return (
        f"<p>Expected calibration error on {volumes}, test-time augmentation off: "
        f"<strong>{near:.4f}</strong> in and round the structures ({margin}), {whole:.4f} over whole volumes, most of "
        f"which are certain background.{caveat}</p>"
        f'<div class="charts">{diagram}<div><p>Share of all wrong voxels that lie among the most uncertain ones of '
        "their volume:</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Errors among the most uncertain voxels"><table>'
        f'<thead><tr><th scope="col">looked at</th>{shares}</tr></thead><tbody>{rows}'
        f'<tr><th scope="row">chance</th>{chance}</tr></tbody></table></div>'
        f'<p class="note">Entropy: of the class probabilities, divided by log K: 0 certain, 1 a guess.{said}</p>'
        "</div></div>"
    )


def _search_row(name: str, search: ErrorSearch) -> str:
    cells = "".join("<td>–</td>" if share is None else f"<td>{share:.3f}</td>" for share in search.fractions())
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _case_row(scores: CaseScores, classes: Sequence[str], done: Examination, shown: Sequence[str]) -> str:
    place = link(done.patients[scores.case], scores.case, shown)
    cells = "".join(
        bar_cell(scores.dice[name], colour_of(index), _note(scores, name)) for index, name in enumerate(classes)
    )
    mean = mean_dice(scores)
    mean_cell = bar_cell(mean if mean <= 1 else None, NEUTRAL)
    doubt = _doubt_cell(done.doubts.get(scores.case))
    return f'<tr><th scope="row">{escape(scores.case)}{place}</th>{mean_cell}{cells}{doubt}</tr>'


def _doubt_cell(value: float | None) -> str:
    return "<td>–</td>" if value is None else f"<td>{value:.2f}</td>"


def _note(scores: CaseScores, name: str) -> str:
    return "missed or invented" if scores.failed(name) else _distance(scores.hd95[name], scores.unit)


def _distance(value: float | None, unit: str) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.1f} {unit}"
