"""Each part of UniA at its place: which features a head reads, which label a term learns, whom a term teaches."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.labels import IGNORE
from unia_med.localise.affinity_refine import normalise_affinity, pixel_and_affinity_labels, radius_mask
from unia_med.localise.complement import complement
from unia_med.localise.pixel_refine import grid_of, pixel_kernel
from unia_med.losses.dense_energy import dense_energy
from unia_med.methods.base import Batch
from unia_med.methods.label_plan import label_plan
from unia_med.methods.unia import UniA
from unia_med.nn.uncertainty import UncertaintyOutput

TERMS = ("classification", "auxiliary", "distribution", "affinity", "token_contrast", "segmentation", "dense_energy")
SIZE, GRID = (48, 64), (6, 8)


def _method(**method: object) -> UniA:
    torch.manual_seed(0)
    network = {"weights": "none", "width": 32, "depth": 3, "uncertainty_width": 32}
    values = {"network": network, "method": {"dense_energy_grid": 8, **method}, "training": {"iterations": 100}}
    made = UniA(RunConfig.model_validate(values))
    # A fresh attention adds next to nothing to a token; one as strong as after training keeps Z and X apart.
    made.network.uncertainty.masked_attention.output.weight.data.mul_(100)
    return made


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    tags = torch.tensor([[1, 1, 1], [0, 1, 1]], dtype=torch.int8)
    return Batch(torch.rand(2, 1, *SIZE, generator=generator), tags)


def _only(term: str, weight: float = 1.0) -> dict[str, float]:
    return {name: weight if name == term else 0.0 for name in TERMS}


def _smooth(channels: int, seed: int) -> Tensor:
    coarse = torch.randn(2, channels, 5, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, SIZE, mode="bicubic").mul(2)


def test_every_head_reads_its_own_features() -> None:
    """Z for classifier and decoder, the block before for the auxiliary one, attention of two blocks for affinity."""
    network, seen = _method().network.eval(), {}

    def note(name: str) -> object:
        return lambda module, given, made: seen.__setitem__(name, (given, made))

    parts = ("backbone", "uncertainty", "classifier", "aux_classifier", "affinity_head", "decoder")
    for part in parts:
        getattr(network, part).register_forward_hook(note(part))
    with torch.no_grad():
        output = network(_batch().images, True, True)
    features, inferred = seen["backbone"][1], seen["uncertainty"][1]
    assert seen["uncertainty"][0][0] is features.tokens
    assert seen["classifier"][0][0] is inferred.features and seen["decoder"][0][0] is inferred.features
    assert seen["aux_classifier"][0][0] is features.aux_tokens
    assert seen["affinity_head"][0][0] is features.affinity_logits
    assert not torch.allclose(inferred.features, features.tokens, atol=1e-5)
    for maps, weights, source in (
        (output.cam, network.classifier.weight, inferred.features),
        (output.aux_cam, network.aux_classifier.weight, features.aux_tokens),
    ):
        torch.testing.assert_close(
            maps, torch.einsum("tc,bchw->bthw", weights[..., 0, 0], source), atol=1e-5, rtol=1e-4
        )
        peak = torch.einsum("tc,bc->bt", weights[..., 0, 0], source.amax((2, 3)))
        found = output.tag_logits if maps is output.cam else output.aux_tag_logits
        torch.testing.assert_close(found, peak, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.logits, seen["decoder"][1])


TAUGHT = {
    "classification": {"classifier", "uncertainty", "backbone"},
    "auxiliary": {"aux_classifier", "backbone"},
    "distribution": {"uncertainty", "backbone"},
    "affinity": {"affinity_head", "backbone"},
    "token_contrast": {"uncertainty", "backbone"},
    "segmentation": {"decoder", "uncertainty", "backbone"},
    "dense_energy": {"decoder", "uncertainty", "backbone"},
}


@pytest.mark.parametrize("term", TERMS)
def test_a_term_by_itself_teaches_the_parts_it_is_about(term: str) -> None:
    method = _method(weights=_only(term, 0.5), label_source="P2")
    losses = method(_batch(), 99)
    assert set(losses) == {"loss", term} and float(losses["loss"]) == pytest.approx(0.5 * float(losses[term]))
    losses["loss"].backward()
    reached = {
        name.split(".")[1]
        for name, parameter in method.named_parameters()
        if parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
    }
    assert reached - {"gain"} == TAUGHT[term]


def _fixed_labels() -> dict[str, Tensor]:
    """Four independent label maps, constant on tokens; renaming the classes of one does not give another."""
    generator = torch.Generator().manual_seed(2)
    drawn = {source: torch.randint(0, 4, (2, *GRID), generator=generator) for source in ("auxiliary", "P1", "P2", "F")}
    for row, labels in enumerate(drawn.values()):
        labels[:, row, :5] = IGNORE  # the only thing that the dense energy reads of labels
    grown = {source: labels.repeat_interleave(8, 1).repeat_interleave(8, 2) for source, labels in drawn.items()}
    return {**grown, "auxiliary": drawn["auxiliary"]}


def _cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Half the mean over background plus half the mean over foreground, pixel by pixel."""
    chances = logits.log_softmax(1)
    sums = {True: [], False: []}
    for image, row, column in itertools.product(range(2), range(SIZE[0]), range(SIZE[1])):
        label = int(labels[image, row, column])
        if label != IGNORE:
            sums[label == 0].append(-float(chances[image, label, row, column]))
    return sum(0.5 * sum(values) / len(values) for values in sums.values())


