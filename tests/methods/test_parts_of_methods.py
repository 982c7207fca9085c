"""What each method hands to its parts: labels, weights, masks and constants, on small inputs with known answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.config.load import parse_config
from unia_med.labels import IGNORE
from unia_med.localise.confident import LABEL_CRF, SCORE_CRF
from unia_med.losses.label_reassign import Reassignment
from unia_med.methods import aalr, agmm
from unia_med.methods.aalr import Aalr
from unia_med.methods.affinitynet import AffinityNet
from unia_med.methods.agmm import Agmm
from unia_med.methods.base import Batch, Method
from unia_med.methods.cam import Cam, activation_maps
from unia_med.methods.given_labels import SCORE_THRESHOLDS
from unia_med.methods.unia import UniA
from unia_med.priors.pseudo_labels import DOUBTFUL

LIGHT = {"network": {"backbone": "lite0", "weights": "none"}, "training": {"iterations": 100, "head_multiplier": 5}}
SIZE = (32, 48)


def _made(kind: Callable[..., Method], name: str, **method: object) -> Method:
    torch.manual_seed(0)
    network = {"weights": "none"} if name in ("cam", "affinitynet") else LIGHT["network"]
    return kind(parse_config({**LIGHT, "network": network, "method": {"name": name, **method}}))


def _affinitynet(**method: object) -> AffinityNet:
    return _made(AffinityNet, "affinitynet", widths=[8, 8, 8], stride=8, **method)


def _batch(labels: bool = True) -> Batch:
    batch = Batch(torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1)), torch.ones(2, 3).char())
    if labels:
        batch.labels = torch.full((2, *SIZE), IGNORE)
        batch.labels[:, 2, 5:40], batch.labels[:, 10, 5:20], batch.labels[:, 16, 8:20] = 0, 1, 2
        batch.labels[0, 22, 20:30] = 3
    return batch


def _multipliers(method: Method) -> dict[str, float]:
    """Learning rate, in units of the base rate, by the first two parts of a parameter's name."""
    rates = {id(p): group["lr"] for group in method.parameter_groups(1.0, 0.0) for p in group["params"]}
    learned = {name: p for name, p in method.named_parameters() if p.requires_grad}
    return {".".join(name.split(".")[:2]): rates[id(p)] for name, p in learned.items()}


def test_only_pretrained_stages_learn_at_the_base_rate() -> None:
    both = _multipliers(_affinitynet())
    assert both["network.stages"] == both["classifier.stages"] == 1
    assert both["classifier.classifier"] == both["network.reduce"] == both["network.join"] == 5
    frozen = _multipliers(_affinitynet(affinity="boundary"))
    assert "network.stages" not in frozen and frozen["classifier.stages"] == 1
    given = _multipliers(_affinitynet(classifier="gone"))
    assert given["network.stages"] == 1 and not any(name.startswith("classifier") for name in given)
    cam = _multipliers(_made(Cam, "cam"))
    assert cam["network.stages"] == 1 and cam["network.classifier"] == 5


def test_a_given_classifier_stays_in_eval_mode_and_an_own_one_goes_back_to_training() -> None:
    assert not _affinitynet(classifier="gone").train().classifier.training
    method = _affinitynet().train()
    assert method.classifier.training
    method.walk(torch.rand(1, 1, *SIZE), torch.ones(1, 3))
    assert method.classifier.training and method.network.training
    before = {name: value.clone() for name, value in method.classifier.named_buffers()}
    method._maps(torch.rand(1, 1, *SIZE))
    assert all(torch.equal(value, before[name]) for name, value in method.classifier.named_buffers())


def test_seeds_reach_all_cells_even_across_links_that_are_next_to_nothing() -> None:
    """A sharpness of 1e9 leaves no link but the smallest."""
    method, batch = _affinitynet(walk={"beta": 1e9}).eval(), _batch()
    batch.labels[0, 3, 30] = 3  # in a cell of background, so that the cell says nothing
    found = method.walk_from_labels(batch.images, batch.labels)
    assert (found != IGNORE).all()
    drawn = batch.labels != IGNORE
    assert torch.equal(found[drawn], batch.labels[drawn])


@pytest.mark.parametrize("flip", [False, True])
def test_the_classifiers_maps_are_summed_over_the_scales_and_mirrors_that_are_named(flip: bool) -> None:
    method, seen = _made(Cam, "cam", scales=[1.0, 0.5], flip=flip).eval(), []
    method.network.register_forward_hook(lambda _, given, made: seen.append(tuple(given[0].shape[-2:])))
    activation_maps(method.network, torch.rand(1, 1, *SIZE), method.settings)
    assert sorted(seen) == sorted([SIZE, (16, 24)] * (2 if flip else 1))


