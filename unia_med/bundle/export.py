"""Writes a trained run as a MONAI bundle."""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from unia_med.bundle.average import about, averaged
from unia_med.bundle.card import card, settings_text
from unia_med.bundle.carried import write_carried
from unia_med.bundle.source import network_source, network_weights
from unia_med.bundle.steps import require_whole
from unia_med.bundle.templates import filled_json, filled_text, template
from unia_med.bundle.trace import trace_prediction
from unia_med.bundle.views import with_views
from unia_med.checksums import write_sums
from unia_med.config.data import GridConfig
from unia_med.config.load import plain
from unia_med.config.schema import RunConfig
from unia_med.data.io.orientation import AXIS_CODES
from unia_med.engine.checkpoint import load_checkpoint
from unia_med.errors import UserError
from unia_med.files import require_writable, writing_in
from unia_med.inference.bundle import SUMS
from unia_med.inference.onnx import INSTALL, TOLERANCE, missing_packages, run_onnx, write_onnx
from unia_med.methods.base import Method
from unia_med.runs import Run
from unia_med.tensors import with_layout

LOG = logging.getLogger(__name__)

_TEMPLATES = (
    "configs/inference.json",
    "configs/evaluate.json",
    "configs/train.json",
    "configs/metadata.json",
    "docs/README.md",
    "README.md",
)
_COPIES = ("configs/logging.conf", "LICENSE")
_PART = ".part"
"""Ending of a folder that is not yet complete."""
_SAME = 1e-5
"""Largest difference of a probability between the method and the bundle's network, which compute the same."""


