"""The methods cam and affinitynet as wholes: gradients, what tags and labels decide, the classifier that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unia_med.config.load import parse_config
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.localise.confident import LABEL_CRF, SCORE_CRF
from unia_med.methods.affinitynet import AffinityNet
from unia_med.methods.base import Batch
from unia_med.methods.cam import Cam, activation_maps, confident_from_maps
from unia_med.nn.cam_network import CamNetwork

GROUPS = {"RV": ["RV"], "MYO_LV": ["MYO", "LV"]}
SMALL = {"widths": [8, 8, 8]}


def _config(weights: str = "none", **method: object) -> object:
    return parse_config({"network": {"weights": weights}, "data": {"groups": GROUPS}, "method": method})


def _affinitynet(**method: object) -> AffinityNet:
    torch.manual_seed(0)
    return AffinityNet(_config(name="affinitynet", **{**SMALL, **method}))


def _batch() -> Batch:
    images = torch.rand(3, 1, 48, 64, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor([[1, 1], [0, 1], [0, 0]], dtype=torch.int8))


@pytest.mark.parametrize("pooling", ["max", "score_max", "logsumexp", "mean"])
def test_poolings_agree_with_their_definition(pooling: str) -> None:
    torch.manual_seed(0)
    network = CamNetwork("none", 2, width=16, pooling=pooling).eval()
    images = _batch().images
    with torch.no_grad():
        logits, scores = network(images)
        flat = scores.flatten(2)
        expected = {
            "score_max": flat.amax(2),
            "mean": flat.mean(2),
            "logsumexp": (4 * flat).exp().mean(2).log() / 4,
        }
    assert scores.shape == (3, 2, 6, 8)
    if pooling == "max":  # each feature has its own peak, so no bound but this one: one cell gives one score
        small = CamNetwork("none", 2, width=16, stride=16).eval()
        with torch.no_grad():
            one, whole = small(images[..., :16, :16])
        torch.testing.assert_close(one, whole.flatten(1))
    else:
        torch.testing.assert_close(logits, expected[pooling], atol=1e-5, rtol=1e-4)


def test_cam_trains_and_its_maps_reach_one_and_follow_the_tags() -> None:
    torch.manual_seed(0)
    method = Cam(_config(name="cam"))
    method(_batch(), 0)["loss"].backward()
    assert all(p.grad is not None for p in method.parameters())
    method.eval()
    maps = activation_maps(method.network, _batch().images, method.settings)
    peaks = maps.amax((2, 3))
    assert (((peaks - 1).abs() < 1e-2) | (peaks == 0)).all()
    labels = method.label_maps(_batch())
    assert set(labels) == {"CAM", "confident"}
    assert labels["CAM"][2].max() == 0 and labels["confident"][2].max() == 0  # an empty slice is background
    assert 1 not in labels["CAM"][1] and 1 not in labels["confident"][1]
    prediction = method.predict(_batch().images)
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(3, 48, 64))


@pytest.mark.parametrize("affinity", ["feature", "boundary"])
@pytest.mark.parametrize("stride", [2, 8])
def test_every_trainable_parameter_gets_a_finite_gradient(affinity: str, stride: int) -> None:
    method = _affinitynet(affinity=affinity, stride=stride)
    batch = _batch()
    batch.labels = torch.full((3, 48, 64), IGNORE)
    batch.labels[:, 8:24], batch.labels[:, 32:40] = 0, 2
    losses = method(batch, 0)
    assert set(losses) == {"loss", "affinity", "classification"}
    losses["loss"].backward()
    learns = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert [n for n, p in learns.items() if p.grad is None or not p.grad.isfinite().all()] == []
    frozen = {name for name, parameter in method.named_parameters() if not parameter.requires_grad}
    assert bool(frozen) is (affinity == "boundary") and all(name.startswith("network.stages.") for name in frozen)


def test_unlabelled_and_outside_pixels_teach_no_pair() -> None:
    method = _affinitynet().train(False)
    batch = _batch()
    batch.labels = torch.full((3, 48, 64), IGNORE)
    assert float(method.losses(batch, 0)["affinity"].detach()) == 0
    batch.labels[:] = 0
    assert float(method.losses(batch, 0)["affinity"].detach()) > 0
    batch.valid = torch.zeros(3, 1, 48, 64)
    assert float(method.losses(batch, 0)["affinity"].detach()) == 0


def test_prediction_and_labels() -> None:
    method = _affinitynet().eval()
    batch = _batch()
    with torch.no_grad():
        prediction = method.predict(batch.images)
        labels = method.label_maps(batch)
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(3, 48, 64))
    assert set(labels) == {"CAM", "confident", "walk"}
    assert labels["walk"][2].max() == 0
    assert 1 not in labels["walk"][1]


def test_a_walk_of_no_steps_keeps_the_order_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unia_med.methods.affinitynet.WALK_LOG2_STEPS", 0)
    method = _affinitynet(stride=2, walk={"beta": 1e9}).eval()
    tags = _batch().tags
    maps = torch.zeros(3, 2, 48, 64)
    maps[:, 1, 16:32, 16:48] = 1.0
    labels = method.walk(_batch().images, tags, maps).argmax(1)
    assert (labels[0, 17:31, 17:47] == 2).all() and (labels[0, :15] == 0).all() and labels[2].max() == 0


def test_labels_of_the_batch_are_trusted_seeds() -> None:
    method = _affinitynet().eval()
    batch = _batch()
    batch.labels = torch.full((3, 48, 64), IGNORE)
    batch.labels[:2, 4:6], batch.labels[:2, 30:34, 20:40] = 0, 2
    with torch.no_grad():
        walked = method.label_maps(batch)["walk"]
    known = batch.labels != IGNORE
    assert torch.equal(walked[known], batch.labels[known])
    assert set(walked[:2].unique().tolist()) == {0, 2}  # every cell meets one of the seeds, and no other class
    assert set(walked[2].unique().tolist()) == {IGNORE}  # no seed, nothing to say


def test_a_given_classifier_is_loaded_and_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = Cam(_config(name="cam"))
    run = tmp_path / "classifier"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"format": 1, "ema": trained.state_dict()}, run / "checkpoints" / "best.pt")
    method = AffinityNet(_config("package", name="affinitynet", **SMALL, classifier=str(run)))
    method.train()
    before = {name: value.clone() for name, value in method.classifier.state_dict().items()}
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(method.network.stages.conv_stem.weight, trained.network.stages.conv_stem.weight)
    losses = method(_batch(), 0)
    losses["loss"].backward()
    assert "classification" not in losses
    assert all(torch.equal(value, before[name]) for name, value in method.classifier.state_dict().items())
    assert all(not p.requires_grad for p in method.classifier.parameters())
    method.parameter_groups(1e-3, 0.01)


def test_a_classifier_of_another_form_is_refused(tmp_path: Path) -> None:
    trained = Cam(_config(name="cam"))
    trained.network.classifier = torch.nn.Conv2d(24, 2, 1, bias=False)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"format": 1, "ema": trained.state_dict()}, tmp_path / "checkpoints" / "best.pt")
    with pytest.raises(UserError, match="method.cam"):
        AffinityNet(_config("package", name="affinitynet", **SMALL, classifier=str(tmp_path)))


def test_a_finished_run_needs_its_classifier_no_more_but_training_does(tmp_path: Path) -> None:
    method = AffinityNet(_config(name="affinitynet", **SMALL, classifier=str(tmp_path / "gone"))).eval()
    with torch.no_grad():
        assert method.predict(_batch().images).probabilities.shape == (3, 3, 48, 64)
    with pytest.raises(UserError, match="gone"):
        method.losses(_batch(), 0)


def test_boundary_brings_its_published_defaults_and_the_user_wins() -> None:
    settings = _config(name="affinitynet", affinity="boundary", walk={"beta": 5}).method
    assert (settings.walk.beta, settings.walk.background) == (5, 0.25)
    assert settings.confident.background == "constant"
    assert (settings.radius, settings.train_backbone) == (10.0, False)
    mine = _config(name="affinitynet", affinity="boundary", radius=4, train_backbone=True).method
    assert (mine.radius, mine.train_backbone) == (4.0, True)
    feature = _config(name="affinitynet").method
    assert (feature.radius, feature.train_backbone) == (5.0, True)
    again = parse_config({"data": {"groups": GROUPS}, "method": settings.model_dump(mode="json")}).method
    assert again == settings


def test_constant_seeds_are_thresholds() -> None:
    settings = _config(name="affinitynet", affinity="boundary", confident={"refine": "none"}).method.confident
    maps = torch.tensor([[[[0.31, 0.29, 0.06, 0.04]]]])
    labels = confident_from_maps(maps, torch.tensor([[1]]), torch.zeros(1, 1, 1, 4), settings)
    assert labels.flatten().tolist() == [1, IGNORE, IGNORE, 0]


def test_seeds_with_exponents_are_sure_where_both_say_so() -> None:
    """Class where m > (1 - m)^4, from 0.276; background where m < (1 - m)^32, to 0.074; another class stays out."""
    settings = _config(name="cam", confident={"refine": "none"}).method.confident
    maps = (
        torch.tensor([0.05, 0.07, 0.08, 0.2, 0.27, 0.28, 0.9]).expand(1, 2, 1, 7)
        * torch.tensor([1.0, 0.9])[None, :, None, None]
    )
    labels = confident_from_maps(maps, torch.tensor([[1, 1]]), torch.zeros(1, 1, 1, 7), settings)
    assert labels.flatten().tolist() == [0, 0, IGNORE, IGNORE, IGNORE, 1, 1]
    labels = confident_from_maps(maps, torch.tensor([[0, 1]]), torch.zeros(1, 1, 1, 7), settings)
    assert labels.flatten().tolist() == [0, 0, 0, IGNORE, IGNORE, IGNORE, 2]


def test_a_class_that_the_classifier_does_not_find_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are a constant for background and maps that reach 1, of classes whose logit is positive."""
    method = Cam(_config(name="cam", background=0.4)).eval()
    maps = torch.tensor([[[[0.2, 1.0]], [[2.0, 0.5]]]])
    for logits, expected in (
        ([1.0, 1.0], [[0.4, 0.4], [0.2, 1.0], [1.0, 0.25]]),
        ([1.0, -1.0], [[0.4, 0.4], [0.2, 1.0], [0.01, 0.01]]),
        ([-1.0, -1.0], [[0.4, 0.4], [0.01, 0.01], [0.01, 0.01]]),
    ):
        monkeypatch.setattr(method.network, "forward", lambda images, made=logits: (torch.tensor([made]), maps))
        scores = torch.tensor(expected)
        found = method.predict(torch.zeros(1, 1, 1, 2))
        torch.testing.assert_close(found.probabilities[0, :, 0], scores / scores.sum(0), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found.uncertainty, 1 - found.probabilities.amax(1))


def test_confident_maps_take_the_crf_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """PSA's of scores with exponents, IRN's of labels with constants."""
    seen = []

    def stub(images: torch.Tensor, settings: object, of_labels: bool) -> object:
        seen.append((settings, of_labels))
        return lambda scores: scores.flip(3)

    monkeypatch.setattr("unia_med.methods.cam.crf_refinement", stub)
    maps = torch.tensor([[[[0.9, 0.0]]]])
    for form in ("alpha", "constant"):
        settings = _config(name="cam", confident={"refine": "crf", "background": form}).method.confident
        labels = confident_from_maps(maps, torch.tensor([[1]]), torch.zeros(1, 1, 1, 2), settings)
        assert labels.flatten().tolist() == [0, 1]
    assert seen == [(SCORE_CRF, False), (LABEL_CRF, True)]
