"""Images unlike those of the training are noticed; distances against scikit-learn's, the rest in closed form."""

import numpy as np
import pytest
import torch

from unia_med.data.io.volume import Volume
from unia_med.engine.training_images import Looked, drawn, review_threshold
from unia_med.inference.likeness import Likeness, Seen, _Distance, occupied, read_likeness
from unia_med.inference.predictor import Segmentation
from unia_med.inference.records import DOUBTFUL, Tally, judged


def _seen(level=0.0, spacing=(1.0, 1.0, 5.0), array=None, seed=0, features=None, header=""):
    """Notes of an image whose network features lie around a level."""
    generator = np.random.default_rng(seed)
    seen = Seen(header)
    stored = Volume(generator.random((8, 8, 2), np.float32) if array is None else array, np.diag([*spacing, 1.0]))
    seen.image(torch.linspace(0, 1, 64).reshape(1, 8, 8, 1), stored)
    tokens = generator.normal(level, 1, (1, 20, 1, 1)) if features is None else features
    seen.features(None, None, type("Output", (), {"tokens": torch.tensor(tokens)}))
    return seen


def test_distance_is_that_of_oas_covariance():
    oas = pytest.importorskip("sklearn.covariance").OAS
    vectors = np.random.default_rng(0).normal(3, (1, 2, 3, 4, 5), (30, 5))
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    expected = np.sqrt(oas().fit(scaled).mahalanobis(scaled) / 5)
    np.testing.assert_allclose([_Distance(vectors)(vector) for vector in vectors], expected, rtol=1e-6)


def test_an_image_far_from_the_training_images_is_said():
    likeness = Likeness.of([_seen(seed=i) for i in range(12)], [_seen(seed=20)])
    assert likeness.score(_seen(seed=30)) < 1.5 and likeness.differences(_seen(seed=30)) == []
    far = _seen(level=8.0, seed=31)
    assert likeness.score(far) > 2
    assert "times as far from the training images" in likeness.differences(far)[0]
    assert all(likeness.score(_seen(seed=i)) <= 1.01 for i in range(12))


def test_training_images_that_are_all_alike_are_known(tmp_path):
    alike = Likeness.of([_seen(seed=1) for _ in range(6)])
    alike.write(tmp_path / "training_images.json")
    assert read_likeness(tmp_path / "training_images.json") == alike
    assert alike.score(_seen(seed=1)) is None  # no distance at all


def test_pixels_may_be_half_as_large_again_and_no_larger():
    likeness = Likeness.of([_seen(seed=i) for i in range(3)])
    said = [bool(likeness.differences(_seen(spacing=(mm, 1.0, 5.0)))) for mm in (0.66, 0.67, 1.49, 1.51)]
    assert said == [True, False, False, True]


def test_modality_and_spacing_are_said():
    likeness = Likeness.of([_seen(seed=i, spacing=(1.0 + 0.1 * i, 1, 5)) for i in range(3)])
    assert likeness.score(_seen()) is None  # three images are too few for distances
    ct = np.where(np.random.default_rng(0).random((8, 8, 2)) < 0.5, -1000, 40).astype(np.int16)
    said = likeness.differences(_seen(array=ct, spacing=(4.0, 1, 1)))
    assert said == [
        "intensities of a CT, trained on none",
        "4 mm along x, trained on 1 to 1.2 mm",
        "1 mm from slice to slice, trained on 5 mm",
        "an image of 32 mm along x, trained on 8 to 9.6 mm",
    ]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("MR", []),  # stored with a sign, far below 0
        ("CT", ["CT by its header, trained on none"]),
        ("", ["intensities of a CT, trained on none"]),
        ("OT", ["intensities of a CT, trained on none"]),
    ],
)
def test_a_header_says_more_than_intensities(header, said):
    likeness = Likeness.of([_seen(seed=i) for i in range(3)])
    low = np.where(np.arange(128).reshape(8, 8, 2) < 60, -1000, 40).astype(np.int16)
    assert likeness.differences(_seen(array=low, header=header)) == said
    high = np.full((8, 8, 2), 900, np.int16)
    assert likeness.differences(_seen(array=high, header=header)) == (said if header == "CT" else [])


def _with_result(seen, doubt, **volumes):
    seen.predicted(volumes, doubt)
    return seen


