"""Finds scored cases that the run behind the masks was trained on, as far as its records show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unia_med.data.io.suffixes import label_stem
from unia_med.errors import UserError
from unia_med.files import read_json
from unia_med.run_files import RunFiles

_RUN_KEYS = ("model", "models", "run", "runs")
"""Where the record next to a mask names its run folder, at any depth below."""


def trained_on(
    predictions: Mapping[str, Path], config: Path | None, damaged: list[str] | None = None
) -> dict[Path, list[str]]:
    """Return the scored cases that trained a run, by its folder; runs that are not here cannot be asked.

    Args:
        predictions: Mask by scored case. A record `NAME_seg.json` next to `NAME_seg.nii.gz` names its run.
        config: Config of the evaluation; in a run folder it is that of the run.
        damaged: Gets why records that are there say nothing.
    """
    damaged = [] if damaged is None else damaged
    suspects: dict[Path, list[str]] = {}
    own = [] if config is None else [config.parent.resolve()]
    for case, mask in predictions.items():
        for run in dict.fromkeys((*own, *runs_of(mask, damaged))):
            suspects.setdefault(run, []).append(case)
    found = {}
    for run, cases in suspects.items():
        trained = _training_part(run, damaged)
        leaked = [
            case for case in cases if any(_is_among(name, trained) for name in _names_of(case, predictions[case]))
        ]
        if leaked:
            found[run] = leaked
    return found


def warnings(predictions: Mapping[str, Path], config: Path | None) -> Iterator[str]:
    """Yield a warning per run that was trained on scored cases.

    Args:
        predictions: As in `trained_on`.
        config: As in `trained_on`.
    """
    damaged: list[str] = []
    for run, cases in trained_on(predictions, config, damaged).items():
        shown = ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")
        yield (
            f"warning: {len(cases)} of {len(predictions)} scored cases are of patients that trained {run} ({shown}): "
            "their scores say nothing about new patients"
        )
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        yield f"warning: {damaged[0]}{more}: whether scored cases trained the model is not known"


def _training_part(run: Path, damaged: list[str]) -> Mapping[str, str]:
    """Return patient by training case; nothing where the run has no record of its split, or a damaged one.

    Cases "site/scan" are there as "scan", too, where no other case of the run is called so.
    """
    path = RunFiles(run).split
    found = _json(path, damaged)
    if found is None:
        return {}
    parts = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(part, dict) and all(isinstance(name, str) for name in part.values()) for part in parts):
        damaged.append(f"{path} is no record of a split")
        return {}
    last = Counter(case.rpartition("/")[2] for part in found.values() for case in part)
    trained = found.get("train", {})
    short = {case.rpartition("/")[2]: patient for case, patient in trained.items()}
    return {**{case: patient for case, patient in short.items() if last[case] == 1}, **trained}


def runs_of(mask: Path, damaged: list[str]) -> Iterator[Path]:
    """Yield the run folders that the record next to a mask names, those that are here.

    Args:
        mask: of `predict`.
        damaged: Gets why a record says nothing.
    """
    record = _record_of(mask, damaged)
    for key in _RUN_KEYS:
        for text in _texts(record.get(key)):
            for folder in (Path(text), mask.parent / text):
                if _is_run(folder):
                    yield folder.resolve()


def _record_of(mask: Path, damaged: list[str]) -> Mapping[str, Any]:
    """Return the record that `predict` wrote next to a mask; empty where there is none."""
    record = _json(mask.with_name(f"{label_stem(mask)}.json"), damaged)
    return record if isinstance(record, dict) else {}


def _names_of(case: str, mask: Path) -> set[str]:
    """Return a case's names: as its label is called, and as the image was that `predict` segmented."""
    summary = _record_of(mask, []).get("summary")
    return {case, str(summary["case"])} if isinstance(summary, dict) and "case" in summary else {case}


def _is_run(folder: Path) -> bool:
    try:
        return RunFiles(folder).split.is_file()
    except (OSError, ValueError):  # a text that is no path, or one where nobody may look
        return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _is_among(case: str, trained: Mapping[str, str]) -> bool:
    """Return whether a case trained, or another of its patient did, by whose name its own begins."""
    name = case.partition("#t")[0]
    last = name.rpartition("/")[2]
    return name in trained or any(
        re.match(re.escape(patient) + r"(?![0-9A-Za-z])", last) for patient in set(trained.values())
    )


def _json(path: Path, damaged: list[str]) -> Any:
    """Return a record; None where there is none, which is no fault, or a damaged one, which is noted."""
    if not path.is_file():
        return None
    try:
        return read_json(path)
    except UserError as error:
        damaged.append(f"{error.where} {error.what}")
        return None
