"""What becomes of probabilities under tags: who may vote, who is doubtful."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.config.prior import WalkerConfig
from unia_med.labels import IGNORE
from unia_med.priors.pseudo_labels import (
    DOUBTFUL,
    Confidence,
    ShapeRules,
    agreed_scores,
    apply_tags,
    pseudo_scores,
    walked,
)

SURE, DOUBT = 255, round(DOUBTFUL * 255)


def _certain(labels: np.ndarray, confidence: float = 0.97) -> np.ndarray:
    rest = (1 - confidence) / 3
    return np.where(labels[:, None] == np.arange(4)[None, :, None, None], confidence, rest)


def _heart() -> np.ndarray:
    labels = np.zeros((2, 12, 12), int)
    labels[:, 2:10, 4:10], labels[:, 4:8, 5:9], labels[:, 2:5, 1:4] = 2, 3, 1
    return labels


def test_sure_pixels_keep_their_class() -> None:
    labels = _heart()
    scores = pseudo_scores(_certain(labels), np.ones((2, 3)), Confidence(0.6))
    np.testing.assert_array_equal(scores.argmax(1), labels)
    assert set(np.unique(scores)) == {0, SURE}


def test_an_absent_class_gives_its_probability_to_the_others() -> None:
    probabilities = np.array([0.2, 0.5, 0.2, 0.1]).reshape(1, 4, 1, 1)
    kept = apply_tags(probabilities, np.array([[0, 1, -1]]))
    np.testing.assert_allclose(kept.ravel(), [0.4, 0.0, 0.4, 0.2], rtol=1e-6)


def test_an_empty_slice_is_sure_background_whatever_the_network_says() -> None:
    scores = pseudo_scores(_certain(_heart()), np.array([[1, 1, 1], [0, 0, 0]]), Confidence(0.6))
    assert (scores[1, 0] == SURE).all()
    assert not scores[1, 1:].any()
    stubborn = pseudo_scores(_certain(_heart(), 1.0), np.array([[1, 1, 1], [0, 0, 0]]), Confidence(0.6))
    assert (stubborn[1, 0] == SURE).all()  # although nothing is left of its probabilities


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (ShapeRules(), SURE),
        (ShapeRules(one_object=True), DOUBT),
        (ShapeRules(one_piece=(3,)), DOUBT),
        (ShapeRules(one_piece=(1, 2)), SURE),
    ],
)
def test_a_second_blob_is_doubtful_only_where_one_is_asked_for(rules: ShapeRules, value: int) -> None:
    labels = _heart()
    labels[0, 0, 11] = 3
    scores = pseudo_scores(_certain(labels), None, Confidence(0.6), rules)
    assert scores[0, 3, 0, 11] == value
    assert scores[0, 3, 5, 6] == SURE
    assert (scores[:, 0][labels == 0] == SURE).all()  # the rest is no object


def test_pixels_that_share_a_corner_are_one_piece() -> None:
    labels = np.zeros((1, 6, 6), int)
    labels[0, :3, :3], labels[0, 3, 3] = 3, 3
    assert (pseudo_scores(_certain(labels), None, Confidence(0.6), ShapeRules(one_piece=(3,))) != DOUBT).all()


@pytest.mark.parametrize(("rules", "value"), [(ShapeRules(one_object=True), SURE), (ShapeRules(one_piece=(3,)), DOUBT)])
def test_pieces_are_looked_for_in_each_slice_and_objects_in_the_volume(rules: ShapeRules, value: int) -> None:
    labels = np.zeros((3, 9, 9), int)
    labels[1, 2:7, 2:7], labels[0, 2:4, 2:4], labels[0, 5:7, 5:8] = 3, 3, 3  # two arms that meet in the slice below
    scores = pseudo_scores(_certain(labels), None, Confidence(0.6), rules)
    assert scores[0, 3, 2, 2] == value and scores[0, 3, 6, 7] == SURE


def test_below_the_confidence_nothing_is_sure() -> None:
    scores = pseudo_scores(_certain(_heart(), confidence=0.55), None, Confidence(0.6))
    assert scores[:, 1:].max() == DOUBT
    at_the_limit = np.array([0.125, 0.75, 0.125, 0.0]).reshape(1, 4, 1, 1)
    assert [pseudo_scores(at_the_limit, None, Confidence(c))[0, 1].item() for c in (0.75, 0.74)] == [DOUBT, SURE]


def test_a_tagged_class_that_won_nowhere_may_hide_where_it_was_likely() -> None:
    labels = np.where(_heart() == 1, 0, _heart())
    probabilities = _certain(labels)
    probabilities[:, :, 2, 2] = np.array([0.75, 0.25, 0.0, 0.0])
    present = pseudo_scores(probabilities, np.ones((2, 3)), Confidence(0.6))
    absent = pseudo_scores(probabilities, np.array([[0, 1, 1]] * 2), Confidence(0.6))
    assert present[0, 1, 2, 2] == DOUBT
    assert absent[0, 0, 2, 2] == SURE
    probabilities[0, :, 9, 1] = np.array([0.0, 1.0, 0.0, 0.0])  # it wins in the first slice, not in the second
    once = pseudo_scores(probabilities, np.ones((2, 3)), Confidence(0.6))
    assert (once[0, 0, 2, 2], once[1, 1, 2, 2]) == (SURE, DOUBT)


def test_agreement_keeps_what_both_say_and_the_network_alone_elsewhere() -> None:
    labels = _heart()
    completed = labels.astype(np.uint8)
    completed[0, 4:8, 5:7] = 2  # the walker calls half of the first cavity muscle
    completed[1] = IGNORE
    probabilities = _certain(labels, 0.5)  # below the confidence, which agreement does not ask for
    scores = agreed_scores(probabilities, None, completed, Confidence(0.6))
    differs = (completed[0] != labels[0])[None] & np.ones((4, 1, 1), bool)
    assert (scores[0, 3][differs[0]] == DOUBT).all() and (scores[0, 0][differs[0]] == DOUBT).all()
    for label in range(4):
        assert (scores[0, label][~differs[0]] == SURE * (labels[0] == label)[~differs[0]]).all()
    np.testing.assert_array_equal(scores[1], pseudo_scores(probabilities, None, Confidence(0.6))[1])
    completed[1] = 0  # nothing, says the walker: a doubt where the network sees something, not an empty slice
    scores = agreed_scores(probabilities, None, completed, Confidence(0.6))
    assert (scores[1, 0][labels[1] > 0] == DOUBT).all() and (scores[1, 0][labels[1] == 0] == SURE).all()


def test_tags_settle_agreement() -> None:
    labels = _heart()
    completed = np.where(labels == 1, 0, labels).astype(np.uint8)
    scores = agreed_scores(_certain(labels), np.array([[0, 1, 1]] * 2), completed, Confidence(0.6))
    np.testing.assert_array_equal(scores.argmax(1), completed)
    assert set(np.unique(scores)) == {0, SURE}


def _blurred_disc(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright disc (1, 48, 48), its mask, and probabilities of a disc of the same centre with a slope 24 px wide."""
    rows, columns = np.mgrid[:48, :48] - 24
    mask = np.hypot(rows, columns)[None] < 12
    image = 0.2 + 0.6 * mask + noise * np.random.default_rng(0).normal(size=mask.shape)
    inside = np.clip((20 - np.hypot(rows, columns)) / 24 + 0.1, 0, 1)[None]
    return image, mask, np.stack((1 - inside, inside, 0 * inside), 1)


