"""UniA as a whole: gates, label sources, gradients, and that tags never reach a prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from unia_med.config.schema import RunConfig
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch
from unia_med.methods.label_plan import label_plan
from unia_med.methods.unia import UniA


def _method(**method: object) -> UniA:
    torch.manual_seed(0)
    network = {"weights": "none", "width": 32, "depth": 3, "uncertainty_width": 32}
    values = {"network": network, "method": {"dense_energy_grid": 8, **method}, "training": {"iterations": 100}}
    return UniA(RunConfig.model_validate(values))


def _batch(scores: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tags = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.int8)
    maps = torch.rand(3, 4, 48, 64, generator=generator).softmax(1) if scores else None
    return Batch(torch.rand(3, 1, 48, 64, generator=generator), tags, scores=maps)


def _labels(method: UniA, batch: Batch, step: int = 99) -> dict[str, torch.Tensor]:
    plan = label_plan(method.settings, step, method.iterations)
    output = method.network(batch.images, need_affinity=True)
    return method._pseudo_labels(batch, output, plan, frozenset(("P1", "P2", "F")))


@pytest.mark.parametrize("source", ["P1", "P2", "F"])
@pytest.mark.parametrize("preset", ["default", "published"])
def test_every_trainable_parameter_gets_a_finite_gradient(source: str, preset: str) -> None:
    method = _method(label_source=source, preset=preset, scales=[1.0, 0.5], distribution="kl")
    losses = method(_batch(), 99)
    assert set(losses) == {"loss", *method.settings.weights.model_dump()}
    losses["loss"].backward()
    missing = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    method = _method()
    losses = method(_batch(), 99)
    weights = method.settings.weights.model_dump()
    total = sum(weights[name] * float(losses[name]) for name in weights)
    assert float(losses["loss"]) == pytest.approx(total, rel=1e-5)


def test_gates_open_at_their_fraction_of_the_iterations() -> None:
    method = _method(gates={"segmentation": 0.1, "affinity": 0.5, "token_contrast": 1.0})
    assert "segmentation" not in method(_batch(), 9)
    assert "segmentation" in method(_batch(), 10)
    assert "affinity" not in method(_batch(), 49)
    assert "affinity" in method(_batch(), 50)
    assert "token_contrast" not in method(_batch(), 100)


def test_prior_scores_take_the_place_of_activation_maps() -> None:
    method = _method(label_source="P1", thresholds={"high": 0.55, "low": 0.45})
    batch = _batch()
    batch.scores = torch.zeros(3, 4, 48, 64)
    batch.scores[0, 3, 10:20, 10:20] = 1.0
    batch.scores[0, 2, 30:40, 30:40] = 0.5
    labels = _labels(method, batch)["P1"]
    assert (labels[0, 10:20, 10:20] == 3).all()
    assert (labels[0, 30:40, 30:40] == IGNORE).all()
    assert int((labels[0] == 3).sum()) == 100
    assert (labels[1:] == 0).all()


def test_annotated_pixels_win_and_padding_says_nothing() -> None:
    method = _method(label_source="F")
    batch = _batch(scores=True)
    batch.labels = torch.full((3, 48, 64), IGNORE)
    batch.labels[:, 5, 5] = 2
    batch.valid = torch.ones(3, 1, 48, 64)
    batch.valid[..., :3] = 0
    labels = _labels(method, batch)
    for one in (labels["P1"], labels["P2"], labels["F"]):
        assert (one[:, 5, 5] == 2).all()
        assert (one[..., :3] == IGNORE).all()


def test_an_untagged_batch_without_scores_trains_background_and_stays_finite() -> None:
    method = _method()
    batch = Batch(torch.rand(2, 1, 48, 48), torch.zeros(2, 3, dtype=torch.int8))
    losses = method(batch, 99)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])


def test_prediction_needs_no_tags_and_sums_to_one() -> None:
    method = _method().eval()
    with torch.no_grad():
        prediction = method.predict(_batch().images)
    assert prediction.probabilities.shape == (3, 4, 48, 64)
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(3, 48, 64))
    assert prediction.uncertainty.min() >= 0
    assert prediction.uncertainty.max() <= 1


def test_the_pretrained_stages_learn_at_the_base_rate_the_rest_faster() -> None:
    method = UniA(RunConfig.model_validate({"network": {"weights": "none"}, "training": {"head_multiplier": 10}}))
    rates = {id(p): group["lr"] for group in method.parameter_groups(1e-4, 0.01) for p in group["params"]}
    assert rates[id(method.network.backbone.stages.conv_stem.weight)] == pytest.approx(1e-4)
    assert rates[id(method.network.decoder.classifier.weight)] == pytest.approx(1e-3)


def test_the_segmentation_loss_is_the_one_that_is_named() -> None:
    """Balanced: half the background mean plus half the foreground mean; plain: the mean over all pixels."""
    batch = _batch(scores=True)
    batch.scores = torch.zeros(3, 4, 48, 64)
    batch.scores[0, 3, :8, :8] = 1.0
    found = {}
    for form in ("balanced", "plain"):
        method = _method(label_source="P1", segmentation_loss=form).eval()
        with torch.no_grad():
            logits = method.network(batch.images).logits
            found[form] = float(method(batch, 99)["segmentation"])
    per_pixel = torch.nn.functional.cross_entropy(logits, batch.scores.argmax(1), reduction="none")
    foreground = batch.scores[:, 3] > 0
    halves = 0.5 * per_pixel[foreground].mean() + 0.5 * per_pixel[~foreground].mean()
    assert found["balanced"] == pytest.approx(float(halves), rel=1e-4)
    assert found["plain"] == pytest.approx(float(per_pixel.mean()), rel=1e-4)


def test_samples_do_not_depend_on_batching_and_vanish_with_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    method = _method().eval()
    images = _batch().images
    with torch.no_grad():
        together, again = method.predict_samples(images, 3), method.predict_samples(images, 3)
        alone = method.predict_samples(images[1:2], 3)
        plain = method.predict(images)
        torch.testing.assert_close(together.probabilities, again.probabilities, rtol=0, atol=0)
        torch.testing.assert_close(alone.probabilities, together.probabilities[1:2])
        torch.testing.assert_close(together.uncertainty, plain.uncertainty)
        assert not torch.allclose(together.probabilities, plain.probabilities, atol=1e-4)
        inferred = method.network.uncertainty.forward

        def certain(*arguments: object, **named: object) -> object:
            return replace(inferred(*arguments, **named), log_variance=torch.full((1, 1, 1, 1), -200.0))

        monkeypatch.setattr(method.network.uncertainty, "forward", certain)
        torch.testing.assert_close(method.predict_samples(images, 3).probabilities, plain.probabilities)


def test_a_running_peak_follows_training_alone_and_keeps_a_faint_slice_faint() -> None:
    torch.manual_seed(0)
    settings = {"cam_normalisation": "running", "cam_source": "auxiliary", "scales": [1.0], "flip": False}
    method = _method(gates={"segmentation": 0.5}, **settings)
    contrast = torch.tensor([0.1, 0.4, 0.7, 1.0]).view(4, 1, 1, 1)
    images, tags = torch.rand(4, 1, 32, 32) * contrast, torch.ones(4, 3, dtype=torch.int8)
    batch = Batch(images, tags)
    method.losses(batch, 0)
    assert (method.cam_peaks > 0).all()
    before = method.cam_peaks.clone()
    method.eval()
    with torch.no_grad():
        method.losses(batch, 0)
        assert torch.equal(method.cam_peaks, before)
        output = method.network(images)
        enlarged = F.interpolate(output.aux_cam, size=(32, 32), mode="bilinear", align_corners=False)
        peaks = enlarged.relu().amax((1, 2, 3))
        method.cam_peaks.fill_(float(peaks.max()))
        maps, _ = method._activation_maps(batch, output)
    torch.testing.assert_close(maps.amax((1, 2, 3)), peaks / peaks.max(), rtol=1e-3, atol=0)
    assert maps.amax((1, 2, 3)).min() < 0.9


@pytest.mark.parametrize("normalisation", ["slice", "class"])
def test_before_the_decoder_learns_the_maps_are_the_probabilities(normalisation: str) -> None:
    """Odds of the strongest class against background are its map over the threshold; an absent class has none."""
    gates, thresholds = {"segmentation": 0.5}, {"background": 0.25}
    method = _method(gates=gates, cam_normalisation=normalisation, thresholds=thresholds).eval()
    images, tags = torch.rand(3, 1, 32, 32), torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.int8)
    with torch.no_grad():
        early = method.pseudo_probabilities(images, tags, 0)
        late = method.pseudo_probabilities(images, tags, 51)  # the gate opens at step 50
        assert torch.equal(early, method.pseudo_probabilities(images, tags, 50))
        maps, _ = method._activation_maps(Batch(images, tags), method.network(images))
    maps = maps * tags[:, :, None, None]
    assert torch.allclose(early.sum(1), torch.ones(3, 32, 32))
    odds = early[:, 1:] / early[:, :1]
    assert torch.allclose(odds.amax(1), maps.amax(1) / 0.25, atol=1e-4)
    assert torch.equal(odds[1].argmax(0), maps[1].argmax(0)) and ((early[:, 1:] > 0).sum(1) <= 1).all()
    assert early[0, 2].max() == 0 and early[2, 0].min() == 1
    assert torch.equal(late, method.predict(images).probabilities)
