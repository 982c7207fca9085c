"""AA&LR as a whole: pseudo labels and their confidence, reassignment, growth, phases, and a short run with scores."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from unia_med.cardiac.phantom.bank import draw_bank
from unia_med.config.schema import AugmentConfig, RunConfig, TrainingConfig
from unia_med.data.slices.synthetic import SyntheticSlices
from unia_med.engine.trainer import Trainer
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.methods.aalr import Aalr, Targets
from unia_med.methods.base import Batch

NETWORK = {"backbone": "lite0", "weights": "none"}


def _config(**method: object) -> RunConfig:
    values = {"network": NETWORK, "method": {"name": "aalr", **method}, "training": {"iterations": 100}}
    return RunConfig.model_validate(values)


def _method(**method: object) -> Aalr:
    torch.manual_seed(0)
    return Aalr(_config(**method))


def _batch() -> Batch:
    tags = torch.tensor([[1, 1, 1], [0, 1, 1]], dtype=torch.int8)
    return Batch(torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(1)), tags)


def _drawn() -> Batch:
    batch = _batch()
    batch.labels = torch.full((2, 32, 48), IGNORE)
    batch.labels[:, 2, 5:40], batch.labels[:, 16, 8:20], batch.labels[:, 22, 20:30] = 0, 2, 3
    return batch


@pytest.mark.parametrize("batch", [_batch(), _drawn()], ids=["tags", "scribbles"])
@pytest.mark.parametrize("settings", [{}, {"segmentation_loss": "plain", "segmentation_dice": True, "pooling": "mean"}])
def test_every_parameter_gets_a_finite_gradient(settings: dict, batch: Batch) -> None:
    method = _method(**settings)
    losses = method(batch, 99)
    weights = method.settings.weights.model_dump()
    assert set(losses) == {"loss", *weights}
    losses["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    total = sum(weights[name] * float(losses[name].detach()) for name in weights)
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-5)


def test_phases_follow_the_fractions_of_the_iterations() -> None:
    method = _method()
    assert set(method._active_weights(0)) == {"classification"}
    assert set(method._active_weights(25)) == {"classification", "segmentation"}
    assert method._active_weights(45)["adaptive_affinity"] == pytest.approx(0.05)
    assert method._active_weights(60)["label_reassign"] == pytest.approx(0.05)
    assert set(_method(online={"use": False})._active_weights(0)) == {"segmentation"}


def test_exact_slices_are_not_reassigned_and_teach_no_centre() -> None:
    """A lead of 0 changes nearly every point of a random network; the exact slice keeps all, the other one does not."""
    method, batch = _method(online={"use": False}, reassign={"lead": 0.0, "cap": 1.0}), _batch()
    batch.tags[:] = 1
    batch.scores = F.one_hot(torch.randint(0, 4, (2, 32, 48)), 4).movedim(-1, 1).float()
    batch.exact = torch.tensor([True, False])
    found = method._targets(batch, method.network.embed(batch.images), 99, True)
    assert torch.equal(found.labels[0], batch.scores[0].argmax(0))
    assert not torch.equal(found.labels[1], batch.scores[1].argmax(0))
    batch.exact[:] = True
    method.bank.zero_(), method.seen.zero_()
    losses = method(batch, 99)
    assert float(losses["label_reassign"].detach()) == 0 and not method.seen.any()


def test_the_temperature_of_memberships_is_the_setting() -> None:
    """A high temperature leaves no class a lead, so nothing is reassigned; a low one does."""
    changed = []
    for temperature in (1e-3, 1e3):
        form = {"temperature": temperature, "lead": 0.3, "cap": 1.0}
        method, batch = _method(online={"use": False}, reassign=form), _batch()
        batch.tags[:] = 1
        generator = torch.Generator().manual_seed(3)
        batch.scores = F.one_hot(torch.randint(0, 4, (2, 32, 48), generator=generator), 4).movedim(-1, 1).float()
        found = method._targets(batch, method.network.embed(batch.images), 99, True)
        changed.append(bool((found.labels != batch.scores.argmax(1)).any()))
    assert changed == [True, False]


def test_nothing_labelled_costs_nothing() -> None:
    method, batch = _method(online={"use": False}, gates={"grow": 1.0}), _drawn()
    batch.labels[:] = IGNORE
    losses = method(batch, 99)
    losses["loss"].backward()
    assert losses["loss"].item() == 0


def test_scores_give_labels_and_confidence_which_agreement_lowers() -> None:
    method, batch = _method(), _drawn()
    batch.scores = torch.zeros(2, 4, 32, 48)
    batch.scores[:, 3, :, 24:] = 0.8
    batch.scores[:, 0, :, :24] = 1.0
    batch.valid = torch.ones(2, 1, 32, 48)
    batch.valid[..., -4:] = 0
    output = method.network.embed(batch.images)
    early, late = (method._pseudo_labels(batch, output, step) for step in (0, 99))
    assert early.labels[0, 5, 30] == 3 and early.confidence[0, 5, 30].item() == pytest.approx(0.8)
    chance = output.logits.softmax(1)[0, 3, 5, 30].item()
    assert late.confidence[0, 5, 30].item() == pytest.approx(0.8 * chance, rel=1e-5)
    assert late.labels[0, 16, 10] == 2 and late.confidence[0, 16, 10] == 1  # drawn
    assert (late.labels[..., -4:] == IGNORE).all() and late.confidence[..., -4:].max() == 0


def test_slices_with_drawn_labels_take_none_from_activation_maps() -> None:
    method, batch = _method(), _drawn()
    batch.labels[1] = IGNORE
    found = method._pseudo_labels(batch, method.network.embed(batch.images), 0)
    assert torch.equal(found.labels[0], batch.labels[0])
    assert (found.labels[1] != IGNORE).any()
    assert not (found.labels[1] == 1).any()  # its tag says absent


def test_labels_on_line_say_nothing_about_padding() -> None:
    method, batch = _method(), _batch()
    batch.valid = torch.ones(2, 1, 32, 48)
    batch.valid[..., 40:] = 0
    found = method._pseudo_labels(batch, method.network.embed(batch.images), 0)
    assert (found.labels[..., 40:] == IGNORE).all() and (found.labels[..., 24:40] != IGNORE).any()


def test_corrected_pixels_follow_their_cell_only_if_they_had_its_label() -> None:
    first = Targets(torch.tensor([[[1, 1, 0, 0], [1, 2, 0, 0]]]), torch.full((1, 2, 4), 0.5))
    old, new = torch.tensor([[1, 0]]), torch.tensor([[3, 0]])
    found = Aalr._corrected(first, old, new, torch.tensor([[True, False]]), torch.tensor([[0.95, 0.7]]), (1, 2))
    assert found.labels.tolist() == [[[3, 3, 0, 0], [3, 2, 0, 0]]]
    assert found.confidence[0, 0, 0].item() == pytest.approx(0.95)
    assert found.confidence[0, 1, 1].item() == pytest.approx(0.5)
    gone = torch.tensor([[IGNORE, 0]])
    dropped = Aalr._corrected(first, old, gone, torch.tensor([[True, False]]), old.float(), (1, 2))
    assert dropped.labels[0, 0, 0] == IGNORE and dropped.confidence[0, 0, 0] == 0


def test_drawn_labels_grow_where_network_and_centres_agree_and_only_in_drawn_slices() -> None:
    method, batch = _method(), _drawn()
    batch.labels[1] = IGNORE
    batch.images = (torch.arange(48) >= 24).float().expand(2, 1, 32, 48)  # an edge that refinement does not cross
    batch.valid = torch.ones(2, 1, 32, 48)
    batch.valid[..., 46:] = 0
    output = method.network.embed(batch.images)
    logits = torch.zeros_like(output.logits)
    logits[:, 2, :, 24:] = 50.0
    logits[:, 2, 26, 40] = math.log(4.5)  # 0.6 of four classes, among pixels of which the network is sure
    object.__setattr__(output, "logits", logits)
    membership = torch.full((2, 4, 16 * 24), -50.0)
    membership[:, 2] = 0.0
    membership[:, :, : 8 * 24], membership[:, 0, : 8 * 24] = -50.0, 0.0  # the upper half lies near the background
    first = Targets(batch.labels, (batch.labels != IGNORE).float())
    found = method._grown(batch, output, first, membership, (16, 24))
    assert found.labels[0, 28, 44] == 2 and found.confidence[0, 28, 44] > 0.9
    assert found.labels[0, 26, 40] == 2 and found.confidence[0, 26, 40].item() == pytest.approx(0.6, abs=0.05)
    assert (found.labels[..., 46:] == IGNORE).all()  # not of the image
    assert found.labels[0, 8, 44] == IGNORE  # centres disagree
    assert found.labels[0, 28, 3] == IGNORE  # the network is not sure
    assert (found.labels[1] == IGNORE).all()


def test_drawn_points_survive_reassignment() -> None:
    method, batch = _method(reassign={"lead": 0.0, "cap": 1.0}), _drawn()
    found = method._targets(batch, method.network.embed(batch.images), 99, True)
    known = batch.labels != IGNORE
    assert torch.equal(found.labels[known], batch.labels[known])


def test_the_bank_learns_in_training_only_and_is_saved() -> None:
    method, batch = _method(), _drawn()
    method.eval()(batch, 99)
    assert not method.seen.any()
    method.train()(batch, 99)
    assert method.seen.tolist() == [False, True, True]
    torch.testing.assert_close(method.bank[1:].norm(dim=1), torch.ones(2))
    assert {"bank", "seen"} <= set(method.state_dict())


def test_label_maps_name_their_columns() -> None:
    with torch.no_grad():
        assert set(_method().eval().label_maps(_batch())) == {"CAM", "pseudo", "reassigned", "prediction"}
        assert set(_method(online={"use": False}).eval().label_maps(_batch())) == {"prediction"}


def test_a_run_without_any_label_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to learn from"):
        _method(online={"use": False})(_batch(), 0)


def test_half_precision_gives_a_finite_loss() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = _method()(_drawn(), 99)
    losses["loss"].backward()
    assert losses["loss"].isfinite() and losses["loss"].dtype == torch.float32


def test_prediction_needs_no_tags_and_sums_to_one() -> None:
    with torch.no_grad():
        prediction = _method().eval().predict(_batch().images)
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(2, 32, 48))


class _Doubtful(SyntheticSlices):
    """Slices whose scores nobody calls exact, as those of a prior are."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int]:
        return {name: value for name, value in super().__getitem__(index).items() if name != "exact"}


