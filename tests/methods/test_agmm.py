"""AGMM as a whole: label sources, schedules, gradients, a run on scribbles, and that tags never reach a prediction."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from unia_med.config.schema import RunConfig
from unia_med.engine.session import train
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.methods.agmm import Agmm
from unia_med.methods.base import Batch

NETWORK = {"backbone": "lite0", "weights": "none"}
SEEDS = {"seeds": {"use": True, "start": 0.2}, "weights": {"classification": 0.5}}


def _method(**method: object) -> Agmm:
    torch.manual_seed(0)
    values = {"network": NETWORK, "method": {"name": "agmm", **method}, "training": {"iterations": 100}}
    return Agmm(RunConfig.model_validate(values))


def _batch(labels: bool = True) -> Batch:
    tags = torch.tensor([[1, 1, 1], [0, 1, -1]], dtype=torch.int8)
    batch = Batch(torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(1)), tags)
    if labels:
        batch.labels = torch.full((2, 32, 48), IGNORE)
        batch.labels[:, 2, 5:40], batch.labels[0, 10, 5:20], batch.labels[:, 16, 8:20] = 0, 1, 2
        batch.labels[0, 22, 20:30] = 3
    return batch


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mix_loss": "bce", "em_rounds": 0, "variance": "fixed", "centres_per_class": [1]},
        {"self_target": "posterior", "position_weight": 0.5},
        {**SEEDS, "weights": {"classification": 0.5}},
    ],
)
def test_every_parameter_gets_a_finite_gradient(settings: dict) -> None:
    method = _method(**settings)
    losses = method(_batch(), 99)
    losses["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    weights = method.settings.weights.model_dump()
    total = sum(weights[name] * float(value.detach()) for name, value in losses.items() if name != "loss")
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-5)


def test_the_published_terms_and_the_journals() -> None:
    assert set(_method()(_batch(), 99)) == {
        "loss", "segmentation", "self_supervision", "mixture", "absent_classes",
    }  # fmt: skip
    assert "separation" in _method(mix_loss="bce")(_batch(), 99)


def test_self_supervision_rises_linearly() -> None:
    method = _method(self_ramp=0.2)
    assert [method._weights(step)["self_supervision"] for step in (0, 5, 10, 20, 99)] == pytest.approx(
        [0, 0.25, 0.5, 1, 1]
    )
    assert _method(self_ramp=0.0)._weights(0)["self_supervision"] == 1.0


def test_self_supervision_teaches_both_the_mixture_and_the_network() -> None:
    method = _method()
    method(_batch(), 99)["self_supervision"].backward()
    for layer in (method.network.projection, method.network.decoder.classifier):
        assert layer.weight.grad is not None and float(layer.weight.grad.abs().max()) > 0


def test_a_batch_in_which_nothing_is_labelled_costs_nothing() -> None:
    method, batch = _method(), _batch()
    batch.labels[:] = IGNORE
    batch.tags[:] = -1
    losses = method(batch, 99)
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in method.parameters())


def test_scores_of_a_prior_are_labels_where_nothing_is_drawn_and_padding_says_nothing() -> None:
    method, batch = _method(), _batch()
    batch.scores = torch.zeros(2, 4, 32, 48)
    batch.scores[:, 3, :, 24:] = 1.0
    batch.scores[:, 2, :, :4] = 0.5
    batch.valid = torch.ones(2, 1, 32, 48)
    batch.valid[:, :, -3:] = 0
    labels = method._labels(batch, method.network.embed(batch.images), 99)
    assert labels[0, 2, 30] == 0  # drawn
    assert labels[0, 5, 30] == 3
    assert labels[0, 5, 2] == IGNORE  # doubtful
    assert labels[0, 5, 10] == 0
    assert (labels[:, -3:] == IGNORE).all()
    assert labels[1, 5, 30] == 3  # its tag is unknown, which rules nothing out


def test_seeds_wait_for_their_start_and_fill_only_what_is_not_drawn() -> None:
    method, batch = _method(**{**SEEDS, "seeds": {"use": True, "start": 0.2}}), _batch()
    output = method.network.embed(batch.images)
    maps = torch.zeros(*output.maps.shape[:2], 12, 12)  # wide enough to lose its rim
    maps[:, 0, :6], maps[:, 1, 6:] = 1.0, 1.0
    object.__setattr__(output, "maps", maps)
    batch.labels[batch.labels == 2] = IGNORE
    assert torch.equal(method._labels(batch, output, 19), batch.labels)
    found = method._labels(batch, output, 20)
    assert (found[0] == 2).any() and not (found[0][batch.labels[0] == IGNORE] == 1).any()


def test_tags_alone_train_by_seeds() -> None:
    method, batch = _method(**SEEDS), _batch(labels=False)
    batch.tags[:] = 1
    assert float(method(batch, 10)["segmentation"].detach()) == 0
    assert set(method.eval().label_maps(batch)) == {"CAM", "labels", "mixture", "prediction"}


def test_label_maps_of_slices_without_labels() -> None:
    with torch.no_grad():
        assert set(_method().eval().label_maps(_batch(labels=False))) == {"prediction"}
        columns = _method().eval().label_maps(_batch())
    assert columns["mixture"].shape == (2, 32, 48)
    assert not (columns["mixture"][1] == 3).any() and not (columns["mixture"][1] == 1).any()  # not drawn there


def test_a_run_without_any_label_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to learn from"):
        _method()(_batch(labels=False), 0)
    with pytest.raises(ValidationError, match=r"weights\.classification"):
        _method(seeds={"use": True})


def test_half_precision_gives_a_finite_loss() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = _method()(_batch(), 99)
    losses["loss"].backward()
    assert losses["loss"].isfinite() and losses["loss"].dtype == torch.float32


def test_prediction_needs_no_tags_and_sums_to_one() -> None:
    with torch.no_grad():
        prediction = _method().eval().predict(_batch().images)
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(2, 32, 48))
    assert 0 <= prediction.uncertainty.min() and prediction.uncertainty.max() <= 1


def test_a_run_on_scribbles_writes_finite_losses_and_scores(tiny_acdc: Path, tmp_path: Path) -> None:
    values = {
        "data": {
            "root": tiny_acdc,
            "labels": [{"kind": "scribbles", "source": "masks", "fill": "rule"}],
            "grid": {"spacing_mm": 1.5, "size": [32, 32]},
        },
        "network": NETWORK,
        "method": {"name": "agmm"},
        "training": {"iterations": 4, "batch_size": 4, "validate_every": 4, "log_every": 2},
    }
    assert train(RunConfig.model_validate(values), tmp_path / "run", device="cpu") == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["mixture"]) > 0 and 0 <= float(row["val_dice"]) <= 1


def test_the_released_form_is_one_preset_and_the_user_wins() -> None:
    method = _method(preset="released", em_rounds=1)
    settings = method.settings
    assert (settings.variance, settings.mix_loss, settings.self_ramp, settings.em_rounds) == ("fixed", "bce", 0.0, 1)
    assert settings.weights.absent_classes == 1.0 and method.fit.owners == [0, 1, 2, 3]
    assert {"separation", "self_supervision"} <= set(method(_batch(), 0))
