"""The predictor with methods whose answer is known from the image."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.inference.predictor import Predictor
from unia_med.inference.tta import DEFAULT_SCALES
from unia_med.methods.base import Batch, Method, Prediction


class Identity(Method):
    """Classes 0..3 by intensity: the image itself is the segmentation, in steps of a third."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []
        self.modes: list[tuple[bool, bool]] = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def predict(self, images: Tensor) -> Prediction:
        self.calls.append(tuple(images.shape))
        self.modes.append((self.training, torch.is_grad_enabled()))
        classes = (images[:, 0] * 3).round().long().clamp(0, 3)
        probabilities = torch.nn.functional.one_hot(classes, 4).permute(0, 3, 1, 2).float()
        return Prediction(probabilities, torch.zeros_like(images[:, 0]))


class Constant(Identity):
    """The same probabilities everywhere."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.probabilities = torch.tensor(probabilities)

    def predict(self, images: Tensor) -> Prediction:
        shape = (len(images), 4, *images.shape[-2:])
        return Prediction(self.probabilities[None, :, None, None].expand(shape), torch.zeros_like(images[:, 0]))


def config(spacing: float | None = None, size: tuple[int, int] = (32, 32), **inference: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"grid": {"spacing_mm": spacing, "size": size, "percentiles": [0, 100]}},
            "inference": {"batch_slices": 4, **inference},
        }
    )


def labels_as_image(shape: tuple[int, ...], seed: int = 0) -> Volume:
    """A volume of random classes 0..3, all of them present, stored as int16 intensities 100 to 400."""
    classes = np.random.default_rng(seed).integers(0, 4, shape)
    classes.flat[:4] = range(4)
    return Volume((100 + 100 * classes).astype(np.int16), np.diag([-1.5, 1.5, 8.0, 1.0]))


def classes_of(volume: Volume) -> np.ndarray:
    return (volume.array - 100) // 100


@pytest.mark.parametrize(
    "shape", [(32, 32, 5), (31, 17, 3), (5, 9, 2), (20, 32, 1), (29, 30, 9), (13, 8, 2, 3), (32, 7, 1, 2)]
)
def test_identity_in_identical_volume_out(shape: tuple[int, ...]) -> None:
    volume = labels_as_image(shape)
    if len(shape) == 4:  # intensities are scaled per frame
        volume.array[:2, :2, 0] = np.array([[100, 200], [300, 400]])[..., None]
    labels, uncertainty = Predictor(Identity(), config(), postprocess=False).predict_volume(volume)
    assert labels.dtype == np.uint8 and uncertainty.dtype == np.float32
    np.testing.assert_array_equal(labels, classes_of(volume))
    np.testing.assert_array_equal(uncertainty, np.zeros(shape, np.float32))


def test_spacing_that_is_already_right_changes_nothing() -> None:
    volume = labels_as_image((30, 27, 4))
    labels, _ = Predictor(Identity(), config(spacing=1.5), postprocess=False).predict_volume(volume)
    np.testing.assert_array_equal(labels, classes_of(volume))


@pytest.mark.parametrize("spacing", [0.8, 2.1])
def test_smooth_regions_survive_resampling(spacing: float) -> None:
    array = np.zeros((60, 44, 3), np.float32)
    array[10:40, 12:30] = 300.0
    volume = Volume(array, np.diag([1.5, 1.5, 8.0, 1.0]))
    labels, _ = Predictor(Identity(), config(spacing, (112, 112)), postprocess=False).predict_volume(volume)
    # Two-valued image: at the edge linear weights pass through classes 1 and 2, but within a pixel only.
    far = np.ones(array.shape, bool)
    far[8:42, 10:32] = False
    far[12:38, 14:28] = True
    np.testing.assert_array_equal(labels[far], (array / 100)[far])
    assert abs(np.count_nonzero(labels >= 2) - np.count_nonzero(array)) < 0.1 * np.count_nonzero(array)


def test_outside_the_field_of_view_is_certain_background() -> None:
    labels, uncertainty = Predictor(Constant(0.1, 0.5, 0.2, 0.2), config()).predict_volume(labels_as_image((50, 40, 2)))
    inside = np.zeros((50, 40, 2), bool)
    inside[9:41, 4:36] = True
    np.testing.assert_array_equal(labels == 1, inside)
    assert not uncertainty[~inside].any()
    entropy = -(0.1 * np.log(0.1) + 0.5 * np.log(0.5) + 0.4 * np.log(0.2)) / np.log(4)
    np.testing.assert_allclose(uncertainty[inside], entropy, rtol=1e-5)


def test_ignorance_is_one_and_temperature_moves_it() -> None:
    volume = labels_as_image((32, 32, 1))
    assert Predictor(Constant(0.25, 0.25, 0.25, 0.25), config()).predict_volume(volume).uncertainty == pytest.approx(1)
    soft, sharp = (
        Predictor(Constant(0.7, 0.1, 0.1, 0.1), config(temperature=t)).predict_volume(volume).uncertainty.mean()
        for t in (2.0, 0.5)
    )
    plain = Predictor(Constant(0.7, 0.1, 0.1, 0.1), config()).predict_volume(volume).uncertainty.mean()
    assert sharp < plain < soft


def test_frames_are_predicted_one_by_one() -> None:
    cine = labels_as_image((16, 16, 3, 4))
    cine.array[:2, :2, 0] = np.array([[100, 200], [300, 400]])[..., None]
    predictor = Predictor(Identity(), config(), postprocess=False)
    together = predictor.predict_volume(cine).labels
    for index in range(4):
        np.testing.assert_array_equal(together[..., index], predictor.predict_volume(cine.frame(index)).labels)


def test_memory_stays_flat_batches_are_bounded() -> None:
    method = Identity()
    Predictor(method, config(), postprocess=False).predict_volume(labels_as_image((16, 16, 10, 2)))
    assert [call[0] for call in method.calls] == [4, 4, 2] * 2


def test_the_crf_of_a_slab_follows_the_images_of_its_own_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all native slices are in memory at once or one by one."""
    volume, crf = labels_as_image((16, 16, 5)), {"iterations": 1}
    whole = Predictor(Identity(), config(crf=crf), postprocess=False).predict_volume(volume).labels
    monkeypatch.setattr("unia_med.inference.native._NATIVE", 1)
    parts = Predictor(Identity(), config(crf=crf), postprocess=False).predict_volume(volume).labels
    np.testing.assert_array_equal(parts, whole)


