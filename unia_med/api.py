"""The verbs of the library: what `unia-med` does, as functions that take and give what people have in Python."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unia_med.errors import UserError, suggestion
from unia_med.files import at_home, require_writable

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig
    from unia_med.evaluation.evaluate import Evaluation
    from unia_med.inference.batch import Predictions
    from unia_med.inference.model import Model
    from unia_med.inference.predictor import Predictor
    from unia_med.inference.results import Names
    from unia_med.inspection.inspect import Inspection
    from unia_med.runs import Run
    from unia_med.selection.write import Written


def load(
    source: str | os.PathLike[str] | Run | Sequence[str | os.PathLike[str] | Run],
    device: str = "auto",
    *,
    tta: bool | None = None,
    postprocess: bool = True,
    uncertainty: str | None = None,
    runtime: str = "torch",
) -> Model:
    """Return a trained model, its weights loaded, to be called on images.

    Args:
        source: a run folder, a bundle's folder (which runs its own code and weights), or the name of a shipped model;
            or a list of these, whose probabilities are averaged. Of a run of folds, all folds are averaged.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        tta: average over several views of each slice: slower; None: where the run's config does so by default.
        postprocess: clean the masks.
        uncertainty: `entropy` or `network`; None takes what the run's config says.
        runtime: what computes the network: `torch`, or `onnx` or `openvino` (extras of these names), on the CPU.

    Raises:
        UserError: no such model, or one that cannot be loaded.

    Example:
        >>> model = load("runs/acdc")  # doctest: +SKIP
        >>> model("scan.nii.gz").mask  # doctest: +SKIP
    """
    model = opened(source, device, tta=tta, postprocess=postprocess, uncertainty=uncertainty, runtime=runtime)
    model.predictor  # noqa: B018  loaded now, so that what is wrong with it is said here
    return model


def predict(
    model: str | os.PathLike[str] | Run | Model | Sequence[str | os.PathLike[str] | Run],
    images: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    series: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    uncertainty: bool | str = False,
    skip_existing: bool = False,
    shard: str | None = None,
    tta: bool | None = None,
    postprocess: bool | None = None,
    names: Names = "seg",
    rtstruct: bool = False,
    device: str = "auto",
    runtime: str | None = None,
) -> Predictions:
    """Return an iterator over cases, each predicted when it is asked for; a bad one carries its `error`.

    Args:
        model: what `load` gives, or what it takes.
        images: a file or folder, searched as `unia-med predict --input` is; or an iterable of images of any kind that
            a model can be called on.
        output: folder of the results; None keeps those of each case in memory.
        split: `train`, `val` or `test`: `images` is a data set as in the run's config, of which this part is taken.
        series: number or UID of a DICOM series.
        spacing_mm: of arrays, as in a call of the model.
        uncertainty: with `output`, write it, too; `entropy` or `network` chooses the kind.
        skip_existing: leave out images whose results are in `output`.
        shard: `2/8` predicts the second of eight disjoint parts; all may run at once, on machines that share `output`.
        tta: as in `load`, as is `postprocess`; None takes the model as it is.
        postprocess: see `tta`.
        names: how results are called: `seg` for `NAME_seg`; `nnunet` as nnU-Net calls the labels of an image.
        rtstruct: with `output`, write DICOM RTSTRUCT next to the SEG of a series.
        device: as in `load`, for a model that is not loaded yet.
        runtime: as in `load`; None takes the model as it is.

    Raises:
        UserError: no image, no usable model, or arguments that contradict each other.

    Example:
        >>> [case.error or case.result for case in predict("runs/acdc", "scans")]  # doctest: +SKIP
    """
    from unia_med.inference.batch import Predictions
    from unia_med.inference.results import called
    from unia_med.inference.runtime import check_runtime

    target = None if output is None else at_home(output)
    if target is not None:
        require_writable(target, folder=True)
    if skip_existing and target is None:
        raise UserError("there is no folder to look in", where="skip_existing", remedy="Name it with output=")
    asked = {"tta": tta, "postprocess": postprocess, "uncertainty": _known_uncertainty(uncertainty)}
    asked["runtime"] = runtime
    source = opened(model, device, runtime=runtime or "torch")  # a model is returned as it is
    chosen = source.with_options(**{name: value for name, value in asked.items() if value is not None})
    check_runtime(chosen.options.runtime, chosen.options.device)
    found = called(_images(chosen, images, target, split, series), names)
    return Predictions(chosen, found, target, bool(uncertainty), skip_existing, spacing_mm, names, rtstruct, shard)


def train(
    config: str | os.PathLike[str] | RunConfig | Mapping[str, Any],
    output: str | os.PathLike[str],
    *,
    set: Mapping[str, Any] | Iterable[str] = (),  # noqa: A002  the command's own word
    resume: bool = False,
    start_from: str | os.PathLike[str] | None = None,
    folds: int | None = None,
    fold: int | None = None,
    device: str = "auto",
) -> Run:
    """Train one method on one data set, and return the run.

    Args:
        config: a YAML file, the name of a shipped config, a `RunConfig`, or its values as nested mappings.
        output: the run folder.
        set: settings in place of the config's, `{"data.root": "ACDC"}`, or texts `data.root=ACDC`.
        resume: go on from the last checkpoint in the run folder.
        start_from: run, bundle or shipped model whose weights are taken first, see `unia-med train --from`.
        folds: train this many folds below `output`, each validating on other patients; together they are one model.
        fold: train this one of the folds alone.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: a config, data set or folder that cannot be used.
        Interrupted: Ctrl-C or a request to stop, after a checkpoint was written.
    """
    from unia_med.build import check_root, resolve_device

    resolved = configured(config, set)
    if start_from is not None:
        resolved = configured(resolved, {"training.start_from": os.fspath(start_from)})
    check_root(resolved.data)
    if fold is not None and folds is None:
        raise UserError(
            f"fold {fold} of how many?", where="--fold", remedy=f"Add --folds, as in --folds 5 --fold {fold}"
        )
    from unia_med.engine.session import run_training
    from unia_med.runs import Run, read_start

    if folds is None:
        run_training(resolved, at_home(output), resume, device, read_start)
    else:
        from unia_med.engine.folds import train_folds

        def opened_fold(folder: Path) -> Predictor:
            return Run(folder).predictor(resolve_device(device), postprocess=False)

        train_folds(resolved, at_home(output), folds, fold, resume, device, read_start, opened_fold)
    return Run(at_home(output))


def evaluate(
    predictions: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    config: RunConfig | str | os.PathLike[str] | None = None,
    split: str | None = None,
    hd95: Any = "max",
    scores: Any = None,
    track: Callable[[Sequence[str]], Iterable[str]] = lambda cases: cases,
) -> Evaluation:
    """Score predicted masks against true ones; see `unia_med.evaluation.evaluate.evaluate`.

    Args:
        predictions: folder of masks, or one file.
        labels: folder of true masks, one file, or, with `config`, the folder of its data set.
        classes: names of the label values 1, 2, 3, ...; or name by value.
        config: a run's config; it also says what values mean.
        split: `train`, `val` or `test`: score only these cases of the data set in `labels`.
        hd95: `max` or `pooled`.
        scores: `case`, `set` or `both`; None chooses by the kind of files.
        track: wraps the names of the cases, to show progress.

    Raises:
        UserError: folders or classes that cannot be used.
    """
    from unia_med.evaluation.evaluate import evaluate as score

    named = at_home(config) if isinstance(config, str | os.PathLike) else config
    folders = at_home(predictions), at_home(labels)
    return score(*folders, classes=classes, config=named, split=split, hd95=hd95, scores=scores, track=track)


def inspect(
    config: str | os.PathLike[str] | RunConfig | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | Iterable[str] = (),  # noqa: A002  the command's own word
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Check a data set before training: faults, what its labels can separate, and advice.

    Args:
        config: as in `train`.
        set: as in `train`.
        progress: called with the number of cases read, and of all.

    Raises:
        UserError: no config, no data folder, no case at all.
    """
    from unia_med.build import build_dataset
    from unia_med.inspection.inspect import inspect_data

    resolved = configured(config, set)
    return inspect_data(build_dataset(resolved.data), resolved, progress)