def test_a_short_training_on_the_scores_of_phantoms(tmp_path: Path) -> None:
    config = _config(gates={"segmentation": 0.0, "adaptive_affinity": 0.0, "label_reassign": 0.2, "agreement": 0.2})
    grid = config.data.grid.model_copy(update={"size": (32, 32)})
    training = TrainingConfig(iterations=4, batch_size=2, checkpoint_every=2, log_every=1)
    config = config.model_copy(update={"training": training})
    bank = _Doubtful(*draw_bank(6, grid.size, 1.5, seed=0), 3)
    trainer = Trainer(Aalr(config), bank, training, AugmentConfig(), tmp_path, torch.device("cpu"), 0)
    trainer.run()
    assert trainer.step == 4 and trainer.method.seen.any()
    again = Trainer(Aalr(config), bank, training, AugmentConfig(), tmp_path, torch.device("cpu"), 0)
    torch.testing.assert_close(again.method.bank, trainer.method.bank)


def test_labels_on_line_by_the_crf_follow_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch, made = _method(online={"refine": "crf"}), _batch(), torch.full((2, 32, 48), 2)
    scores = torch.full((2, 4, 32, 48), 0.25)
    monkeypatch.setattr("unia_med.methods.aalr.crf_labels", lambda *_: (made, scores))
    found = method._pseudo_labels(batch, method.network.embed(batch.images), 0)
    assert torch.equal(found.labels, made) and (found.confidence == 0.25).all()


def test_scores_on_line_hold_the_published_power_of_the_background() -> None:
    """Before the local refinement, background is (1 - highest map)^16 [3]; the refinement spreads the one peak."""
    method, batch = _method().eval(), _batch()
    batch.images = torch.full_like(batch.images, 0.5)
    output = method.network.embed(batch.images)
    flat = torch.tensor([0.05, 0.1, 0.2]).view(1, 3, 1, 1).expand(2, 3, 4, 6).clone()
    flat[:, :, 0, 0] = 1.0  # what 1 is
    found = method._online_labels(batch, replace(output, maps=flat))[1]
    torch.testing.assert_close(found[:, 0, -1, -1], torch.full((2,), 0.8**16), atol=5e-3, rtol=0)