def test_postprocessing_follows_the_config() -> None:
    array = np.full((32, 32, 3), 100, np.int16)
    array[5:15, 5:15], array[28, 28, 1] = 400, 400
    volume = Volume(array, np.diag([1.5, 1.5, 8.0, 1.0]))
    named, other = {"largest_component": ["LV"]}, {"largest_component": ["RV", "MYO"]}
    assert Predictor(Identity(), config()).predict_volume(volume).labels[28, 28, 1] == 3
    assert Predictor(Identity(), config(postprocess=named)).predict_volume(volume).labels[28, 28, 1] == 0
    assert Predictor(Identity(), config(postprocess=other)).predict_volume(volume).labels[28, 28, 1] == 3
    assert Predictor(Identity(), config(postprocess=named), postprocess=False).predict_volume(volume).labels.max() == 3


def test_eval_mode_without_gradients_and_back() -> None:
    method = Identity().train()
    Predictor(method, config()).predict_volume(labels_as_image((8, 8, 2)))
    assert method.modes == [(False, False)]
    assert method.training
    method.eval()
    Predictor(method, config()).predict_volume(labels_as_image((8, 8, 2)))
    assert not method.training


def test_a_sheared_stack_goes_the_general_way() -> None:
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    affine[0, 2] = 4.0
    volume = Volume(np.full((40, 30, 4), 5, np.int16), affine)
    labels, uncertainty = Predictor(Constant(0, 1, 0, 0), config(spacing=1.2, size=(64, 64))).predict_volume(volume)
    assert labels.shape == uncertainty.shape == (40, 30, 4)
    assert (labels == 1).mean() > 0.9


