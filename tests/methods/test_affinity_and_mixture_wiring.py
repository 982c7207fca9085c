"""AffinityNet, AGMM and AA&LR: each part at its place, on small inputs with known answers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.config.load import parse_config
from unia_med.labels import IGNORE
from unia_med.localise.confident import with_background
from unia_med.localise.pixel_pairs import feature_distances, pair_offsets, path_maxima
from unia_med.localise.random_walk import dense_transition, pair_weights
from unia_med.losses.gaussian_mixture import MixtureFit
from unia_med.methods.aalr import Aalr, Targets
from unia_med.methods.affinitynet import AffinityNet
from unia_med.methods.agmm import Agmm
from unia_med.methods.base import Batch

GROUPS = {"RV": ["RV"], "MYO_LV": ["MYO", "LV"]}
GRID = (4, 5)


def _affinitynet(**method: object) -> AffinityNet:
    torch.manual_seed(0)
    small = {"name": "affinitynet", "widths": [8, 8, 8], "stride": 8}
    values = {"network": {"weights": "none"}, "data": {"groups": GROUPS}, "method": {**small, **method}}
    return AffinityNet(parse_config(values)).eval()


def _with_output(method: AffinityNet, channels: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Replace what the affinity network says by known numbers."""
    output = torch.randn(2, channels, *GRID, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(method.network, "forward", lambda images: output)
    return output


def _labels() -> Tensor:
    cells = torch.randint(0, 3, (2, *GRID), generator=torch.Generator().manual_seed(4))
    cells[0, 0, :2] = IGNORE
    return cells


@pytest.mark.parametrize(
    ("affinity", "radius"), [("feature", 2.0), ("feature", 3.0), ("boundary", 2.0), ("boundary", 3.0)]
)
def test_the_affinity_loss_is_that_of_every_pair_within_the_radius(
    affinity: str, radius: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over pairs of cells; the radius of the walk is another one."""
    method = _affinitynet(affinity=affinity, radius=radius, train_backbone=True)
    output = _with_output(method, 6 if affinity == "feature" else 1, monkeypatch)
    cells = _labels()
    batch = Batch(torch.rand(2, 1, 32, 40), torch.ones(2, 2, dtype=torch.int8))
    batch.labels = cells.repeat_interleave(8, 1).repeat_interleave(8, 2)
    with torch.no_grad():
        found = float(method.losses(batch, 0)["affinity"])
    costs: dict[str, list[float]] = {"background": [], "foreground": [], "unlike": []}
    for image in range(2):
        for dy, dx in pair_offsets(radius):
            for y in range(GRID[0] - dy):
                for x in range(max(0, -dx), GRID[1] - max(0, dx)):
                    one, other = int(cells[image, y, x]), int(cells[image, y + dy, x + dx])
                    if IGNORE in (one, other):
                        continue
                    if affinity == "feature":
                        distance = (output[image, :, y, x] - output[image, :, y + dy, x + dx]).abs().mean()
                        alike = torch.exp(-distance)
                    else:
                        alike = 1 - path_maxima(output[image : image + 1], [(dy, dx)])[0, 0, y, x].sigmoid()
                    kind = "unlike" if one != other else "background" if one == 0 else "foreground"
                    costs[kind].append(float(-torch.log(1 - alike if kind == "unlike" else alike)))
    means = {kind: sum(values) / len(values) for kind, values in costs.items()}
    expected = 0.25 * means["background"] + 0.25 * means["foreground"] + 0.5 * means["unlike"]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("affinity", ["feature", "boundary"])
def test_the_walk_starts_where_it_should_and_ends_as_published(affinity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T to the power of 2^2 as a matrix; edges hold maps back and a constant background comes last for boundaries."""
    monkeypatch.setattr("unia_med.methods.affinitynet.WALK_LOG2_STEPS", 2)
    monkeypatch.setattr("unia_med.methods.affinitynet.WALK_RADIUS", 2.0)
    method = _affinitynet(affinity=affinity, radius=4, walk={"beta": 3.0, "alpha": 2.0})
    output = _with_output(method, 6 if affinity == "feature" else 1, monkeypatch)
    maps = torch.rand(2, 2, *GRID, generator=torch.Generator().manual_seed(5))
    tags = torch.tensor([[1, 1], [0, 1]])
    images = torch.rand(2, 1, *GRID)  # of the grid's size, so that nothing is resized
    found = method.walk(images, tags, maps)
    offsets = pair_offsets(2)
    if affinity == "feature":
        costs = feature_distances(output, offsets)
    else:
        costs = F.softplus(path_maxima(output, offsets))
    matrix = torch.linalg.matrix_power(dense_transition(pair_weights(costs, 3.0, offsets), offsets), 4)
    allowed = maps * (tags != 0)[:, :, None, None]
    start = with_background(allowed, 2.0) if affinity == "feature" else allowed * (1 - output.sigmoid())
    walked = (matrix @ start.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, GRID)
    if affinity == "boundary":
        walked = walked / walked.amax((1, 2, 3), keepdim=True)
        walked = torch.cat((torch.full_like(walked[:, :1], 0.25), walked), 1)
    torch.testing.assert_close(found, walked / walked.sum(1, keepdim=True), atol=1e-4, rtol=1e-3)


def test_a_class_that_the_classifier_does_not_find_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its activation map says, which reaches 1 in every slice."""
    method = _affinitynet()
    _with_output(method, 6, monkeypatch)
    maps = torch.rand(2, 2, *GRID, generator=torch.Generator().manual_seed(6))
    logits = torch.tensor([[0.1, -0.1], [-0.1, 0.1]])
    monkeypatch.setattr(method.classifier, "forward", lambda images: (logits, maps))
    with torch.no_grad():
        found = method.predict(torch.rand(2, 1, 32, 40))
    peaks = found.probabilities[:, 1:].amax((2, 3))
    assert torch.equal(peaks > 0, logits > 0)
    torch.testing.assert_close(found.uncertainty, 1 - found.probabilities.amax(1))


def test_where_an_edge_holds_everything_back_there_is_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saturated edges leave no score at all to share out."""
    method = _affinitynet(affinity="boundary", walk={"background": None})
    monkeypatch.setattr(method.network, "forward", lambda images: torch.full((1, 1, *GRID), 200.0))
    assert method.settings.walk.background is None
    found = method.walk(torch.rand(1, 1, *GRID), torch.ones(1, 2), torch.rand(1, 2, *GRID))
    assert (found[:, 0] == 1).all() and (found[:, 1:] == 0).all()


def test_a_walk_starts_from_the_mean_of_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sharpness of 1e9 leaves no step, so that the start is what comes out."""
    method = _affinitynet(walk={"beta": 1e9, "alpha": 2.0})
    _with_output(method, 6, monkeypatch)
    images, maps = torch.rand(2, 1, 32, 40), torch.rand(2, 2, 32, 40, generator=torch.Generator().manual_seed(5))
    start = F.interpolate(F.avg_pool2d(with_background(maps, 2.0), 8), (32, 40), mode="bilinear")
    found = method.walk(images, torch.ones(2, 2), maps)
    torch.testing.assert_close(found, start / start.sum(1, keepdim=True), atol=1e-4, rtol=1e-3)


def _fitted(ratio: float, rounds: int = 1) -> Tensor:
    """Centre of class 1 in a strip: one labelled pixel at 0, three unlabelled at 1 of which the network is sure."""
    features = torch.tensor([[[[0.0, 1.0, 1.0, 1.0, 9.0]]]])
    labels = torch.tensor([[[1, IGNORE, IGNORE, IGNORE, 0]]])
    probabilities = torch.tensor([[[[0.0, 0, 0, 0, 1]], [[1.0, 1, 1, 1, 0]]]])
    fit = MixtureFit(2, variance="fixed", rounds=rounds, mass_ratio=ratio)
    return fit(features, labels, probabilities, torch.ones(1, 1)).centres[0, 1, 0]


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 1 / 3), (2.0, 2 / 3), (3.0, 0.75), (4.0, 0.75)])
def test_unlabelled_pixels_count_at_most_the_ratio_times_the_labelled(ratio: float, expected: float) -> None:
    assert float(_fitted(ratio)) == pytest.approx(expected, abs=1e-3)


def test_agmm_runs_with_a_ratio_of_four_and_a_trust_of_one_half() -> None:
    config = parse_config({"network": {"backbone": "lite0", "weights": "none"}, "method": {"name": "agmm"}})
    fit = Agmm(config).fit
    assert (fit.mass_ratio, fit.trust, fit.prior_floor, fit.minimum_variance) == (4.0, 0.5, 0.02, 1e-3)
    assert (fit.rounds, fit.counts, fit.variance) == (2, [3, 1, 1, 1], "adaptive")


def _agmm(**method: object) -> tuple[Agmm, Batch]:
    torch.manual_seed(0)
    network = {"backbone": "lite0", "weights": "none"}
    method_, batch = (
        Agmm(parse_config({"network": network, "method": {"name": "agmm", **method}})).eval(),
        Batch(torch.rand(2, 1, 32, 48), torch.ones(2, 3, dtype=torch.int8)),
    )
    batch.labels = torch.full((2, 32, 48), IGNORE)
    batch.labels[:, 2, 5:40], batch.labels[:, 10, 5:20], batch.labels[:, 16, 8:20] = 0, 1, 2
    return method_, batch


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_mixture_sees_normalised_embeddings_and_weighted_intensities(
    weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difference of 1 in the image adds `intensity_weight` to the mean distance between two cells."""
    method, batch = _agmm(intensity_weight=weight, position_weight=0.3)
    assert method.fit.position == 0.3
    seen: list[Tensor] = []
    fit = method.fit
    monkeypatch.setattr(method, "fit", lambda *given: seen.append(given[0]) or fit(*given))
    with torch.no_grad():
        output = method.network.embed(batch.images)
        method.losses(batch, 50)
    embeddings = output.embeddings
    variance, mean = torch.var_mean(embeddings, (2, 3), correction=0, keepdim=True)
    plain = (embeddings - mean) / (variance + 1e-5).sqrt()
    cells = F.adaptive_avg_pool2d(batch.images, plain.shape[-2:])
    distance = (seen[0][0, :, 0, 0] - seen[0][0, :, 1, 2]).abs().mean()
    count = plain.shape[1] + (1 if weight else 0)
    expected = (plain[0, :, 0, 0] - plain[0, :, 1, 2]).abs().sum() / count
    expected = expected + weight * (cells[0, 0, 0, 0] - cells[0, 0, 1, 2]).abs()
    torch.testing.assert_close(distance, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("target", ["response", "posterior"])
def test_the_network_learns_from_the_scores_that_are_named(target: str) -> None:
    """Half the binary cross-entropy from them to the softmax, over the classes that have a Gaussian."""
    method, batch = _agmm(self_target=target)
    batch.valid = torch.ones(2, 1, 32, 48)
    batch.valid[:, :, 20:] = 0
    with torch.no_grad():
        output = method.network.embed(batch.images)
        mixture = method._mixture(batch, output, batch.labels)
        found = float(method._self_supervision(batch, output, mixture))
    scores = {"response": mixture.responses((32, 48)), "posterior": mixture.posterior((32, 48))}
    assert not torch.allclose(scores["response"], scores["posterior"], atol=0.05)
    entropy = F.binary_cross_entropy(output.logits.softmax(1), scores[target], reduction="none")[:, :3, :20]
    assert found == pytest.approx(0.5 * float(entropy.mean()), rel=1e-3)


def test_absent_classes_cost_their_probability_within_the_image_alone() -> None:
    method, batch = _agmm()
    batch.tags = torch.tensor([[1, 1, 0], [0, -1, 1]], dtype=torch.int8)
    batch.valid = torch.ones(2, 1, 32, 48)
    batch.valid[:, :, 20:] = 0
    with torch.no_grad():
        chances = method.network.embed(batch.images).logits.softmax(1)[:, :, :20]
        found = float(method.losses(batch, 50)["absent_classes"])
    expected = -(torch.log(1 - chances[0, 3]).mean() + torch.log(1 - chances[1, 1]).mean()) / 2
    assert found == pytest.approx(float(expected), rel=1e-3)


def test_what_is_predicted_of_a_class_that_a_tag_rules_out_does_not_count() -> None:
    """Its variance is that of nothing predicted, 1, and not that of its distances."""
    features = torch.tensor([[[[0.0, 4.0, 9.0]]]])
    labels = torch.tensor([[[1, IGNORE, 0]]])
    probabilities = torch.tensor([[[[0.1, 0.1, 0.9]], [[0.9, 0.9, 0.1]]]])
    fit = MixtureFit(2, variance="adaptive")
    variances = [
        float(fit(features, labels, probabilities, torch.tensor([[tag]])).variance[0, 1]) for tag in (1, -1, 0)
    ]
    expected = (0.9 * 0 + 0.9 * 16 + 0.1 * 81) / 1.9
    assert variances == pytest.approx([expected, expected, 1.0], rel=1e-4)


def _aalr(**method: object) -> Aalr:
    torch.manual_seed(0)
    values = {"network": {"backbone": "lite0", "weights": "none"}, "training": {"iterations": 100}}
    return Aalr(parse_config({**values, "method": {"name": "aalr", **method}}))


def test_aalr_terms_teach_the_parts_they_are_about() -> None:
    parts = {
        "classification": {"tag_head", "backbone"},
        "segmentation": {"decoder", "backbone"},
        "adaptive_affinity": {"decoder", "backbone"},
        "label_reassign": {"projection", "decoder", "backbone"},
    }
    for term, expected in parts.items():
        method = _aalr(weights={name: float(name == term) for name in parts})
        batch = Batch(torch.rand(2, 1, 32, 48), torch.ones(2, 3, dtype=torch.int8))
        batch.labels = torch.randint(0, 4, (2, 32, 48), generator=torch.Generator().manual_seed(1))
        method(batch, 99)["loss"].backward()
        reached = {
            name.split(".")[1]
            for name, parameter in method.named_parameters()
            if parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
        }
        assert reached == expected, term


def test_aalr_hands_its_settings_to_the_affinity_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple] = []
    monkeypatch.setattr("unia_med.methods.aalr.adaptive_affinity", lambda *a: seen.append(a) or a[0].sum())
    form = {"offsets": [3, 5], "weighting": "mean"}
    method, targets = _aalr(affinity=form), Targets(torch.zeros(1, 4, 4).long(), torch.full((1, 4, 4), 0.5))
    logits = torch.zeros(1, 4, 4, 4)
    method._adaptive_affinity(logits, targets)
    assert seen[0][0] is logits and seen[0][1] is targets.labels and seen[0][2] is targets.confidence
    assert list(seen[0][3]) == [3, 5] and seen[0][4:] == (3.0, 0.2, "mean")


def test_aalr_moves_features_towards_centres_that_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    method = _aalr()
    batch = Batch(torch.rand(2, 1, 32, 48), torch.ones(2, 3, dtype=torch.int8))
    batch.labels = torch.randint(0, 4, (2, 32, 48), generator=torch.Generator().manual_seed(1))
    seen: list[bool] = []
    centres = method._centres
    monkeypatch.setattr(
        method, "_centres", lambda points, *rest: seen.append(points.requires_grad) or centres(points, *rest)
    )
    method(batch, 99)
    assert seen == [False]
