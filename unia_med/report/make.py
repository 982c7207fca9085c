"""The page of a run from its folder: what was trained, how it went, and its validation cases, predicted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from unia_med.build import build_dataset, resolve_device
from unia_med.data.splits import split_cases
from unia_med.errors import UserError
from unia_med.files import decoded, require_writable, write_text
from unia_med.report.cases import Measure, choose_patients, examine, frames_of
from unia_med.report.measured import Stated, measured, nothing_stated
from unia_med.report.page import ReportContents, render
from unia_med.report.run_folder import read_run
from unia_med.report.volumes import PAGE_BYTES, pack, read_layers

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.data.dataset import CaseDataset
    from unia_med.data.sample import CaseFiles
    from unia_med.inference.predictor import Predictor
    from unia_med.runs import Run


class Report(NamedTuple):
    """A page that was written.

    Attributes:
        path: its file.
        missing: why it shows no cases; one sentence, or empty.
        patients: that were predicted for it.
    """

    path: Path
    missing: str
    patients: tuple[str, ...] = ()


def make_report(
    run: Run,
    output: Path | None = None,
    *,
    data: Path | None = None,
    split: str = "val",
    patients: int = 3,
    device: str = "auto",
    title: str = "",
    stated: Stated = nothing_stated,
    track: Callable[[Sequence[CaseFiles]], Iterable[CaseFiles]] = lambda cases: cases,
) -> Report:
    """Write one self-contained HTML page about a run.

    Args:
        run: with checkpoint, config and metrics.
        output: the page; None: `report.html` in the run folder.
        data: the data set, where it is not where the run found it.
        split: part whose cases are predicted.
        patients: how many are in the slice viewer, from worst to best.
        device: where to predict.
        title: of the page; empty: made from classes and data set.
        stated: frames that the user names, by patient.
        track: wraps the cases, to show progress.

    Raises:
        UserError: no checkpoint, no metrics, or data that was named and cannot be used.
    """
    path = output or run.files.report
    _check(path, patients)
    run.checkpoint  # noqa: B018  asked for now: without one there is nothing to show
    contents = ReportContents(read_run(run.folder, run.config), decoded(run.files.config.read_bytes()), title=title)
    found = _data_of(run.config, data, contents)
    if found is not None:
        config, dataset = found
        masked = _masked_cases(config, dataset, split, contents)
        contents.missing += "" if masked else _how_to_see_others(run.folder, config.data.root)
        if masked:
            measure = partial(measured, classes=config.data.target_classes, stated=stated)
            predictor = run.predictor(resolve_device(device))
            _add_cases(contents, predictor, config, dataset, masked, split, patients, measure, track)
    write_text(path, render(contents))
    done = contents.examination
    return Report(path, contents.missing, () if done is None else tuple(sorted(done.findings)))


def _check(path: Path, patients: int) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"the suffix is {path.suffix!r}", where=path, remedy="Use .html")
    require_writable(path, folder=False)
    if patients < 0:
        raise UserError(f"{patients} patients", where="--cases", remedy="Give 0 or more")


def _data_of(config: RunConfig, data: Path | None, contents: ReportContents) -> tuple[RunConfig, CaseDataset] | None:
    """Return config and data set; None, with the reason in `contents`, where the data is not at hand."""
    if data is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"root": data})})
    elif config.data.root is None or not config.data.root.is_dir():
        place = config.data.root or "which has none"
        contents.missing = f"No cases: the data folder of the run, {place}, is not here. Name it with --data."
        return None
    return config, build_dataset(config.data)


def _masked_cases(config: RunConfig, dataset: CaseDataset, split: str, contents: ReportContents) -> list[CaseFiles]:
    parts = split_cases(dataset.cases(), config.data.split, config.seed)
    contents.counts = {part: len({case.patient for case in cases}) for part, cases in parts.items()}
    masked = [case for case in parts[split] if case.mask is not None]
    if not masked:
        contents.missing = f"No cases: the {split} part of the split holds no case with a mask."
    return masked


def _how_to_see_others(run: Path, data: Path | None) -> str:
    """Return the commands that show masks of images that have no true ones."""
    source = quote(str(data or "IMAGES"))
    return (
        f" To look at its masks: unia-med predict --model {quote(str(run))} --input {source} --output masks "
        f"--uncertainty, then unia-med report masks --data {source}."
    )


def _add_cases(
    contents: ReportContents,
    predictor: Predictor,
    config: RunConfig,
    dataset: CaseDataset,
    cases: list[CaseFiles],
    split: str,
    patients: int,
    measure: Measure,
    track: Callable[[Sequence[CaseFiles]], Iterable[CaseFiles]],
) -> None:
    ordered = sorted(cases, key=lambda case: (case.patient, case.frame or 0, case.name))
    done = examine(predictor, config, dataset, track(ordered), split, measure)
    contents.examination = done
    volumes = []
    for patient in (chosen := choose_patients(done, patients)):
        layers = [read_layers(predictor, config, dataset, case) for case in frames_of(cases, patient)]
        alike = [frame for frame in layers if frame.image.shape == layers[0].image.shape]
        volumes.append(pack(patient, alike, PAGE_BYTES // len(chosen)))
    contents.volumes = volumes