def test_the_column_of_maps_uses_the_background_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.tensor([[[[0.5, 0.61, 1.0]]]]).expand(1, 3, 1, 3) * torch.tensor([1.0, 0.9, 0.9]).view(1, 3, 1, 1)
    monkeypatch.setattr("unia_med.methods.cam.activation_maps", lambda *_: maps)
    method, batch = _made(Cam, "cam", background=0.6), Batch(torch.zeros(1, 1, 1, 3), torch.tensor([[1, 1, 0]]))
    assert method.label_maps(batch)["CAM"].tolist() == [[[0, 1, 1]]]


def test_published_constants() -> None:
    assert SCORE_CRF[:6] == (10, 3.0, 3.0, 10.0, 80.0, 13.0) and LABEL_CRF[:6] == (10, 3.0, 3.0, 10.0, 50.0, 5.0)
    default, released = _made(Agmm, "agmm"), _made(Agmm, "agmm", preset="released")
    assert (default.network.projection.out_channels, released.network.projection.out_channels) == (64, 256)
    assert default.network.tag_head is None
    for pooling, dropout in (("max", 0.0), ("mean", 0.5)):
        network = _made(Aalr, "aalr", pooling=pooling).network
        assert network.projection.out_channels == 64
        drops = [m.p for m in network.tag_head.modules() if isinstance(m, (torch.nn.Dropout, torch.nn.Dropout2d))]
        assert drops == [dropout]
    for pooling, dropout in (("max", 0.0), ("mean", 0.5)):
        assert _made(Cam, "cam", pooling=pooling).network.dropout.p == dropout
    assert (aalr._BANK_SHARE, aalr._SURE, aalr._LEAST, aalr._BACKGROUND_POWER) == (0.9, 0.9, 0.2, 16.0)
    assert SCORE_THRESHOLDS[1] < DOUBTFUL < SCORE_THRESHOLDS[0]  # what a prior doubts says nothing
    assert aalr._DILATIONS == (1, 2, 4, 8) and agmm.CAM_BACKGROUND == 0.4


@pytest.mark.parametrize("form", ["posterior", "bce"])
def test_labelled_pixels_of_all_classes_count_alike_where_the_balance_says_so(form: str) -> None:
    """A mean over classes of means over pixels, for the network as for the mixture."""
    method, batch = _made(Agmm, "agmm", mix_loss=form, balance=1.0).eval(), _batch()
    with torch.no_grad():
        output = method.network.embed(batch.images)
        found = method.losses(batch, 50)
        mixture = method._mixture(batch, output, batch.labels)
        joint, responses = mixture.class_log_joint(SIZE), mixture.responses(SIZE)
    known = batch.labels != IGNORE
    index = torch.where(known, batch.labels, 0)
    costs = {"segmentation": F.cross_entropy(output.logits, index, reduction="none")}
    if form == "posterior":
        costs["mixture"] = F.cross_entropy(joint, index, reduction="none")
    else:
        truth = F.one_hot(index, 4).movedim(-1, 1).float()
        each = 0.5 * F.binary_cross_entropy(responses.clamp(1e-6, 1 - 1e-6), truth, reduction="none")
        held = mixture.present[:, :, None, None]
        costs["mixture"] = (each * held).sum(1) / held.sum(1)
    for term, cost in costs.items():
        expected = torch.stack([cost[batch.labels == k].mean() for k in range(4)]).mean()
        assert float(found[term]) == pytest.approx(float(expected), rel=2e-3), term


def test_padding_takes_no_part_in_the_mixture_and_gets_no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    method = _made(Agmm, "agmm", seeds={"use": True, "start": 0.0}, weights={"classification": 0.5}).eval()
    batch = _batch(labels=False)
    batch.valid = torch.ones(2, 1, *SIZE)
    batch.valid[..., 24:] = 0
    maps = torch.zeros(2, 3, 8, 12)
    maps[:, 0] = 1.0  # one class everywhere
    with torch.no_grad():
        output = method.network.embed(batch.images)
        object.__setattr__(output, "maps", maps)
        labels = method._labels(batch, output, 0)
        assert (labels[..., :20] == 1).all() and (labels[..., 24:] == IGNORE).all()
        seen: list[Tensor] = []
        fit = method.fit
        monkeypatch.setattr(method, "fit", lambda *given: seen.append(given[0]) or fit(*given))
        mixture = method._mixture(batch, output, labels)
    assert mixture.inside[..., :12].all() and not mixture.inside[..., 13:].any()
    torch.testing.assert_close(seen[0][..., :12].mean((2, 3)), torch.zeros(2, 64), atol=1e-4, rtol=0)


