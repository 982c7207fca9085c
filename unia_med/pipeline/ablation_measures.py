"""What is measured of a run of an ablation: of its volumes, and of its modules within one trained network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unia_med.config.unia import UniaConfig
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.metrics.calibration import area_under_roc
from unia_med.metrics.overlap import dice

if TYPE_CHECKING:
    from unia_med.config.data import GridConfig
    from unia_med.config.schema import RunConfig
    from unia_med.data.sample import EvaluationCase
    from unia_med.inference.predictor import Predictor
    from unia_med.methods.unia import UniA
    from unia_med.runs import Run

MEASURES = ("peak", "CAM", "labels", "prediction")
"""Share of present classes and slices in which the activation map's peak is inside the object; Dice of the thresholded
map and of the labels that the decoder learns at the end (both with tags, undecided pixels counting as background), and
of the prediction, without tags. Dice is that of whole validation volumes, mean over volumes and classes."""

LABELS: dict[str, dict[str, Any]] = {
    "P1": {"label_source": "P1"},
    "P2": {"label_source": "P2"},
    "F": {"label_source": "F", "gates": {"agreement": 1.0, "trust_cam": 1.0}},
    "F, row 2": {"label_source": "F", "gates": {"agreement": 0.0, "trust_cam": 1.0}},
    "F, rows 1 and 2": {"label_source": "F", "gates": {"agreement": 0.0, "trust_cam": 0.0}},
}
"""Labels of the decoder by what makes them: thresholds; PAR; affinity where PAR leaves room; that and the rows of the
mutual complementing refinement which need agreement, or trust the activation map. Settings of each."""

AREAS = ("affinity", "U", "entropy")
"""Areas under the ROC curve: of the affinity of two tokens of training slices, of which one at least is foreground, for
those of one class; of the network's uncertainty map and of the entropy for wrong voxels of whole validation volumes."""

WITHIN = (*LABELS, *AREAS)
"""Measures of `within`; Dice of labels is that of training volumes."""

_MOST_CASES = 40


def measure(run: Run, as_one: bool = False) -> dict[str, float]:
    """Return `MEASURES` on the validation volumes of a run.

    Args:
        run: of a method that has activation maps.
        as_one: all classes are one object.
    """
    config, predictor = run.config, run.predictor()
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for one, tags, values in _cases(config, "val"):
        found["peak"] += peaks_inside(predictor, config.data.grid, values, one, tags, as_one)
        columns = predictor.label_maps(one.volume, tags)
        maps = {"CAM": columns["CAM"], "labels": columns["fused"]}
        maps["prediction"] = predictor.predict_volume(one.volume).labels
        for name, labels in maps.items():
            found[name] += overlaps(labels, one.labels, len(config.data.target_classes), as_one)
    return {name: float(np.mean(values)) for name, values in found.items()}


def within(run: Run, as_one: bool = False) -> dict[str, float | None]:
    """Return `WITHIN`: what modules change within one trained network, so that chance of training has no part in it.

    None stands for what cannot be measured, such as how well errors are found where there are none.

    Args:
        run: of UniA.
        as_one: all classes are one object.

    Raises:
        UserError: the run is one of another method.
    """
    from unia_med.methods.unia import UniA

    config, predictor = run.config, run.predictor()
    if not isinstance(predictor.method, UniA):
        raise UserError(f"the method {config.method.name} has no modules of UniA", run.folder)
    makers = {name: _with_labels(predictor.method, config, changes) for name, changes in LABELS.items()}
    found: dict[str, list[float]] = {name: [] for name in (*LABELS, "affinity")}
    for one, tags, values in _cases(config, "train", _MOST_CASES):
        for name, maker in makers.items():
            labels = maker.label_maps(one.volume, tags)["fused"]
            found[name] += overlaps(labels, one.labels, len(config.data.target_classes), as_one)
        found["affinity"] += affinity_areas(predictor.method, config, one, values)
    means = {name: float(np.mean(scores)) if scores else None for name, scores in found.items()}
    return means | _doubts(predictor, config)


def _with_labels(method: UniA, config: RunConfig, changes: Mapping[str, Any]) -> Predictor:
    """Return what makes labels with a network's weights and other rules."""
    from unia_med.build import build_method
    from unia_med.inference.predictor import Predictor

    assert isinstance(config.method, UniaConfig)
    rules = {**changes, "gates": config.method.gates.model_copy(update=changes.get("gates"))}
    network = config.network.model_copy(update={"weights": "none"})
    changed = config.model_copy(update={"method": config.method.model_copy(update=rules), "network": network})
    other = build_method(changed)
    other.load_state_dict(method.state_dict())
    return Predictor(other, changed)