def test_a_constant_volume_has_no_nan() -> None:
    volume = Volume(np.full((20, 20, 2), 7, np.int16), np.diag([1.5, 1.5, 8.0, 1.0]))
    labels, uncertainty = Predictor(Identity(), config(spacing=2.0)).predict_volume(volume)
    assert np.isfinite(uncertainty).all() and labels.shape == (20, 20, 2)


def test_nan_from_the_network_is_an_error() -> None:
    with pytest.raises(UserError, match="NaN"):
        Predictor(Constant(float("nan"), 0, 0, 1), config()).predict_volume(labels_as_image((8, 8, 1)))


def test_tta_uses_the_views_of_the_config_or_three_scales() -> None:
    method = Identity()
    volume = labels_as_image((64, 64, 1))
    Predictor(method, config(size=(64, 64)), tta=True).predict_volume(volume)
    assert [call[-1] for call in method.calls] == [round(64 * s / 16) * 16 for s in DEFAULT_SCALES]
    method.calls.clear()
    Predictor(method, config(size=(64, 64), tta={"flips": True, "scales": [1.0]}), tta=True).predict_volume(volume)
    assert [call[-1] for call in method.calls] == [64, 64]
    method.calls.clear()
    Predictor(method, config(size=(64, 64), tta={"flips": True, "scales": [1.0]})).predict_volume(volume)
    assert len(method.calls) == 1


@pytest.mark.parametrize(("asked", "sides"), [(None, [48, 64]), (True, [48, 64]), (False, [64])])
def test_views_of_the_config_are_seen_by_default_where_it_says_so(asked: bool | None, sides: list[int]) -> None:
    method = Identity()
    views = {"scales": [0.75, 1.0], "by_default": True}
    Predictor(method, config(size=(64, 64), tta=views), tta=asked).predict_volume(labels_as_image((64, 64, 1)))
    assert [call[-1] for call in method.calls] == sides


class Doubting(Constant):
    """An uncertainty map of its own: the image."""

    samples_features = True

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(super().predict(images).probabilities, images[:, 0])

    def predict_samples(self, images: Tensor, samples: int) -> Prediction:
        return Prediction(super().predict(images).probabilities.roll(samples, 1), images[:, 0])


def test_the_networks_own_uncertainty_comes_back_on_the_grid_of_the_volume() -> None:
    volume = labels_as_image((50, 40, 2))
    doubt = (volume.array - 100) / 300
    expected = np.where(np.pad(np.ones((32, 32), bool), ((9, 9), (4, 4)))[..., None], doubt, 0)
    own = Predictor(Doubting(0.1, 0.5, 0.2, 0.2), config(uncertainty="network", temperature=3.0))
    np.testing.assert_allclose(own.predict_volume(volume).uncertainty, expected, atol=1e-6)
    detail = Predictor(Doubting(0.1, 0.5, 0.2, 0.2), config()).predict_in_detail(volume)
    np.testing.assert_allclose(detail.network, expected, atol=1e-6)