def export_bundle(
    run: Run | Path | str | Sequence[Run],
    output: Path,
    onnx: bool | None = None,
    *,
    authors: str | None = None,
    copyright_notice: str | None = None,
    cleaning: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write a bundle; the folder appears whole, checked against the run, or not at all.

    Args:
        run: what is exported, or its folder; of several runs the average.
        output: folder of the bundle; must be new or empty.
        onnx: write `model.onnx`, too; None does where the packages are there.
        authors: who trained the run, for metadata and model card.
        copyright_notice: of the weights, for the metadata.
        cleaning: of several runs, the steps of post-processing with labels in the order of the first; None: those
            that all have in common.

    Returns:
        What the user should know, one sentence each.

    Raises:
        UserError: the folder is not empty, the run has no checkpoint, its settings or its method cannot be exported,
            or ONNX is asked for and its packages are missing.
    """
    _check_output(output)
    runs = list(run) if isinstance(run, Sequence) and not isinstance(run, str) else [Run.open(run)]
    checkpoint = runs[0].checkpoint
    missing = missing_packages()
    if onnx and missing:
        raise UserError(f"ONNX needs {', '.join(missing)}", where="--onnx", remedy=INSTALL)
    with_onnx = not missing if onnx is None else onnx
    notes = list(dict.fromkeys(note for one in runs for note in _check_settings(one.config)))
    if onnx is None and missing:
        notes.append(f"model.onnx was left out: {', '.join(missing)} not installed. {INSTALL}")
    step = load_checkpoint(checkpoint, keys=()).get("step")
    method, config = _predicting(runs[0]) if len(runs) == 1 else averaged(runs, cleaning)
    with writing_in(output), _whole(output) as folder:
        given = {"authors": authors, "copyright": copyright_notice}
        values = {**_path_values(config), **card(config, runs[0].folder, step, output.resolve().name)}
        values |= about(runs, values) if len(runs) > 1 else {}
        values.update({name: text for name, text in given.items() if text})
        _write(folder, method, config, values, with_onnx)
        write_sums(folder, folder / SUMS)
    if "segmentation" not in output.name.lower():
        notes.append(f"MONAI Label reads the kind of task from the folder's name: {output.name}_segmentation would do")
    return notes


def _predicting(run: Run) -> tuple[Method, RunConfig]:
    return with_views(run.method(), run.config.inference.tta), run.config


def _check_output(output: Path) -> None:
    require_writable(output, folder=True)
    if output.is_dir() and any(output.iterdir()):
        raise UserError("the folder is not empty", where=output, remedy="Choose a new one, or empty it")


def _check_settings(config: RunConfig) -> list[str]:
    """Return what a bundle does differently from `unia-med predict`; what it cannot do is refused."""
    if config.data.grid.units == "pixels" or config.data.grid.percentiles is None or config.data.grid.resize != "none":
        raise UserError(
            "a bundle reads NIfTI volumes and scales them by percentiles, this run takes pictures",
            where="data.name",
            remedy="Predict with `unia-med predict`",
        )
    if config.inference.samples:
        raise UserError(
            f"a bundle predicts without random draws, this run averages {config.inference.samples}",
            where="inference.samples",
            remedy="Set it to 0 in the run's config.yaml",
        )
    notes = []
    if config.inference.uncertainty != "entropy":
        notes.append("the bundle's uncertainty is the entropy of the probabilities, not the network's own map")
    if config.inference.crf.iterations:
        notes.append("the bundle's masks are those before the dense CRF (inference.crf), which it does not compute")
    return notes


def _path_values(config: RunConfig) -> dict[str, Any]:
    """Values for the templates of the configs."""
    grid, inference = config.data.grid, config.inference
    groups = config.data.groups or {name: [name] for name in config.data.classes}
    values = config.data.mask_values
    pairs = [(values[member], label) for label, members in enumerate(groups.values(), 1) for member in members]
    lower, upper = grid.percentiles or (0, 100)
    return {
        "height": grid.size[0],
        "width": grid.size[1],
        "lower_percentile": lower,
        "upper_percentile": upper,
        **_resampling(grid),
        "slice_axis": grid.slice_axis,
        "channels": config.data.channels,
        "channel_endings": list(config.data.volumes.channel_endings),
        "class_count": len(config.data.target_classes) + 1,
        "batch_slices": inference.batch_slices,
        "temperature": inference.temperature or 1.0,
        "walker": plain(inference)["walker"],
        "slice_smoothing": inference.slice_smoothing,
        "mask_values": [value for value, _ in pairs],
        "mask_labels": [label for _, label in pairs],
        **inference.postprocess.steps(config.data),
    }


def _resampling(grid: GridConfig) -> dict[str, Any]:
    """Return the transforms to the orientation and pixel size of the network, with and without the mask."""
    both = ["image", "label"]
    spacing: dict[str, Any] | None = None
    if grid.spacing_mm is not None:
        spacing = {
            "_target_": "{{package}}.bundle.clients.SharedItemSpacingd",
            "pixdim": [grid.spacing_mm, grid.spacing_mm, -1.0],
            "padding_mode": "border",
        }
    orientation: dict[str, Any] | None = None
    if grid.slice_axis != "stored":
        codes = [["L", "R"], ["P", "A"], ["I", "S"]]
        orientation = {"_target_": "Orientationd", "axcodes": AXIS_CODES.get(grid.slice_axis), "labels": codes}
    return {
        "spacing": spacing and {**spacing, "keys": "image", "mode": "bilinear"},
        "training_spacing": spacing and {**spacing, "keys": both, "mode": ["bilinear", "nearest"]},
        "orientation": orientation and {**orientation, "keys": "image"},
        "training_orientation": orientation and {**orientation, "keys": both},
    }


def _write(folder: Path, method: Method, config: RunConfig, values: dict[str, Any], with_onnx: bool) -> None:
    method = with_layout(method, torch.contiguous_format)
    program = trace_prediction(method, config.data.grid.size, config.data.channels)
    weights = network_weights(program)
    package = f"scripts_{_fingerprint(weights, settings_text(config))}"
    title = f"The network of the bundle: prediction of the method {config.method.name}."
    (folder / "models").mkdir()
    write_carried(folder / package)
    (folder / package / "network.py").write_text(network_source(program, title), encoding="utf-8")
    onnx_row = "| `models/model.onnx` | the same network for ONNX Runtime |\n" if with_onnx else ""
    _fill_templates(folder, {**values, "package": package, "onnx_row": onnx_row})
    (folder / "docs" / "training_config.yaml").write_text(settings_text(config), encoding="utf-8")
    torch.save(weights, folder / "models" / "model.pt")
    network = load_network(folder)
    _write_torchscript(network, folder)
    example = torch.rand(2, config.data.channels, *config.data.grid.size)
    if with_onnx:
        write_onnx(network, example, folder / "models" / "model.onnx")
    _check_equal(method, network, folder, config, with_onnx)


def _fill_templates(folder: Path, values: Mapping[str, Any]) -> None:
    for name in ("configs", "docs"):
        (folder / name).mkdir()
    for name in _TEMPLATES:
        fill = filled_json if name.endswith(".json") else filled_text
        (folder / name).write_text(fill(template(name), values), encoding="utf-8")
    for name in _COPIES:
        (folder / name).write_text(template(name), encoding="utf-8")


def load_network(bundle: Path) -> nn.Module:
    """Return the network of a bundle, built from the code and the weights in it, in eval mode on the CPU.

    Args:
        bundle: its folder.
    """
    (source,) = bundle.glob("scripts_*/network.py")
    network = _module(source).Network()
    require_whole(bundle / "models" / "model.pt")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True))
    return network.eval()


def _module(source: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{source.parent.name}_network", source)
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_torchscript(network: nn.Module, folder: Path) -> None:
    # MONAI Deploy looks for the configs inside of the file.
    configs = ("metadata.json", "inference.json")
    extra = {name: (folder / "configs" / name).read_text(encoding="utf-8") for name in configs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but it is what MONAI Deploy loads
        torch.jit.save(torch.jit.script(network), folder / "models" / "model.ts", _extra_files=extra)


def _check_equal(method: Method, network: nn.Module, folder: Path, config: RunConfig, with_onnx: bool) -> None:
    """Make sure that every form of the network gives the method's result, for one slice and for several."""
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(folder / "models" / "model.ts")
    for count in (1, 3):
        images = torch.rand(count, config.data.channels, *config.data.grid.size, generator=generator)
        with torch.no_grad():
            wanted = method.eval().predict(images).probabilities.float()
            _compare("network.py", network(images), wanted, _SAME)
            _compare("model.ts", script(images), wanted, _SAME)
        if with_onnx:
            _compare("model.onnx", run_onnx(folder / "models" / "model.onnx", images), wanted, TOLERANCE)


def _compare(name: str, found: Tensor, wanted: Tensor, tolerance: float) -> None:
    difference = float((found - wanted).abs().max())
    if not difference <= tolerance:
        raise RuntimeError(f"{name} differs from the run's prediction by {difference:g}, more than {tolerance:g}")


def _fingerprint(weights: Mapping[str, Tensor], settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:8]


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """Yield a folder next to the output that replaces it when everything is written, and is removed otherwise."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for leftover in output.parent.glob(f".{glob.escape(output.name)}.*{_PART}"):  # of an export that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=_PART))
    try:
        yield folder
        for cache in folder.rglob("__pycache__"):
            shutil.rmtree(cache)
        mask = os.umask(0)
        os.umask(mask)
        folder.chmod(0o777 & ~mask)  # mkdtemp makes private folders
        if output.is_dir():
            output.rmdir()  # it is empty
        folder.replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