def test_the_mixture_says_nothing_of_a_slice_without_gaussians() -> None:
    method, batch = _made(Agmm, "agmm").eval(), _batch()
    batch.labels[1] = IGNORE
    with torch.no_grad():
        found = method.label_maps(batch)["mixture"]
    assert (found[0] != IGNORE).all() and (found[1] == IGNORE).all()


def test_a_class_that_is_absent_gets_no_seed() -> None:
    method = _made(Agmm, "agmm", seeds={"use": True, "start": 0.0}, weights={"classification": 0.5}).eval()
    batch, maps = _batch(labels=False), torch.zeros(2, 3, 8, 12)
    batch.tags = torch.tensor([[0, 1, 0], [1, 0, 0]])
    maps[:, 0], maps[:, 1, :, :6] = 1.0, 0.7
    with torch.no_grad():
        output = method.network.embed(batch.images)
        object.__setattr__(output, "maps", maps)
        labels = method._labels(batch, output, 0)
    assert set(labels[0].unique().tolist()) == {0, 2, IGNORE} and set(labels[1].unique().tolist()) == {1}


def test_a_doubtful_reassignment_is_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that changed with a membership of 0.9 or less is dropped; what stayed is kept whatever its membership."""
    method, batch = _made(Aalr, "aalr", online={"use": False}, gates={"grow": 1.0}).eval(), _batch(labels=False)
    batch.scores = F.one_hot(torch.ones(2, *SIZE).long(), 4).movedim(-1, 1).float()
    handed: dict[str, tuple] = {}

    def fixed(log_membership: Tensor, labels: Tensor, *rest: object) -> Reassignment:
        handed["reassign"] = (labels, *rest)
        changed, certainty = torch.zeros_like(labels, dtype=torch.bool), torch.full(labels.shape, 0.5)
        changed[:, :2], certainty[:, 0], certainty[:, 1] = True, 0.89, 0.91
        return Reassignment(torch.where(changed, 2, labels), changed, certainty)

    def membership(*given: object) -> Tensor:
        handed["memberships"] = given
        return torch.zeros(2, 4, given[0].shape[1])

    def loss(*given: object) -> Tensor:
        handed["loss"] = given
        return torch.zeros(())

    for name, stub in (("reassign", fixed), ("memberships", membership), ("label_reassign", loss)):
        monkeypatch.setattr(aalr, name, stub)
    batch.tags = torch.tensor([[1, 0, 1], [1, 1, -1]], dtype=torch.int8)
    with torch.no_grad():
        output = method.network.embed(batch.images)
        found = method._targets(batch, output, 99, True)
    cell = SIZE[0] // output.embeddings.shape[-2]
    assert (found.labels[:, :cell, :cell] == IGNORE).all() and (found.labels[:, :cell, cell : 2 * cell] == 2).all()
    assert (found.labels[:, :, 2 * cell :] == 1).all() and (found.confidence[:, :cell, :cell] == 0).all()
    assert found.confidence[0, 0, cell].item() == pytest.approx(0.91)
    assert handed["memberships"][2].tolist() == [[True, True, False, True], [True] * 4]
    torch.testing.assert_close(handed["memberships"][0].norm(dim=2), torch.ones_like(handed["memberships"][0][..., 0]))
    assert handed["memberships"][3] == 0.1 and handed["reassign"][2:] == (0.3, 0.3)
    assert not handed["reassign"][1].any()  # nothing is drawn
    _, labels, changed, certainty, confidence = handed["loss"]
    assert (labels[:, :2] == 2).all() and changed[:, :2].all() and certainty[0, 1].item() == pytest.approx(0.91)
    chance = output.logits.softmax(1)[:, 1]
    cells = F.avg_pool2d(chance.unsqueeze(1), cell).flatten(1)  # from the agreement's gate on
    torch.testing.assert_close(confidence, cells, atol=1e-4, rtol=1e-3)


def test_background_is_not_claimed_where_a_class_of_unknown_tag_is_active() -> None:
    method, batch = _made(Aalr, "aalr").eval(), _batch(labels=False)
    batch.tags = torch.tensor([[-1, 0, 0], [0, 0, 0]], dtype=torch.int8)
    with torch.no_grad():
        output = method.network.embed(batch.images)
        maps = torch.zeros(2, 3, 4, 6)
        maps[:, 0, :2, :3] = 1.0
        object.__setattr__(output, "maps", maps)
        labels = method._pseudo_labels(batch, output, 0).labels
    assert (labels[0, :14, :20] == IGNORE).all() and (labels[0, 20:] == 0).all() and (labels[1] == 0).all()


@pytest.mark.parametrize("form", ["balanced", "plain"])
def test_aalr_learns_the_mean_of_background_plus_that_of_foreground(form: str) -> None:
    method, logits = _made(Aalr, "aalr", segmentation_loss=form), torch.randn(2, 4, *SIZE)
    labels = _batch().labels
    costs = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    known, inside = labels != IGNORE, (labels > 0) & (labels != IGNORE)
    halves = costs[labels == 0].mean() + costs[inside].mean()
    expected = halves if form == "balanced" else costs[known].mean()
    assert float(method._segmentation(logits, labels)) == pytest.approx(float(expected), rel=1e-4)


def test_centres_follow_the_bank_with_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[tuple] = []
    centres = aalr.class_centres
    monkeypatch.setattr(aalr, "class_centres", lambda *given: handed.append(given) or centres(*given))
    method, batch = _made(Aalr, "aalr", reassign={"background_centres": 3}), _batch()
    method(batch, 99)
    assert handed[0][5:] == (0.9, 3)
    assert handed[0][3].data_ptr() == method.bank.data_ptr() and handed[0][4].data_ptr() == method.seen.data_ptr()


def _unia(**method: object) -> UniA:
    torch.manual_seed(0)
    network = {"weights": "none", "width": 32, "depth": 3, "uncertainty_width": 32}
    return UniA(parse_config({**LIGHT, "network": network, "method": {"dense_energy_grid": 8, **method}}))


def test_what_attention_gathers_does_not_drown_a_token_at_the_start() -> None:
    method = _unia().eval()
    with torch.no_grad():
        tokens = method.network.features(torch.rand(1, 1, *SIZE)).tokens
        features = method.network.uncertainty(tokens, need_distribution=False).features
    assert 0 < float((features - tokens).norm() / tokens.norm()) < 0.05


@pytest.mark.parametrize("preset", ["default", "published"])
def test_the_preset_reaches_the_uncertainty_branch(preset: str) -> None:
    branch, published = _unia(preset=preset).network.uncertainty, preset == "published"
    assert (branch.draw_samples, branch.doubled, branch.mean_head is None) == (published,) * 3
    assert branch.whole_cells is not published and branch.limit == 1.0
    wide = _unia(distribution="heteroscedastic", mask="bias").network.uncertainty
    assert wide.limit > 1 and wide.mask == "bias"


def test_the_running_peak_is_a_mean_over_about_twenty_steps() -> None:
    """The first step sets it; later ones move it by a twentieth; a batch without a present class by nothing."""
    settings = {"cam_normalisation": "running", "scales": [1.0, 0.5], "gates": {"segmentation": 1.0}}
    method, batch = _unia(**settings), _batch(labels=False)
    batch.tags = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.int8)
    output = method.network(batch.images)
    first = [maps.relu()[0, [0, 2]].amax() for maps in (output.cam, output.aux_cam)]
    method._follow_peaks(batch, output)
    torch.testing.assert_close(method.cam_peaks, torch.stack(first))
    method.cam_peaks.mul_(3)
    method._follow_peaks(batch, output)
    torch.testing.assert_close(method.cam_peaks, torch.stack(first) * (3 * 0.95 + 0.05))
    batch.tags[:] = 0
    method._follow_peaks(batch, output)
    torch.testing.assert_close(method.cam_peaks, torch.stack(first) * 2.9)


def test_each_kind_of_map_has_its_own_running_peak() -> None:
    method, batch = _unia(cam_normalisation="running", scales=[1.0], flip=False).eval(), _batch(labels=False)
    found = []
    with torch.no_grad():
        output = method.network(batch.images)
        for peaks in ([1e3, 2e3], [1e3, 4e3]):
            method.cam_peaks.copy_(torch.tensor(peaks))
            found.append(method._activation_maps(batch, output))
    (cam, auxiliary), (same, halved) = found
    assert torch.equal(cam, same) and auxiliary.max() > 0
    torch.testing.assert_close(halved, auxiliary / 2)


def test_a_running_peak_is_that_of_one_scale_and_maps_are_sums_over_scales() -> None:
    found, batch = [], _batch(labels=False)
    for scales in ([1.0], [1.0, 1.0]):
        method = _unia(cam_normalisation="running", scales=scales).eval()
        with torch.no_grad():
            output = method.network(batch.images)
            method.cam_peaks.copy_(torch.stack([output.cam.amax(), output.aux_cam.amax()]).abs() / 2)
            found.append(method._activation_maps(batch, output))
    for one, two in zip(*found, strict=True):
        assert 0 < one.mean() < 1
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)
