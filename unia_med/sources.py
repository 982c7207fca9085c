"""Opens what a user names as a model: a run, a bundle, a shipped model, folds, or several to be averaged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unia_med.errors import UserError
from unia_med.files import at_home
from unia_med.inference.bundle import Bundle, is_bundle
from unia_med.inference.ensemble import Ensemble
from unia_med.runs import Run

if TYPE_CHECKING:
    from unia_med.inference.model import Trained

Source = str | os.PathLike[str] | Run


def trained_source(source: Source | Sequence[Source]) -> Trained:
    """Return what a user names as a model: a run or its folder, a bundle, a shipped model, or several of these.

    Args:
        source: as in `unia_med.load`.

    Raises:
        UserError: no such model, or models that cannot be averaged.
    """
    if isinstance(source, Run):
        return _checked(source)
    if isinstance(source, (list, tuple)):
        return _averaged(source)
    if not isinstance(source, (str, os.PathLike)):
        remedy = 'Call unia_med.load("runs/mine"), with a run, a bundle or the name of a shipped model'
        raise UserError(f"no model, but of the type {type(source).__name__}", where="load(...)", remedy=remedy)
    if is_bundle(folder := at_home(source)):
        return Bundle(folder)
    return _checked(Run.open(source))


def _averaged(sources: Sequence[Source]) -> Trained:
    if not sources:
        raise UserError("no model at all", where="load(...)", remedy='Name one or several: load(["runs/a", "runs/b"])')
    members = [trained_source(source) for source in sources]
    return members[0] if len(members) == 1 else Ensemble(members)


def _checked(run: Run) -> Trained:
    if run.folds:
        data, cleaning = run.config.data, run.config.inference.postprocess
        return Ensemble(run.folds, cleaning.steps(data), run.name)
    run.checkpoint  # noqa: B018  a folder without one is refused before any image is looked for
    return run