def export(
    model: str | os.PathLike[str] | Run | Model | Sequence[str | os.PathLike[str] | Run],
    output: str | os.PathLike[str],
    *,
    onnx: bool | None = None,
    authors: str | None = None,
    copyright: str | None = None,  # noqa: A002  the metadata's own word
) -> list[str]:
    """Write a trained run as a MONAI bundle that runs without this package, and return notes about it.

    Args:
        model: a run, its folder, the name of a shipped model, or what `load` made of one; of several runs, and of a
            run of folds, the average.
        output: folder of the bundle; new or empty.
        onnx: write `model.onnx`, too; None does where its packages are there.
        authors: who trained the run, for metadata and model card.
        copyright: notice of the weights, for the metadata.

    Raises:
        UserError: no run, or one that cannot be exported.
    """
    from unia_med.bundle.export import export_bundle
    from unia_med.inference.ensemble import Ensemble
    from unia_med.runs import Run

    chosen = opened(model)
    trained = chosen.trained
    write = functools.partial(export_bundle, onnx=onnx, authors=authors, copyright_notice=copyright)
    runs = [one for one in getattr(trained, "members", [trained]) if isinstance(one, Run)]
    if isinstance(trained, Ensemble) and len(runs) == len(trained.members):
        return write(runs, at_home(output), cleaning=trained.cleaning)
    if not isinstance(trained, Run):
        what = "is a bundle already" if trained.kind == "bundle" else "holds a bundle or another average"
        raise UserError(what, where=trained.name, remedy="Name the runs themselves, or copy the bundle's folder")
    return write(trained, at_home(output))