def _contrastive(affinity: Tensor, labels: Tensor, radius: int) -> float:
    """Each labelled token against its neighbours of the same and of other classes, one after the other."""
    anchors = []
    for image in range(2):
        for one in range(GRID[0] * GRID[1]):
            y, x = divmod(one, GRID[1])
            own, alike, unlike = int(labels[image, y, x]), [], []
            for other in range(GRID[0] * GRID[1]):
                v, u = divmod(other, GRID[1])
                theirs = int(labels[image, v, u])
                if IGNORE in (own, theirs) or max(abs(v - y), abs(u - x)) > radius or one == other:
                    continue
                (alike if own == theirs else unlike).append(float(affinity[image, one, other]) / 0.5)
            if alike and unlike:
                negative = torch.tensor(unlike).exp().sum()
                pairs = [-torch.log(torch.tensor(a).exp() / (torch.tensor(a).exp() + negative)) for a in alike]
                anchors.append(float(torch.stack(pairs).mean()))
    return sum(anchors) / len(anchors)


@pytest.mark.parametrize(
    ("source", "step", "expected"),
    [("P1", 0, "P1"), ("P1", 99, "P1"), ("P2", 0, "P2"), ("P2", 99, "P2"), ("F", 39, "P2"), ("F", 40, "F")],
)
def test_the_decoder_and_the_energy_learn_the_label_of_the_plan(
    source: str, step: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the affinity loss on, whose weight once overruled `label_source`."""
    weights = {**_only("segmentation"), "affinity": 0.1, "dense_energy": 0.1}
    method = _method(label_source=source, weights=weights, gates={"segmentation": 0.0, "affinity": 0.0}).eval()
    labels, batch = _fixed_labels(), _batch()
    batch.valid = torch.ones(2, 1, *SIZE)
    batch.valid[:, :, :, 40:] = 0
    monkeypatch.setattr(method.labels, "make", lambda *_: labels)
    with torch.no_grad():
        output = method.network(batch.images, True)
        found = method.losses(batch, step)
    assert float(found["segmentation"]) == pytest.approx(_cross_entropy(output.logits, labels[expected]), rel=1e-4)
    allowed = torch.tensor([[True, True, True, True], [True, False, True, True]])
    energies = {
        name: float(dense_energy(output.logits.softmax(1), batch.images, labels[name], allowed, batch.valid, 8))
        for name in ("P1", "P2", "F")
    }
    assert float(found["dense_energy"]) == pytest.approx(energies.pop(expected), rel=1e-4)
    assert all(abs(float(found["dense_energy"]) - other) > 1e-3 * abs(other) for other in energies.values())


@pytest.mark.parametrize(("form", "overlap"), [("balanced", True), ("plain", False), ("plain", True)])
def test_the_loss_of_the_decoder_has_the_named_form(form: str, overlap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-entropy of background and foreground or of all pixels, and 1 - Dice of each class where asked for."""
    choice = {"segmentation_loss": form, "segmentation_dice": overlap}
    method = _method(label_source="P1", weights=_only("segmentation"), **choice).eval()
    labels = _fixed_labels()
    monkeypatch.setattr(method.labels, "make", lambda *_: labels)
    with torch.no_grad():
        logits = method.network(_batch().images).logits
        found = float(method.losses(_batch(), 99)["segmentation"])
    expected = F.cross_entropy(logits, labels["P1"], ignore_index=IGNORE).item()
    expected = _cross_entropy(logits, labels["P1"]) if form == "balanced" else expected
    known = labels["P1"] != IGNORE
    for label in (1, 2, 3) if overlap else ():
        chance, truth = logits.softmax(1)[:, label][known], labels["P1"][known] == label
        expected += float(1 - (2 * chance[truth].sum() + 1) / (chance.sum() + truth.sum() + 1)) / 3
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("source", "step"), [("P1", 39), ("P1", 40), ("F", 40)])
def test_affinity_and_distribution_learn_auxiliary_labels_until_the_gate(
    source: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = _method(label_source=source, weights={**_only("affinity"), "distribution": 1.0}, radius=2).eval()
    labels = _fixed_labels()
    monkeypatch.setattr(method.labels, "make", lambda *_: labels)
    with torch.no_grad():
        output = method.network(_batch().images, True, True)
        found = method.losses(_batch(), step)
    chosen = labels["auxiliary"] if step < 40 else labels[source][:, 4::8, 4::8]  # every token is pure
    assert float(found["affinity"]) == pytest.approx(_contrastive(output.affinity, chosen, 2), rel=1e-4)
    share = ((chosen > 0) & (chosen != IGNORE)).float().flatten(1)
    logs = share.log_softmax(1), output.inferred.distribution_map.flatten(1).log_softmax(1)
    divergence = (logs[0].exp() * (logs[0] - logs[1])).sum(1).mean()
    assert float(found["distribution"]) == pytest.approx(float(divergence), rel=1e-4)


def test_token_contrast_learns_auxiliary_labels_always(monkeypatch: pytest.MonkeyPatch) -> None:
    method = _method(weights=_only("token_contrast")).eval()
    labels = _fixed_labels()
    monkeypatch.setattr(method.labels, "make", lambda *_: labels)
    with torch.no_grad():
        features = method.network(_batch().images).inferred.features.flatten(2)
        found = float(method.losses(_batch(), 99)["token_contrast"])
    cosine = F.cosine_similarity(features.unsqueeze(3), features.unsqueeze(2), 1).abs()
    flat = labels["auxiliary"].flatten(1)
    known = (flat != IGNORE).unsqueeze(2) & (flat != IGNORE).unsqueeze(1)
    same = (flat.unsqueeze(2) == flat.unsqueeze(1)) & known & ~torch.eye(48, dtype=torch.bool)
    unlike = (flat.unsqueeze(2) != flat.unsqueeze(1)) & known
    expected = 0.5 * (1 - (cosine * same).sum() / (same.sum() + 1)) + 0.5 * (cosine * unlike).sum() / (unlike.sum() + 1)
    assert found == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_variances_learn_the_error_of_the_decoder_on_its_own_label(
    wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no error left, descent lowers all variances; on labels that a sure decoder contradicts, it raises them."""
    method = _method(distribution="heteroscedastic", weights={**_only("distribution"), "segmentation": 1e-9}).eval()
    classifier, caught = method.network.decoder.classifier, []
    classifier.weight.data.mul_(1e4), classifier.bias.data.mul_(1e4)
    with torch.no_grad():
        predicted = method.network(_batch().images).logits.argmax(1)
    labels = {**_fixed_labels(), "F": (predicted + 2 * int(wrong)) % 4}
    monkeypatch.setattr(method.labels, "make", lambda *_: labels)

    def keep(module: object, given: object, made: UncertaintyOutput) -> None:
        made.log_variance.retain_grad()
        caught.append(made.log_variance)

    method.network.uncertainty.register_forward_hook(keep)
    method.losses(_batch(), 99)["distribution"].backward()
    assert bool((caught[0].grad < 0).all()) is wrong and bool((caught[0].grad > 0).all()) is not wrong


def test_the_variances_wait_until_the_decoder_learns() -> None:
    """Before its gate the decoder errs everywhere, which says nothing about tokens."""
    method = _method(distribution="heteroscedastic", weights={**_only("distribution"), "segmentation": 1.0})
    heads = []
    for step in (9, 10):
        method.zero_grad()
        method(_batch(), step)["distribution"].backward()
        heads.append(method.network.uncertainty.variance_head.last.weight.grad)
    assert heads[0] is None or float(heads[0].abs().sum()) == 0
    assert float(heads[1].abs().sum()) > 0


@pytest.mark.parametrize(
    ("agreement", "trust", "pull"), [(1.0, 1.0, 0.6), (0.5, 1.0, 0.6), (1.0, 0.5, 0.6), (0.5, 0.5, 0.9)]
)
def test_fused_labels_are_the_complement_of_the_three(agreement: float, trust: float, pull: float) -> None:
    """P1 by thresholds, P2 and P3 by refinement, rows 1 and 2 by their gates."""
    gates, thresholds = {"agreement": agreement, "trust_cam": trust}, {"high": 0.62, "low": 0.41}
    method = _method(gates=gates, thresholds=thresholds, radius=2, refine_pull=pull)
    batch, (cam, auxiliary) = _batch(), (_smooth(3, 5).sigmoid(), _smooth(3, 6).sigmoid())
    affinity = torch.rand(2, 48, 48, generator=torch.Generator().manual_seed(7))
    affinity = affinity + affinity.transpose(1, 2)
    plan = label_plan(method.settings, 60, 100)
    made = method.labels.make(batch, lambda: (cam, auxiliary), GRID, affinity, plan, frozenset(("P2", "F")))
    best, winner = (cam * batch.tags[:, :, None, None]).max(1)
    first = torch.where(best > 0.62, winner + 1, torch.where(best <= 0.41, 0, IGNORE))
    assert torch.equal(made["P1"], first)
    reduction, dilations = grid_of(SIZE)
    matrix = normalise_affinity(affinity, radius_mask(*GRID, 2, torch.device("cpu")))
    kernel = pixel_kernel(batch.images, dilations, reduction)
    pair = pixel_and_affinity_labels(kernel, cam, batch.tags, matrix, GRID, 0.62, 0.41, pull, 0.1, keep_detail=True)
    assert torch.equal(made["P2"], pair[0])
    alone = method.labels.make(batch, lambda: (cam, auxiliary), GRID, None, plan, frozenset(("P2",)))
    assert torch.equal(alone["P2"], pair[0])
    expected = complement(first, *pair, trust_cam=trust == 0.5, agreement=agreement == 0.5)
    assert torch.equal(made["F"], expected)
    others = [complement(first, *pair, a, b) for a in (False, True) for b in (False, True)]
    assert sum(bool(torch.equal(expected, other)) for other in others) == 1  # the rows matter here
    small = F.interpolate(auxiliary, GRID, mode="bilinear")
    best, winner = (small * batch.tags[:, :, None, None]).max(1)
    on_tokens = torch.where(best > 0.62, winner + 1, torch.where(best <= 0.41, 0, IGNORE))
    assert torch.equal(made["auxiliary"], on_tokens)


@pytest.mark.parametrize("source", ["final", "auxiliary"])
def test_activation_maps_come_from_the_named_features_scales_and_mirrors(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = _method(cam_source=source, scales=[1.0, 0.5], flip=True).eval()
    batch, views = _batch(), []

    def maps(images: Tensor) -> tuple[Tensor, Tensor]:
        views.append(images)
        one = F.adaptive_avg_pool2d(images, GRID).expand(-1, 3, -1, -1)
        return one, 1 - one

    monkeypatch.setattr(method.network, "activation_maps", maps)
    with torch.no_grad():
        output = method.network(batch.images)
    own = maps(batch.images)
    views.clear()
    output = type(output)(**{**output.__dict__, "cam": own[0], "aux_cam": own[1]})
    found, auxiliary = method._activation_maps(batch, output)
    assert [tuple(view.shape[-2:]) for view in views] == [SIZE, (24, 32), (24, 32)]  # scale 1 unmirrored is known
    assert torch.equal(views[0], batch.images.flip(-1)) and torch.equal(views[2], views[1].flip(-1))
    totals = []
    for index in (0, 1):
        total = torch.zeros(2, 3, *SIZE)
        for scale in (1.0, 0.5):
            view = F.interpolate(batch.images, (int(48 * scale), int(64 * scale)), mode="bilinear")
            pair = [F.interpolate(maps(v)[index], SIZE, mode="bilinear") for v in (view, view.flip(-1))]
            total += torch.maximum(pair[0], pair[1].flip(-1)).relu()
        low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
        totals.append((total - low) / (high - low + 1e-5))
    torch.testing.assert_close(auxiliary, totals[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, totals[0 if source == "final" else 1], atol=1e-5, rtol=1e-4)


def test_the_pass_for_maps_alone_is_the_whole_pass() -> None:
    """Views at other scales are seen by the same features Z and by the same classifiers as the step's own pass."""
    network = _method().network.eval()
    with torch.no_grad():
        output, maps = network(_batch().images), network.activation_maps(_batch().images)
    torch.testing.assert_close(maps[0], output.cam)
    torch.testing.assert_close(maps[1], output.aux_cam)


def test_extra_passes_leave_running_statistics_alone() -> None:
    """One step with three extra passes records what a step without them does."""
    states = []
    for scales in ([1.0], [1.0, 0.5, 1.25]):
        method = _method(scales=scales, flip=len(scales) > 1)
        torch.manual_seed(3)
        method(_batch(), 0)
        buffers = {name: value for name, value in method.named_buffers() if "running" in name or "tracked" in name}
        states.append(buffers)
        assert all(m.track_running_stats for m in method.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert states[0].keys() == states[1].keys() and len(states[0]) > 10
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_prediction_is_the_decoders_softmax_with_the_networks_own_map() -> None:
    method = _method().eval()
    with torch.no_grad():
        output, found = method.network(_batch().images), method.predict(_batch().images)
    torch.testing.assert_close(found.probabilities, output.logits.softmax(1))
    grown = F.interpolate(output.inferred.uncertainty_map[:, None], SIZE, mode="bilinear")[:, 0]
    torch.testing.assert_close(found.uncertainty, grown)
    lowest = 1 / (1 + torch.tensor(1.0).exp())
    mean = output.inferred.log_variance.sigmoid().mean(1)
    torch.testing.assert_close(output.inferred.uncertainty_map, ((mean - lowest) / (1 - 2 * lowest)).clamp(0, 1))


def test_the_published_map_is_the_largest_channel_of_a_slice_over_its_maximum() -> None:
    method = _method(preset="published").eval()
    images = _batch().images
    with torch.no_grad():
        log_variance = method.network(images).inferred.log_variance
        found = [method.predict(images).uncertainty, method.predict_samples(images, 2).uncertainty]
    grown = F.interpolate(log_variance.sigmoid().amax(1)[:, None], SIZE, mode="bilinear")[:, 0]
    assert grown.shape[-2:] != log_variance.shape[-2:] and len(images) > 1
    for uncertainty in found:
        torch.testing.assert_close(uncertainty, grown / grown.amax((1, 2), keepdim=True))


def test_scores_are_read_by_their_own_thresholds_and_unknown_classes_may_win() -> None:
    """0.55 and 0.45, whatever those of activation maps are; in every label, not in P1 alone."""
    method, batch = _method(thresholds={"high": 0.9, "low": 0.1}, label_source="F"), _batch()
    plain = _method(label_source="F", refine_pull=1.0)
    batch.tags = torch.tensor([[1, -1, 1], [0, -1, 1]], dtype=torch.int8)
    scores = torch.zeros(2, 4, *SIZE)
    scores[:, 2, 8:40, 8:32], scores[:, 1, 8:40, 40:60] = 0.56, 0.54
    scores[:, 3, :4] = 0.44
    scores[:, 0] = 1 - scores[:, 1:].sum(1)
    batch.scores = scores
    plan = label_plan(method.settings, 99, 100)
    affinity = torch.eye(48).expand(2, 48, 48)
    refuse = lambda: (_ for _ in ()).throw(AssertionError("scores take the place of maps"))  # noqa: E731
    made = method.labels.make(batch, refuse, GRID, affinity, plan, frozenset(("P2", "F")))
    assert (made["P1"][:, 8:40, 8:32] == 2).all() and (made["P1"][:, :4] == 0).all()
    assert (made["P1"][0, 8:40, 40:60] == IGNORE).all() and (made["P1"][1, 8:40, 40:60] == 0).all()
    for source in ("P2", "F"):
        assert (made[source][:, 16:32, 14:26] == 2).float().mean() > 0.5  # so near the threshold, noise decides some
    assert (made["auxiliary"][:, 2:4, 2:3] == 2).all()
    again = plain.labels.make(batch, refuse, GRID, affinity, plan, frozenset(("P2", "F")))
    assert all(torch.equal(made[source], again[source]) for source in made)  # nor is the pull that of maps


def test_predictions_are_not_squeezed_and_scales_are_seen() -> None:
    """An enlarged network keeps the aspect, and a view at half scale reaches the backbone at half its size."""
    values = {
        "network": {"weights": "none", "width": 32, "depth": 2, "input_size": 128},
        "data": {"grid": {"size": [48, 64]}},
    }
    method, seen = UniA(RunConfig.model_validate(values)).eval(), []
    method.network.backbone.register_forward_hook(lambda _, given, made: seen.append(tuple(given[0].shape[-2:])))
    with torch.no_grad():
        for size in ((48, 64), (24, 32), (96, 128)):
            assert method.predict(torch.rand(1, 1, *size)).probabilities.shape[-2:] == torch.Size(size)
    assert seen == [(96, 128), (48, 64), (192, 256)]


def test_samples_are_drawn_with_the_deviation_of_each_token() -> None:
    """Z + exp(s / 2) * noise through the decoder, the same noise for every slice; the map U is that of `predict`."""
    method, images = _method().eval(), _batch().images
    network = method.network
    with torch.no_grad():
        features = network.features(images)
        inferred = network.uncertainty(features.tokens, need_distribution=False)
        generator, total = torch.Generator().manual_seed(0), torch.zeros(2, 4, *SIZE)
        for _ in range(3):
            noise = torch.randn(inferred.log_variance.shape[1:], generator=generator)
            drawn = inferred.features + inferred.log_variance.exp().sqrt() * noise
            total += network.decode(drawn, features.skips, SIZE).softmax(1)
        found, plain = method.predict_samples(images, 3), method.predict(images)
    torch.testing.assert_close(found.probabilities, total / 3)
    assert torch.equal(found.uncertainty, plain.uncertainty)
    assert (found.probabilities - plain.probabilities).abs().max() > 1e-4


def test_columns_of_the_table_are_what_they_say() -> None:
    """Activation maps by the tags; with scores also their labels, and what is fused of them."""
    method, batch = _method(label_source="P2", thresholds={"background": 0.3}).eval(), _batch()
    with torch.no_grad():
        output = method.network(batch.images, need_affinity=True)
        cam, auxiliary = method._activation_maps(batch, output)
        columns = method.label_maps(batch)
        blocks = torch.randint(0, 4, (2, 3, 4), generator=torch.Generator().manual_seed(8))
        scores = F.one_hot(blocks.repeat_interleave(16, 1).repeat_interleave(16, 2), 4)
        scored = method.label_maps(Batch(batch.images, batch.tags, scores=scores.movedim(-1, 1).float()))
    for name, maps in (("CAM", cam), ("aux CAM", auxiliary)):
        value, best = (maps * batch.tags[:, :, None, None]).max(1)
        assert torch.equal(columns[name], torch.where(value > 0.3, best + 1, 0))
        assert torch.equal(scored[name], columns[name])
    assert torch.equal(columns["prediction"], output.logits.argmax(1)) and "labels" not in columns
    absent = (scores.argmax(-1) == 1) & (batch.tags[:, 0] == 0)[:, None, None]
    assert torch.equal(scored["labels"], torch.where(absent, 0, scores.argmax(-1)))
    assert not torch.equal(scored["affinity"], columns["affinity"]) and not torch.equal(
        scored["fused"], columns["fused"]
    )


@pytest.mark.parametrize("source", ["P1", "P2", "F"])
def test_the_table_shows_what_a_decoder_would_learn_where_none_learns(source: str) -> None:
    method = _method(label_source=source, weights=_only("classification")).eval()
    with torch.no_grad():
        assert set(method.label_maps(_batch())["fused"].unique().tolist()) <= {0, 1, 2, 3, IGNORE}


@pytest.mark.parametrize("needed", ["P1", "P2", "F"])
@pytest.mark.parametrize("scored", [False, True])
def test_what_is_drawn_or_exact_stands_in_every_label_map(needed: str, scored: bool) -> None:
    """Against activation maps and scores that say otherwise; what augmentation filled in says nothing."""
    method, batch = _method(label_source=needed), _batch()
    batch.labels = torch.full((2, *SIZE), IGNORE)
    batch.labels[:, 10:14, 10:20], batch.labels[:, 20:24, 10:20] = 2, 0
    batch.valid = torch.ones(2, 1, *SIZE)
    batch.valid[:, :, :, 56:] = 0
    maps = torch.zeros(2, 3, *SIZE)
    maps[:, 2] = 1.0
    if scored:
        classes = torch.randint(0, 4, (2, *SIZE), generator=torch.Generator().manual_seed(9))
        batch.scores = F.one_hot(classes, 4).movedim(-1, 1).float()
        batch.exact = torch.tensor([True, False])
    plan = label_plan(method.settings, 99, 100)
    made = method.labels.make(batch, lambda: (maps, maps), GRID, torch.rand(2, 48, 48), plan, frozenset((needed,)))
    labels = made[needed]
    assert (labels[:, 10:14, 10:20] == 2).all() and (labels[:, 20:24, 10:20] == 0).all()
    assert (labels[:, :, 56:] == IGNORE).all()
    if scored:
        free = (batch.labels[0] == IGNORE) & (batch.valid[0, 0] > 0)
        assert torch.equal(labels[0][free], classes[0][free])
    else:
        assert (labels[:, 30:40, 20:40] == 3).all()


def test_tokens_on_borders_teach_no_pair_unless_published() -> None:
    """Of 64 pixels 36 have one label: less than 0.6 of the token, and still the majority."""
    labels = torch.zeros(1, *SIZE, dtype=torch.long)
    labels[0, :4, :8], labels[0, 4, :4] = 1, 1
    labels[0, 8:16, :8] = 2
    for method, expected in ((_method(), IGNORE), (_method(preset="published"), 1)):
        tokens = method.labels.on_tokens(labels, GRID)
        assert tokens[0, :3, 0].tolist() == [expected, 2, 0]