def test_the_walk_ends_at_the_edge_of_the_image() -> None:
    image, mask, probabilities = _blurred_disc(noise=0.02)
    blurred = probabilities[:, 1] > 0.5
    found = walked(probabilities, np.array([[1, 1]]), image, WalkerConfig(beta=2000))[:, 1] > 0.5
    assert abs(blurred.sum() / mask.sum() - 1) > 0.2
    np.testing.assert_array_equal(found, mask)


def test_the_aversion_to_edges_is_the_setting() -> None:
    """A large one stops at the edge of the image, one of next to nothing does not see it."""
    image, mask, probabilities = _blurred_disc(noise=0.02)
    blind = walked(probabilities, None, image, WalkerConfig(beta=1e-3))[:, 1] > 0.5
    assert (blind != mask).sum() > 5


def test_an_absent_class_is_no_seed_of_the_walk() -> None:
    image, mask, probabilities = _blurred_disc(noise=0.0)
    probabilities = probabilities[:, [0, 2, 1]]
    found = walked(probabilities, np.array([[1, 0]]), image, WalkerConfig())
    assert not found[:, 2].any()


def test_a_slice_without_a_sure_class_keeps_its_probabilities() -> None:
    probabilities = np.stack(([0.5, 0.5], [0.99, 0.01]))[:, :, None, None] * np.ones((1, 1, 8, 8))
    image = np.random.default_rng(0).random((2, 8, 8))
    found = walked(probabilities, None, image, WalkerConfig())
    np.testing.assert_allclose(found, probabilities, rtol=1e-6)


def test_background_may_need_more_than_the_classes() -> None:
    # Pixels from left to right: background .95, .8, .55, and class 1 .7 and .55.
    background = np.array([0.95, 0.8, 0.55, 0.3, 0.45])
    probabilities = np.stack((background, 1 - background))[None, :, None]
    scores = pseudo_scores(probabilities, None, Confidence(0.6, 0.9))
    assert np.round(scores[0, 1, 0] / 255, 2).tolist() == [0, DOUBTFUL, DOUBTFUL, 1, DOUBTFUL]
    alike = pseudo_scores(probabilities, None, Confidence(0.6))
    assert np.round(alike[0, 1, 0] / 255, 2).tolist() == [0, 0, DOUBTFUL, 1, DOUBTFUL]
