"""The report as one HTML text: sections in order, styles and script inside, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from unia_med import __version__
from unia_med.report.cases import Examination
from unia_med.report.facts import training_section
from unia_med.report.flags import flagged
from unia_med.report.measured import folded
from unia_med.report.overview import FEW, data_sentence, figures, flag_section, measurement_table
from unia_med.report.plots import colour_of, line_chart
from unia_med.report.run_folder import LABEL_PREFIX, RunRecord
from unia_med.report.tables import calibration_section, case_section, label_section
from unia_med.report.words import label_title

SECTIONS = (
    ("summary", "At a glance"),
    ("flags", "Cases to look at"),
    ("viewer", "Slices"),
    ("measurements", "Measurements"),
    ("cases", "Cases"),
    ("training", "Trained on"),
    ("curves", "Learning curves"),
    ("labels", "Label quality"),
    ("calibration", "Uncertainty"),
    ("config", "Settings"),
)


@dataclass
class ReportContents:
    """Everything a page shows.

    Attributes:
        run: the record of the training.
        config_text: its config.yaml.
        counts: patients by part of the split; empty where the data was not at hand.
        examination: of predicted cases, or None.
        volumes: packed patients for the viewer (`report.volumes.pack`).
        missing: why there are no cases; one sentence, or empty.
        title: of the page; empty: made from classes and data set.
    """

    run: RunRecord
    config_text: str
    counts: Mapping[str, int] = field(default_factory=dict)
    examination: Examination | None = None
    volumes: Sequence[Mapping[str, Any]] = ()
    missing: str = ""
    title: str = ""


def render(contents: ReportContents) -> str:
    """Return the page.

    Args:
        contents: what to show; every text in it is escaped.
    """
    run = contents.run
    bodies = {
        "summary": data_sentence(run.config, contents.examination) + _missing(contents),
        "training": training_section(run, contents.counts),
        "curves": _curves(run),
        "labels": label_section(run),
        "config": _settings(contents.config_text),
        "calibration": calibration_section(
            run.calibration, contents.examination, contents.examination.own_map if contents.examination else ""
        ),
        "viewer": viewer(contents.volumes),
        **_examined(contents),
    }
    classes = run.config.data.target_classes
    return assemble(contents.title or _title(run), f"Run {run.name}.", bodies, classes, contents.volumes)


def assemble(
    title: str,
    note: str,
    bodies: Mapping[str, str],
    classes: Sequence[str],
    volumes: Sequence[Mapping[str, Any]],
) -> str:
    """Return a page of sections that are there, in the order of `SECTIONS`, with styles and viewer.

    Args:
        title: of the page.
        note: below it.
        bodies: HTML by name of the section; empty ones are left out.
        classes: names in label order.
        volumes: packed patients for the viewer; none for a page without it.
    """
    present = [(name, heading) for name, heading in SECTIONS if bodies.get(name)]
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in present)
    sections = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{heading}</h2>'
        f"{bodies[name]}</section>"
        for name, heading in present
    )
    title = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_asset("page.css")}</style></head><body>'
        f'<header><h1>{title}</h1><p class="note">{escape(note)}</p>'
        f'<nav aria-label="Sections">{links}</nav></header><main>{sections}</main>'
        f"<footer>Written by unia_med {escape(__version__)}. For research; not a medical device.</footer>"
        f"{_scripts(classes, volumes)}</body></html>\n"
    )


def _title(run: RunRecord) -> str:
    classes = run.config.data.target_classes
    named = ", ".join(classes) if len(classes) <= FEW else f"{len(classes)} classes"
    return f"{named} in {run.config.data.name}"


def _examined(contents: ReportContents) -> dict[str, str]:
    """Return the sections that need predicted cases; none without."""
    done, classes = contents.examination, contents.run.config.data.target_classes
    if done is None:
        return {}
    shown = [volume["title"] for volume in contents.volumes]
    flags = flagged(done, classes)
    details = "".join(folded(name, done.findings[name], len(shown) == 1) for name in shown if name in done.findings)
    return {
        "summary": data_sentence(contents.run.config, done) + figures(done, classes, flags),
        "flags": flag_section(flags, done, shown),
        "measurements": measurement_table(done, shown) + details,
        "cases": case_section(done, classes, shown),
    }


def _asset(name: str) -> str:
    return files("unia_med.report").joinpath(f"viewer/{name}").read_text(encoding="utf-8")


def _curves(run: RunRecord) -> str:
    terms = {name: curve for name, curve in run.losses.items() if name != "loss"}
    total = {"loss": run.losses["loss"]} if "loss" in run.losses else {}
    quality = {
        label_title(name): [(row["step"], row[key]) for row in run.rows if (key := LABEL_PREFIX + name) in row]
        for name in run.label_columns
    }
    charts = [
        line_chart("Validation Dice of whole volumes", run.scores, "iteration", (0, 1)),
        line_chart("Loss, weighted sum", total, "iteration"),
        line_chart("Loss terms, unweighted", terms, "iteration"),
        line_chart("Dice of the labels, mean over classes", quality, "iteration", (0, 1)),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _settings(text: str) -> str:
    return f'<details><summary>config.yaml</summary><pre tabindex="0">{escape(text)}</pre></details>'


def _missing(contents: ReportContents) -> str:
    return f"<p>{escape(contents.missing)}</p>" if contents.missing else ""


KEYS = (
    ("↑ ↓", "slice"),
    ("← →", "frame"),
    ("P", "next patient"),
    ("0 … 9", "overlay"),
    ("O", "outline"),
    ("+ −", "opacity"),
    ("Z X", "zoom in, out"),
    ("R", "reset zoom and window"),
)


def viewer(volumes: Sequence[Mapping[str, Any]], order: str = "Patients from worst to best.") -> str:
    """Return the slice viewer's controls; empty without volumes.

    Args:
        volumes: packed patients (`report.volumes.pack`).
        order: a sentence on how they are sorted.
    """
    if not volumes:
        return ""
    patients = "".join(
        f'<option value="{index}">{escape(volume["title"])}</option>' for index, volume in enumerate(volumes)
    )
    keys = "".join(f"<li><kbd>{key}</kbd> {meaning}</li>" for key, meaning in KEYS)
    return f"""