def choose_next(
    model: str | os.PathLike[str] | Run,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    count: int = 5,
    slices: int = 3,
    device: str = "auto",
    track: Callable[[Sequence[Any]], Iterable[Any]] = lambda cases: cases,
) -> Written:
    """Choose which cases and slices to annotate next, and write their prefilled labels; see `unia-med next`.

    Args:
        model: a run, its folder, a bundle's folder, or the name of a shipped model.
        folder: images to choose from.
        output: new or empty folder; gets `labels/`, `next.csv` and `next.yaml`.
        count: how many cases.
        slices: how many slices of each.
        device: as in `load`.
        track: wraps the cases, to show progress.

    Raises:
        UserError: no run, no image, or a folder that holds something already.
    """
    from unia_med.inference.bundle import Bundle
    from unia_med.runs import Run
    from unia_med.selection.annotate import choose, find_pool
    from unia_med.selection.write import require_new, write_choice

    for name, number in (("count", count), ("slices", slices)):
        if number < 1:
            raise UserError(f"{number}, expected at least 1", where=name, remedy=f"Give --{name} 1 or more")
    require_new(at_home(output))
    loaded = opened(model, device)
    if isinstance(loaded.trained, Bundle):
        config, labelled, start = loaded.trained.config, [], str(loaded.trained.folder.resolve())
    else:
        run = Run.open(model)
        config, labelled, start = run.config, run.labelled, run.shipped or str(run.folder.resolve())
    pool = find_pool(config, at_home(folder), labelled)
    return write_choice(choose(loaded, pool, count, slices, track), pool, config, start, at_home(output))


def opened(
    source: str | os.PathLike[str] | Run | Model | Sequence[str | os.PathLike[str] | Run],
    device: str = "auto",
    *,
    tta: bool | None = None,
    postprocess: bool = True,
    uncertainty: str | None = None,
    runtime: str = "torch",
) -> Model:
    """Return a model whose weights are loaded when they are first needed; a model is returned as it is.

    Arguments are those of `load`; `source` may be a model, too.
    """
    from unia_med.build import resolve_device
    from unia_med.inference.model import Model, Options
    from unia_med.inference.runtime import check_runtime
    from unia_med.sources import trained_source

    if isinstance(source, Model):
        return source
    kind = _known_uncertainty(uncertainty)
    chosen = resolve_device("cpu" if device == "auto" and runtime != "torch" else device)
    check_runtime(runtime, chosen)
    return Model(trained_source(source), Options(chosen, tta, postprocess, kind, runtime))


def configured(
    config: str | os.PathLike[str] | RunConfig | Mapping[str, Any], changes: Mapping[str, Any] | Iterable[str] = ()
) -> RunConfig:
    """Return a checked config.

    Args:
        config: as in `train`.
        changes: as `set` in `train`.
    """
    from unia_med.config.load import apply_override, apply_overrides, parse_config, plain, put_setting, read_config
    from unia_med.config.schema import RunConfig
    from unia_med.config.shipped import find_config

    if isinstance(changes, str):
        raise UserError(f"set is the text {changes!r}", where="set", remedy='Give set={"data.root": "ACDC"}')
    if isinstance(config, RunConfig) and not changes:
        return config
    if isinstance(config, (RunConfig, Mapping)):
        values, origin = (plain(config) if isinstance(config, RunConfig) else dict(config)), None
    elif isinstance(config, (str, os.PathLike)):
        values, origin = read_config(find_config(Path(config))), os.fspath(config)
    else:
        what = f"no config, but of the type {type(config).__name__}"
        raise UserError(what, where="config", remedy='Give the path of a YAML file, or a name such as "acdc.yaml"')
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            apply_override(values, f"{key}={value}") if isinstance(value, str) else put_setting(values, key, value)
    else:
        apply_overrides(values, changes)
    return parse_config(values, origin)


def _known_uncertainty(kind: bool | str | None) -> str | None:
    from unia_med.runs import UNCERTAINTIES

    if isinstance(kind, str) and kind not in UNCERTAINTIES:
        raise UserError(f"unknown uncertainty '{kind}'", where="uncertainty", remedy=suggestion(kind, UNCERTAINTIES))
    return kind if isinstance(kind, str) else None


def _images(
    model: Model, images: Any, output: Path | None, split: str | None, series: str | None
) -> Mapping[str, Any] | Iterator[tuple[str, Any]]:
    """Return images by the names of their results."""
    from unia_med.data.io.dicom.kind import expected_stack
    from unia_med.inference.inputs import by_name, find_inputs, listed
    from unia_med.runs import Run

    if not isinstance(images, (str, os.PathLike)):
        return listed(images)
    if split and series:
        raise UserError("--split and --series contradict each other", where="--series", remedy="Leave one out")
    trained = model.trained
    if split is not None:
        if not isinstance(trained, Run):
            what = f"this {trained.kind} has no split of its own"
            raise UserError(what, where="split", remedy="Leave it out, or name one run")
        return by_name(trained.split_images(at_home(images), split))
    found = find_inputs(at_home(images), output, series, trained.in_pixels, expected_stack(trained.classes))
    if not trained.channel_files.endings:
        return found
    named = ((trained.channel_files.name(image), image) for image in found.values() if isinstance(image, Path))
    return by_name((name, path) for name, path in named if name is not None)
