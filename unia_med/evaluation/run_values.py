"""Values of classes in label files, where the run behind the predictions knows that they are not 1, 2, 3, ..."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from unia_med.config.load import load_config
from unia_med.errors import UserError
from unia_med.evaluation.labels import LabelScheme
from unia_med.evaluation.leaks import runs_of
from unia_med.evaluation.pairs import find_labels, read_labels
from unia_med.labels import BACKGROUND, IGNORE
from unia_med.run_files import RunFiles

_LOOKED_AT = 3  # label files


def with_values_of_run(
    scheme: LabelScheme | None, predictions: Iterable[Path], labels: Path
) -> tuple[LabelScheme | None, str]:
    """Return the scheme with the values that the run's own masks have, and a note; unchanged where nothing says so.

    Predictions number the classes of a run 1, 2, 3, ...; the masks that it learned from may hold other values, such as
    255, or the same ones in another order (`data.class_values`). Label files without names are taken for such masks, if
    their values fit.

    Args:
        scheme: of the names next to the predictions.
        predictions: masks; their records name the run.
        labels: folder of label files, or one of them.
    """
    found = None if scheme is None else next((own for run in _runs(predictions) if (own := _of(run, scheme))), None)
    if scheme is None or found is None or not _fits(found, labels):
        return scheme, ""
    named = ", ".join(
        f"{'+'.join(map(str, values))} {name}" for name, values in zip(found.names, found.values, strict=True)
    )
    note = f"note: labels without names are read as the masks that trained the model: {named}; --classes says otherwise"
    return replace(found, ignored=scheme.ignored), note


def _runs(predictions: Iterable[Path]) -> Iterable[Path]:
    return dict.fromkeys(chain.from_iterable(runs_of(path, []) for path in predictions))


def _of(run: Path, scheme: LabelScheme) -> LabelScheme | None:
    """Return the scheme of a run that predicts these classes and learned from masks with other values; else None."""
    try:
        found = LabelScheme.configured(load_config(RunFiles(run).config).data)
    except (UserError, OSError):
        return None
    same = found.names == scheme.names and found.predicted == scheme.predicted
    return found if same and found.values != scheme.values else None


def _fits(scheme: LabelScheme, labels: Path) -> bool:
    known = {BACKGROUND, IGNORE, *scheme.others, *chain.from_iterable(scheme.values)}
    try:
        files: Sequence[Path] = list(find_labels(labels, quiet=True).values())[:_LOOKED_AT]
        return all(set(np.unique(read_labels(path).array).tolist()) <= known for path in files)
    except UserError:  # said where the labels are read
        return False
