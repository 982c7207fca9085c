"""The packaged ImageNet weights arrive in timm's network, every tensor of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unia_med.errors import UserError
from unia_med.nn import lite0
from unia_med.nn.lite0 import (
    FROM_RUN,
    STAGE_CHANNELS,
    STAGE_STRIDES,
    Lite0Stages,
    load_state_file,
    packaged_weights,
)
from unia_med.nn.torchvision_compat import ensure_torchvision_operators

ensure_torchvision_operators()
timm = pytest.importorskip("timm")


def _full_network() -> torch.nn.Module:
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(packaged_weights(), strict=True)
    return network.eval()


def test_every_tensor_of_timm_gets_a_value_of_its_shape() -> None:
    expected = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    found = packaged_weights()
    assert found.keys() == expected.keys()
    assert all(found[name].shape == expected[name].shape for name in expected)


@pytest.mark.parametrize(
    ("picture", "classes"), [("coffee", {967, 504}), ("chelsea", {281, 282, 285}), ("rocket", {657, 744})]
)
def test_a_known_photograph_is_recognised(picture: str, classes: set[int]) -> None:
    """ImageNet: 967 espresso, 504 mug, 281/282/285 cats, 657 missile, 744 projectile; a wrong remap gives noise."""
    data = pytest.importorskip("skimage.data")
    try:
        image = getattr(data, picture)()
    except Exception as error:  # the picture would need a download
        pytest.skip(f"{picture} is not shipped with this scikit-image: {error}")
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float() / 255
    square = torch.nn.functional.interpolate(square, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = _full_network()((square - 0.5) / 0.5)
    assert int(logits.argmax()) in classes


def test_one_grey_channel_equals_three_equal_ones() -> None:
    stages, network = Lite0Stages().eval(), _full_network()
    grey = torch.rand(2, 1, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine = stages(grey)
        features = network.bn1(network.conv_stem((grey.expand(-1, 3, -1, -1) - 0.5) / 0.5))
        for index, stage in enumerate(network.blocks[:5]):
            features = stage(features)
            torch.testing.assert_close(mine[index], features, rtol=1e-4, atol=1e-4)
            assert features.shape[1] == STAGE_CHANNELS[index]
            assert features.shape[-2:] == (64 // STAGE_STRIDES[index], 48 // STAGE_STRIDES[index])


@pytest.mark.parametrize("weights", ["package", "none"])
def test_layers_are_those_of_timm_bit_by_bit(weights: str) -> None:
    torch.manual_seed(0)
    stages = Lite0Stages(weights, 3)
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights == "package":
        network.load_state_dict(packaged_weights())
    expected = {name.replace("blocks.", "stages."): value for name, value in network.state_dict().items()}
    found = stages.state_dict()
    assert found.keys() == {k for k in expected if k.split(".")[0] in ("conv_stem", "bn1")} | {
        k for k in expected if k.startswith(tuple(f"stages.{number}." for number in range(5)))
    }
    assert all(torch.equal(found[name], expected[name]) for name in found)
    images = torch.rand(2, 3, 45, 64)  # an odd side, so that padding differs from side to side
    for training in (True, False):
        stages.train(training), network.train(training)
        features = network.bn1(network.conv_stem((images - 0.5) / 0.5))
        mine = stages(images)
        for index, stage in enumerate(network.blocks[:5]):
            features = stage(features)
            assert torch.equal(mine[index], features)
        stages.zero_grad(), network.zero_grad()
        mine[-1].square().mean().backward(), features.square().mean().backward()
        assert torch.equal(stages.conv_stem.weight.grad, network.conv_stem.weight.grad)
        assert torch.equal(stages.stages[1][0].bn2.running_var, network.blocks[1][0].bn2.running_var)


def test_a_trained_run_is_opened_without_timm_and_without_random_numbers() -> None:
    before = torch.get_rng_state()
    empty, full = Lite0Stages(FROM_RUN, 2), Lite0Stages("package", 2)
    torch.set_rng_state(before)
    Lite0Stages(FROM_RUN, 2)
    assert torch.equal(torch.get_rng_state(), before)
    empty.load_state_dict(full.state_dict())
    images = torch.rand(1, 2, 32, 32)
    assert torch.equal(empty.eval()(images)[-1], full.eval()(images)[-1])


def test_a_missing_or_hostile_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such weights file"):
        load_state_file(tmp_path / "absent.pt")
    hostile = tmp_path / "hostile.pt"
    torch.save({"run": print}, hostile)
    with pytest.raises(UserError, match="hostile.pt"):
        load_state_file(hostile)


@pytest.mark.parametrize("held", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {"state_dict": torch.zeros(3)}])
def test_a_file_that_holds_no_tensors_by_name_is_refused(tmp_path: Path, held: object) -> None:
    path = tmp_path / "other.pt"
    torch.save(held, path)
    with pytest.raises(UserError, match=r"holds no tensors by name"):
        load_state_file(path)


def test_tensors_are_found_alone_and_under_the_name_of_a_state_dict(tmp_path: Path) -> None:
    path, state = tmp_path / "weights.pt", {"a": torch.arange(3.0)}
    for held in (state, {"state_dict": state, "epoch": 3}):
        torch.save(held, path)
        assert torch.equal(load_state_file(path)["a"], state["a"])


def test_one_flipped_bit_of_the_packaged_weights_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lite0.find_packaged_weights()
    damaged = bytearray(whole.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / whole.name).write_bytes(bytes(damaged))
    monkeypatch.setattr(lite0, "find_packaged_weights", lambda: tmp_path / whole.name)
    with pytest.raises(UserError, match="are damaged: their checksum.*--force-reinstall"):
        lite0.packaged_weights()