def affinity_areas(method: UniA, config: RunConfig, case: EvaluationCase, class_values: Sequence[int]) -> list[float]:
    """Return how well affinity tells tokens of one class from tokens of two, per slice that has both kinds of pairs.

    Pairs are those within the radius of the affinity loss, of different tokens that lie in one class for the most part,
    not both background.

    Args:
        method: with its weights.
        config: of the run.
        case: volume and mask.
        class_values: of the T classes in the mask.
    """
    import torch

    from unia_med.data.grid.transforms import place_image
    from unia_med.localise.affinity_refine import radius_mask
    from unia_med.localise.token_grid import majority_labels
    from unia_med.losses.affinity import pair_labels
    from unia_med.methods.base import needed_part
    from unia_med.tensors import size_of

    truth = torch.from_numpy(_truth_slices(case, config.data.grid, class_values).astype(np.int64))
    images, areas = place_image(case.volume, config.data.grid).slices, list[float]()
    for part in torch.arange(len(images)).split(config.inference.batch_slices):
        with torch.no_grad():
            output = method.eval().network(images[part], need_affinity=True)
        grid = size_of(output.inferred.features)
        tokens = majority_labels(truth[part], grid, len(class_values) + 1, method.settings.form.token_purity)
        same, other = pair_labels(tokens, radius_mask(*grid, method.settings.radius, tokens.device))
        foreground = (tokens > 0).flatten(1)  # tokens that are undecided are in no pair
        counts = (foreground.unsqueeze(1) | foreground.unsqueeze(2)) & ~torch.eye(foreground.shape[1], dtype=torch.bool)
        for affinity, one, two in zip(needed_part(output.affinity), same & counts, other & counts, strict=True):
            area = area_under_roc(affinity[one | two].numpy(), one[one | two].numpy())
            areas += [] if area is None else [area]
    return areas


def _doubts(predictor: Predictor, config: RunConfig) -> dict[str, float | None]:
    values: dict[str, list[np.ndarray]] = {"U": [], "entropy": []}
    wrong = []
    for one, _, _ in _cases(config, "val"):
        known = one.labels != IGNORE
        seen = predictor.predict_in_detail(one.volume)
        values["U"].append(seen.network[known])
        values["entropy"].append(seen.entropy[known])
        wrong.append((seen.labels != one.labels)[known])
    return {name: area_under_roc(np.concatenate(all_), np.concatenate(wrong)) for name, all_ in values.items()}


def _cases(
    config: RunConfig, part: str, most: int | None = None
) -> Iterator[tuple[EvaluationCase, np.ndarray, list[int]]]:
    """Yield volumes and masks of a part, evenly chosen where there are more than wanted, with tags and class values."""
    from unia_med.build import build_dataset
    from unia_med.data.slices.dataset import load_tags
    from unia_med.data.splits import split_cases

    dataset = build_dataset(config.data)
    cases = split_cases(dataset.cases(), config.data.split, config.seed)[part]
    chosen = cases if most is None else cases[:: -(-len(cases) // most)]
    tags = load_tags(dataset, chosen, config.data)
    for case in chosen:
        yield dataset.evaluation_case(case), tags[case.name], list(dataset.class_values)


def overlaps(labels: np.ndarray, truth: np.ndarray, classes: int, as_one: bool = False) -> list[float]:
    """Return the Dice of every class that is in a volume or was found in it.

    Args:
        labels: (X, Y, Z), 0 background, `IGNORE` undecided, which is not the class.
        truth: (X, Y, Z), 0 background.
        classes: T.
        as_one: of all classes taken as one.
    """
    if as_one:
        labels, truth, classes = (labels > 0) & (labels != IGNORE), truth > 0, 1
    scores = (dice(labels == value, truth == value) for value in range(1, classes + 1))
    return [score for score in scores if score is not None]


def peaks_inside(
    predictor: Predictor,
    grid: GridConfig,
    class_values: Sequence[int],
    case: EvaluationCase,
    tags: np.ndarray,
    as_one: bool = False,
) -> list[float]:
    """Return 1 or 0 for every class in every slice that holds it: whether the activation map's peak is inside.

    Args:
        predictor: of the run.
        grid: the network's.
        class_values: of the T classes in the mask.
        case: volume and mask.
        tags: (Z, T) of its slices.
        as_one: the peak of all classes together, in any class.
    """
    import torch

    from unia_med.data.grid.transforms import place_image

    slices = place_image(case.volume, grid).slices
    truth = _truth_slices(case, grid, class_values, as_one)
    with torch.no_grad():  # at step 0 a method answers with its maps
        scores = predictor.method.eval().pseudo_probabilities(slices, torch.from_numpy(tags), 0)
    scores = 1 - scores[:, :1] if as_one else scores[:, 1:]
    inside = []
    for k in range(scores.shape[1]):
        held = torch.from_numpy(truth == k + 1).flatten(1)
        hits = held.gather(1, scores[:, k].flatten(1).argmax(1, keepdim=True))[:, 0]
        inside += hits[held.any(1)].float().tolist()
    return inside


def _truth_slices(
    case: EvaluationCase, grid: GridConfig, class_values: Sequence[int], as_one: bool = False
) -> np.ndarray:
    """Return the mask on the network's grid, (Z, H, W)."""
    from unia_med.data.grid.transforms import load_label_slices

    assert case.files.mask is not None  # its labels were read
    values = {0: 0, **{value: 1 if as_one else k for k, value in enumerate(class_values, start=1)}}
    return load_label_slices(case.files.mask, grid, values)