@pytest.mark.parametrize("shear", [0.0, 4.0])
def test_details_agree_with_the_plain_prediction(shear: float) -> None:
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    affine[0, 2] = shear
    volume = Volume(labels_as_image((30, 26, 6)).array, affine)
    predictor = Predictor(Identity(), config(spacing=1.2))
    detail, plain = predictor.predict_in_detail(volume), predictor.predict_volume(volume)
    np.testing.assert_array_equal(detail.labels, plain.labels)
    np.testing.assert_array_equal(detail.entropy, plain.uncertainty)
    assert detail.probabilities.shape == (4, 30, 26, 6)
    np.testing.assert_allclose(detail.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(detail.raw, detail.labels)


def test_labels_before_post_processing_are_kept() -> None:
    array = np.full((30, 26, 6), 100, np.int16)
    array[10:20, 10:20], array[:3, :3, :2] = 400, 400  # a structure, and a stray piece
    volume = Volume(array, np.diag([1.5, 1.5, 8.0, 1.0]))
    cleaned = config(postprocess={"largest_component": True})
    detail = Predictor(Identity(), cleaned).predict_in_detail(volume)
    np.testing.assert_array_equal(detail.raw, Predictor(Identity(), config()).predict_volume(volume).labels)
    assert detail.raw[0, 0, 0] == 3 and detail.labels[0, 0, 0] == 0


def test_samples_are_asked_for_and_refused_where_there_are_none() -> None:
    volume = labels_as_image((32, 32, 1))
    labels = Predictor(Doubting(0.1, 0.5, 0.2, 0.2), config(samples=2), postprocess=False).predict_volume(volume).labels
    assert (labels == 3).all()  # class 1 rolled by two
    with pytest.raises(UserError, match=r"inference\.samples.*no Gaussian features"):
        Predictor(Constant(1, 0, 0, 0), config(samples=2))


class Marking(Identity):
    """Its one label column says class 2 in rows with a tag, and abstains below half intensity."""

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        marked = 2 * batch.tags[:, :1, None].long().expand(-1, *batch.images.shape[-2:])
        return {"CAM": torch.where(batch.images[:, 0] < 0.5, 255, marked)}


def test_label_columns_come_back_on_the_grid_of_the_volume() -> None:
    volume = labels_as_image((50, 40, 6))
    tags = np.array([[1], [0], [1], [1], [0], [1]], np.int8)
    expected = np.where(classes_of(volume) < 2, 255, 2 * tags[:, 0].astype(int))
    inside = np.pad(np.ones((32, 32), bool), ((9, 9), (4, 4)))[..., None]
    found = Predictor(Marking(), config()).label_maps(volume, tags)
    np.testing.assert_array_equal(found["CAM"], np.where(inside, expected, 0))


class Hungry(Identity):
    """Run out of memory above a number of slices."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def predict(self, images: Tensor) -> Prediction:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("full")
        return super().predict(images)


def test_out_of_memory_halves_the_batch_once_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    volume = labels_as_image((16, 16, 9))
    with caplog.at_level(logging.WARNING):
        labels = Predictor(Hungry(2), config(), postprocess=False).predict_volume(volume).labels
    np.testing.assert_array_equal(labels, classes_of(volume))
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory on cpu: going on with 2 slices at a time"
    ]
    with pytest.raises(UserError, match="2 slices at a time"):
        Predictor(Hungry(1), config()).predict_volume(volume)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_labels() -> None:
    volume = labels_as_image((29, 31, 5))
    labels, uncertainty = Predictor(Identity(), config(), "cuda", postprocess=False).predict_volume(volume)
    np.testing.assert_array_equal(labels, classes_of(volume))
    assert not uncertainty.any()


def test_frames_of_few_slices_go_through_together_and_come_back_in_order() -> None:
    frames = [labels_as_image((32, 30, 2), seed) for seed in range(5)]
    method = Identity()
    found = list(Predictor(method, config(batch_slices=5), postprocess=False).predict_frames(iter(frames)))
    assert [shape[0] for shape in method.calls] == [4, 4, 2]
    for frame, (labels, uncertainty) in zip(frames, found, strict=True):
        np.testing.assert_array_equal(labels, classes_of(frame))
        assert not uncertainty.any()


def test_frames_are_read_when_they_are_needed() -> None:
    read: list[int] = []

    def frames() -> Iterator[Volume]:
        for index in range(6):
            read.append(index)
            yield labels_as_image((32, 30, 3), index)

    found = Predictor(Identity(), config(batch_slices=4)).predict_frames(frames())
    next(found)
    assert read == [0]
    assert len(list(found)) == 5
