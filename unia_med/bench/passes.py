"""Benchmarks of whole passes: the start of the program, activation maps of a step, the volumes of a validation."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor

from unia_med.bench.timing import Form
from unia_med.build import build_method
from unia_med.config.schema import RunConfig
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.engine.voxels import draw_voxels
from unia_med.inference.predictor import Predictor
from unia_med.localise.cam import multi_scale_maps
from unia_med.methods.unia import UniA
from unia_med.tensors import evaluating

_PROGRAM = "import sys; from unia_med.cli.main import main; sys.exit(main(sys.argv[1:]))"
_SCALES = (1.0, 0.5, 1.5)
_VIT_NETWORK = {
    "network": {
        "backbone": "vit",
        "model": "vit_small_patch16_224",
        "weights": "none",
        "decoder": "largefov",
        "input_size": 224,
    },
    "method": {"name": "unia", "scales": list(_SCALES), "flip": True},
    "data": {"classes": ["RV", "MYO", "LV"]},
}
"""That of `acdc_vit.yaml` at 224 pixels, without trained weights, and maps over the published scales and mirrors."""
_CPU_NETWORK = {
    "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [64, 48, 32, 16]},
    "method": {"name": "partial"},
    "data": {"classes": ["RV", "MYO", "LV"], "grid": {"spacing_mm": 1.5, "size": [160, 160]}},
}
"""That of `cardiac_sax.yaml`, without trained weights."""


def start_up(device: torch.device) -> tuple[Form, Form]:
    """Return `predict` of one small volume, as a process of its own, and the same after an import of all of MONAI."""
    return _predicting("", device), _predicting("import monai; ", device)


def _predicting(before: str, device: torch.device) -> Form:
    def form() -> Tensor:
        with tempfile.TemporaryDirectory() as name:
            scan, masks = Path(name) / "scan.nii.gz", Path(name) / "masks"
            nibabel.save(nibabel.Nifti1Image(_rough_heart(), np.diag([1.5, 1.5, 8.0, 1.0])), scan)
            line = ["predict", "--model", "cardiac-sax", "--input", str(scan), "--output", str(masks)]
            code = [sys.executable, "-c", before + _PROGRAM, *line, "--device", str(device)]
            subprocess.run(code, check=True, capture_output=True)
            return torch.from_numpy(read_volume(masks / "scan_seg.nii.gz").array.astype(np.int64))

    return form


def _rough_heart() -> np.ndarray:
    """Return discs in the places of lung, body, RV, wall and LV (96, 96, 2); of noise all masks would be empty."""
    rows, columns = np.mgrid[:96, :96] - 47.5
    image = np.random.default_rng(0).normal(40, 8, (96, 96, 2))
    image[np.hypot(rows, columns) < 44] += 60
    image[np.hypot(rows + 10, columns + 20) < 20] += 240
    image[np.hypot(rows, columns) < 24] = 90
    image[np.hypot(rows, columns) < 17] = 330
    return image.astype(np.int16)


def activation_maps(device: torch.device) -> tuple[Form, Form]:
    """Return UniA's pass of a step with its maps: as it goes, and with a whole pass for every scale and mirror.

    What goes: the step's own pass serves as scale 1; the others skip the decoder and the logits of the affinity.
    """
    torch.manual_seed(0)
    method = build_method(RunConfig.model_validate(_VIT_NETWORK)).to(device).eval()
    assert isinstance(method, UniA)
    network = method.network
    images = torch.rand(2, 1, 224, 224, device=device)

    @torch.no_grad()
    def used() -> Tensor:
        output = network(images, need_affinity=True)
        known = (output.cam, output.aux_cam)
        return torch.cat(multi_scale_maps(images, network.activation_maps, _SCALES, flip=True, unscaled=known))

    def whole(views: Tensor) -> tuple[Tensor, Tensor]:
        output = network(views, need_affinity=True)
        return output.cam, output.aux_cam

    @torch.no_grad()
    def plain() -> Tensor:
        whole(images)
        return torch.cat(multi_scale_maps(images, whole, _SCALES, flip=True))

    return used, plain


def validation(device: torch.device) -> tuple[Form, Form]:
    """Return the scoring of a volume and the voxels for its temperature: from one prediction, and from two."""
    torch.manual_seed(0)
    config = RunConfig.model_validate(_CPU_NETWORK)
    method = build_method(config).to(device)
    predictor = Predictor(method, config, device)
    volume = Volume(torch.rand(160, 160, 8).numpy(), np.diag([1.5, 1.5, 8.0, 1.0]))
    truth = np.zeros((160, 160, 8), np.uint8)
    truth[60:100, 60:100] = 3

    def result(again: bool) -> Tensor:
        with evaluating(method):
            if again:
                labels = predictor.predict_volume(volume).labels
            detail = predictor.predict_in_detail(volume)
            labels = labels if again else detail.labels
        drawn = draw_voxels(truth, detail.raw, detail.probabilities, volume.spacing_mm, 2000, seed=0)
        return torch.cat((torch.from_numpy(labels).flatten().float(), torch.from_numpy(drawn.probabilities).flatten()))

    return lambda: result(again=False), lambda: result(again=True)