def test_what_is_predicted_of_an_unlike_image_is_said():
    training = [_with_result(_seen(seed=i), 0.5, LIVER=100.0 + i, LESION=float(i)) for i in range(6)]
    validation = [_with_result(_seen(seed=9 + i), 0.1 + 0.02 * i, LIVER=80.0, LESION=0.0) for i in range(5)]
    likeness = Likeness.of(training, validation)
    assert likeness.volumes_ml == {"LESION": [0.0, 5.0], "LIVER": [80.0, 105.0]} and likeness.doubt == 0.18
    alike = _with_result(_seen(seed=30), 0.2, LIVER=45.0, LESION=0.0)
    assert likeness.differences(alike) == [] and likeness.score(alike) < 1.5
    small = _with_result(_seen(seed=30), 0.4, LIVER=20.0, LESION=16.0)
    assert likeness.score(small) == 2.0  # a quarter of the smallest liver
    assert likeness.differences(small) == [
        "LESION of 16 ml, trained on 0 to 5 ml",
        "LIVER of 20 ml, trained on 80 to 105 ml",
        "an uncertainty of 0.40 inside the mask, at most 0.18 in the training",
    ]
    nothing = _with_result(_seen(seed=30), None, LIVER=0.0, LESION=0.0)
    assert likeness.differences(nothing) == ["LIVER of 0 ml, trained on 80 to 105 ml"]
    one_slice = _with_result(_seen(seed=30, array=np.ones((8, 8, 1), np.float32)), None, LIVER=0.0, LESION=0.0)
    assert likeness.differences(one_slice) == ["LIVER of 0 ml, trained on 80 to 105 ml"]  # of two slices
    thin = _with_result(_seen(seed=30, array=np.ones((3, 8, 2), np.float32)), None, LIVER=0.0, LESION=0.0)
    assert likeness.differences(thin) == ["an image of 3 mm along x, trained on 8 mm"]  # a part may lack a liver


def test_removed_share_and_review():
    seen = _seen()
    before, after = (np.array(labels, np.uint8).reshape(5, 1, 1) for labels in ([1, 1, 2, 0, 2], [1, 0, 2, 0, 1]))
    seen.cleaned(occupied(before), after)  # one voxel of four is removed; one changes its class
    assert seen.removed_share == 0.25
    known = judged(seen, None)
    assert known.threshold == DOUBTFUL and "removed 25 % of the mask" in known.warnings[0]
    tally = Tally()
    labels = np.array([0, 0, 1, 1], np.uint8).reshape(2, 2, 1)
    list(tally.watched([Segmentation(labels, np.full(labels.shape, 0.1, np.float32))]))
    row = tally.row("a", ["X", "Y"], 0.5, known)
    assert row["X_ml"] == 1.0 and row["removed_share"] == 0.25 and row["review"] == 1
    assert judged(None, None).warnings == ()


def test_record_survives_and_damage_is_no_fault(tmp_path):
    likeness = Likeness.of([_seen(seed=i) for i in range(6)])
    likeness.write(tmp_path / "a.json")
    assert read_likeness(tmp_path / "a.json") == likeness
    (tmp_path / "a.json").write_text("{")
    assert read_likeness(tmp_path / "a.json") is None and read_likeness(tmp_path / "b.json") is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0.1, 0.9), (0.2, 0.9), (0.4, 0.5), (0.5, 0.6)], 0.3),  # separable: between them
        ([(0.1, 0.9), (0.2, 0.95)], 0.2),  # all good: the largest
        ([(0.3, 0.2), (0.5, 0.1)], 0.2997),  # all bad: all of them are doubtful
        ([(0.1, 0.5), (0.2, 0.9)], 0.0999),  # the good one is more unsure than the bad one: all are doubtful
        ([(0.1, None), (0.25, None)], 0.25),  # no masks
    ],
)
def test_review_threshold(pairs, expected):
    looked = [Looked(Seen(), doubt, score) for doubt, score in pairs]
    training = [Looked(Seen(), 0.05, None)]
    assert review_threshold(looked, training)[0] == pytest.approx(expected)


def test_few_images_are_drawn_by_name(monkeypatch):
    from unia_med.data.sample import CaseFiles

    monkeypatch.setattr("unia_med.engine.training_images.MOST_IMAGES", 2)
    cases = [CaseFiles(f"c{i}", "p", None) for i in range(5)]
    assert drawn(cases) == drawn(cases[::-1]) and len(drawn(cases)) == 2


def test_a_predictor_notes_what_it_sees(tmp_path):
    from tests.bundle.untrained_run import write_run
    from unia_med.runs import Run

    write_run(tmp_path / "run")
    predictor = Run(tmp_path / "run").predictor()
    image = Volume(np.random.default_rng(0).random((48, 40, 3), np.float32), np.diag([4.0, 4.0, 8.0, 1.0]))
    with predictor.watching() as seen:
        found = predictor.predict_volume(image)
    assert seen.spacing_mm == (4.0, 4.0, 8.0) and seen.found == np.count_nonzero(found.labels)
    assert len(seen.vector) == 13 + predictor.method.network.backbone.width
    predictor.predict_volume(image)  # nobody watches any more
    assert seen.found == np.count_nonzero(found.labels)