<p>{escape(order)} Wheel or slider scrolls through slices; the overlay is what is painted, the outline a
second labelling to compare it with. Zoom with the slider, two fingers, or the wheel and Ctrl; drag to move.</p>
<div class="viewer" id="slice-viewer">
  <div class="stage">
    <canvas tabindex="0" role="img" aria-label="Slice viewer" aria-describedby="viewer-state"></canvas>
    <p id="viewer-state" role="status" aria-live="polite"></p>
    <p id="viewer-voxel" aria-hidden="true"></p>
    <ul class="legend" id="viewer-legend"></ul>
    <p class="note" id="viewer-note"></p>
  </div>
  <div class="controls">
    <label>Patient <select data-control="patient">{patients}</select></label>
    {_slider("Slice", "slice", "0", "0", "1")}
    {_slider("Frame", "frame", "0", "0", "1")}
    <div class="marks" role="group" aria-label="Marked frames" data-part="marks"></div>
    <label>Overlay <select data-control="overlay"></select></label>
    {_slider("Opacity", "opacity", "0", "100", "5")}
    <label>Outline <select data-control="outline"></select></label>
    {_slider("Zoom", "zoom", "1", "8", "0.25")}
    {_slider("Window level", "level", "0", "255", "1")}
    {_slider("Window width", "width", "5", "510", "1")}
    <button type="button" data-control="reset">Reset zoom and window</button>
    <details><summary>Keys</summary><ul class="keys">{keys}</ul></details>
  </div>
</div>
<noscript><p>The slice viewer needs JavaScript.</p></noscript>"""


def _slider(title: str, name: str, low: str, high: str, step: str) -> str:
    """Return a slider with its number."""
    return (
        f'<label data-part="{name}"><span>{title} <output data-number="{name}"></output></span>'
        f'<input type="range" data-control="{name}" min="{low}" max="{high}" step="{step}"></label>'
    )


def _scripts(classes: Sequence[str], volumes: Sequence[Mapping[str, Any]]) -> str:
    if not volumes:
        return ""
    data = {
        "classes": [{"name": name, "colour": colour_of(index)} for index, name in enumerate(classes)],
        "patients": list(volumes),
    }
    # `<` would let a name end the script element.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="viewer-data">{text}</script><script>{_asset("viewer.js")}</script>'
