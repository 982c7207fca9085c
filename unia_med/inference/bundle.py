"""A MONAI bundle as a model: its own configs, code and weights do the work, as `python -m monai.bundle run` would.

Running a bundle runs the code in it. Nothing of this package's networks or predictors takes part.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from unia_med.checksums import changed_files
from unia_med.config.load import load_config
from unia_med.config.schema import RunConfig
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.frames import FrameSource, open_volume
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.files import content_digest, read_json, unwritable, zip_damage

LOG = logging.getLogger(__name__)

_PARTS = ("network", "preprocessing", "inferer", "postprocessing")
"""What `configs/inference.json` has to define, besides the weights in `models/model.pt`."""
SUMS = Path("docs", "SHA256SUMS")
"""Checksums of the files as `unia-med export` wrote them, within a bundle."""
_NOT_READ = (".md", ".onnx", ".ts", ".conf", "LICENSE", "train.json", "evaluate.json", "training_config.yaml")
"""Endings of files that take no part in a prediction."""


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a MONAI bundle, or what is left of one.

    Args:
        folder: any path.
    """
    return any((folder / "configs" / name).is_file() for name in ("metadata.json", "inference.json"))


class Bundle:
    """A bundle's folder, opened but not loaded.

    Args:
        folder: with `configs/metadata.json` and `configs/inference.json`.

    Raises:
        UserError: the metadata do not say what the network reads and predicts.
    """

    kind = "bundle"
    in_pixels = False
    likeness = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where it lies."""
        return (self.folder,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metadata = _json(folder / "configs" / "metadata.json")
        try:
            formats = self._metadata["network_data_format"]
            channels = int(formats["inputs"]["image"]["num_channels"])
            names = {int(value): str(name) for value, name in formats["outputs"]["pred"]["channel_def"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"network_data_format does not describe an image and a prediction ({error!r})"
            raise UserError(what, folder / "configs" / "metadata.json", "Export the bundle again") from error
        self.channel_files = ChannelFiles(channels, self._channel_endings() if channels > 1 else ())
        self.classes = tuple(names[value] for value in sorted(names) if value > 0)

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.resolve().name

    @cached_property
    def weights(self) -> dict[str, str]:
        """Hash of the weights, by the bundle's name."""
        path = self.folder / "models" / "model.pt"
        return {self.name: content_digest(path)} if path.is_file() else {}

    @cached_property
    def config(self) -> RunConfig:
        """Settings with which its network was trained, without the place of the data.

        Raises:
            UserError: it does not say them, as bundles of other makers do not.
        """
        path = self.folder / "docs" / "training_config.yaml"
        if not path.is_file():
            what = "this bundle does not say how its network was trained (docs/training_config.yaml)"
            raise UserError(what, self.folder, "Name the run that was exported, or a bundle of `unia-med export`")
        config = load_config(path)
        return config.model_copy(update={"data": config.data.model_copy(update={"root": None})})

    def _channel_endings(self) -> tuple[str, ...]:
        """Return the endings of the files of one image; none where one file holds all channels."""
        readers = (step.get("reader") for step in self._steps())
        found = [reader["endings"] for reader in readers if isinstance(reader, dict) and reader.get("endings")]
        return tuple(map(str, found[0])) if found else ()

    def _steps(self) -> list[dict[str, Any]]:
        """Return the steps of its preprocessing, as its config has them."""
        chain = _json(self.folder / "configs" / "inference.json").get("preprocessing", {})
        steps = [step for step in _transforms(chain) if isinstance(step, dict)]
        return [*steps, *(inner for step in steps for inner in _transforms(step) if isinstance(inner, dict))]

    @property
    def ct(self) -> bool | None:
        """Whether the metadata name CT or MR; None where they name neither."""
        try:
            modality = str(self._metadata["network_data_format"]["inputs"]["image"]["modality"]).upper()
        except (KeyError, TypeError):
            return None
        return {"CT": True, "MR": False, "MRI": False}.get(modality)

    @cached_property
    def spacing_mm(self) -> float | None:
        """Pixel size in plane to which its preprocessing brings images; None where it does not."""
        found = [step["pixdim"] for step in self._steps() if isinstance(step.get("pixdim"), list)]
        return float(found[0][0]) if found else None

    def predictor(
        self,
        device: Any = "cpu",
        *,
        tta: bool | None = None,
        postprocess: bool = True,
        uncertainty: str | None = None,
        runtime: str = "torch",
    ) -> BundlePredictor:
        """Return what segments, with its weights loaded.

        Args:
            device: where to compute.
            tta: must be None; a bundle has one way to predict.
            postprocess: must be True; a bundle cleans masks as its config says.
            uncertainty: None or `entropy`.
            runtime: must be `torch`; what computes is for the bundle to say.

        Raises:
            UserError: another way is asked for, or the bundle cannot be loaded.
        """
        wanted = {f"tta={tta}": tta is not None, f"runtime={runtime}": runtime != "torch"}
        wanted |= {"postprocess=False": not postprocess, "uncertainty=network": uncertainty == "network"}
        for name, asked in wanted.items():
            if asked:
                what = f"{name} is for runs; a bundle predicts as its own configs/inference.json says"
                raise UserError(what, where=self.folder, remedy="Leave it out, or name the run that was exported")
        return BundlePredictor(self, str(device))


class BundlePredictor:
    """Segments volumes with what a bundle's config defines.

    Args:
        bundle: its folder.
        device: where to compute, as torch names it.
    """

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.classes, self.device = bundle.classes, device
        self._files, self._folder = bundle.channel_files, bundle.folder
        changed = _changed(bundle.folder)
        parser = _parser(bundle.folder, device)
        try:
            with _without_reader_notes():
                parts = {name: parser.get_parsed_content(name) for name in _PARTS}
        except Exception as error:  # the bundle's code may raise whatever it likes
            what = f"cannot be set up ({type(error).__name__}: {error})"
            where, remedy = bundle.folder / "configs" / "inference.json", _as_monai(bundle.folder)
            if changed:
                where, remedy = changed[0], "It is not as it was exported: copy or export the bundle again"
            raise UserError(what, where, remedy) from error
        self._network = _with_weights(parts["network"], bundle.folder)
        self._preprocess, self._infer = parts["preprocessing"], parts["inferer"]
        self._postprocess = _without_saving(parts["postprocessing"])
        self.cleaning, self.slice_axis = _cleaning(self._postprocess)

    @property
    def slice_smoothing(self) -> float:
        """Standard deviation in slices over which its probabilities are smoothed; 0 in bundles that cannot."""
        return float(getattr(self._infer, "slice_smoothing", 0.0))

    @slice_smoothing.setter
    def slice_smoothing(self, sigma: float) -> None:
        if sigma != self.slice_smoothing:
            self._infer.slice_smoothing = sigma

    def open(self, path: Path) -> FrameSource:
        """Return an image file ready to be read frame by frame.

        Args:
            path: NIfTI, NRRD or MetaImage file.
        """
        plain = self._files.channels == 1 and not is_image(path)
        return open_volume(path) if plain else self._files.read(path)

    def predict_frames(self, frames: Iterable[Volume]) -> Iterator[Any]:
        """Labels and uncertainty of 3D volumes; where the bundle gives no uncertainty, it is NaN.

        Args:
            frames: (X, Y, Z), or (X, Y, Z, C) of several channels.
        """
        from unia_med.inference.predictor import Segmentation

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.nii"
            for _ in map(partial(_store, path=path), frames):  # no name for a frame, which would keep its voxels
                found = self._run(path)
                labels = np.asarray(_first(found.pop("pred"))).astype(np.uint8, copy=False)
                doubt = found.pop("uncertainty", None)
                nothing = np.broadcast_to(np.float32(np.nan), labels.shape)
                yield Segmentation(labels, nothing if doubt is None else np.asarray(_first(doubt), np.float32))

    def probabilities(self, frame: Volume) -> np.ndarray:
        """Class probabilities, float32 (K, X, Y, Z) on the volume's own grid.

        Args:
            frame: (X, Y, Z), or (X, Y, Z, C) of several channels.

        Raises:
            UserError: the bundle says labels alone, as those of other makers and of earlier versions do.
        """
        step = next((one for one in self._postprocess.transforms if hasattr(one, "probabilities_key")), None)
        if step is None:
            what = "this bundle says labels and no probabilities, so it cannot be averaged with other models"
            raise UserError(what, self._folder, "Export it again with this version, or leave it out")
        step.probabilities_key = "probabilities"
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "image.nii"
                _store(frame, path)
                found = self._run(path)["probabilities"]
        finally:
            step.probabilities_key = None
        array: np.ndarray = found.as_tensor().cpu().numpy()
        return array.astype(np.float32, copy=False)

    def _run(self, path: Path) -> dict[Hashable, Any]:
        """Return what the bundle makes of an image; its file is removed."""
        import torch

        with torch.no_grad():
            item = dict(self._preprocess({"image": str(path)}))
            images = item["image"].unsqueeze(0).to(self.device)
            item["pred"] = self._infer(images, self._network)[0]
            done = dict(self._postprocess(item))
        path.unlink()
        return done


def _store(frame: Volume, path: Path) -> None:
    """Write an image of which a bundle reads exactly what was given: NIfTI-2 holds the affine in double precision."""
    # In the type of the source: nibabel makes single precision of it slice by slice, which needs no copy.
    array = frame.array if frame.array.dtype.kind in "iuf" else np.asarray(frame.array, np.float32)
    image = nib.Nifti2Image(array, np.asarray(frame.affine, np.float64), dtype=np.float32)
    try:
        nib.save(image, path)
    except OSError as error:
        remedy = "The folder of temporary files needs room for one volume: free space, or name another one in TMPDIR"
        raise unwritable(path, error, remedy) from error


def _changed(folder: Path) -> list[Path]:
    """Return the files of a bundle that are not as they were exported, after a note that names them."""
    changed = [path for path in changed_files(folder, folder / SUMS) if not path.name.endswith(_NOT_READ)]
    if changed:
        names = ", ".join(str(path.relative_to(folder)) for path in changed[:3])
        others = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        LOG.info("%s: not as it was exported: %s%s; edited, or damaged. Masks may differ", folder, names, others)
    return changed


def _parser(folder: Path, device: str) -> Any:
    from monai.bundle import ConfigParser

    _json(folder / "configs" / "inference.json")  # the parser raises whatever it meets
    _forget_other_scripts(folder)
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))  # as the bundle's own command does, for its scripts
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(folder)
    parser["device"] = f"$torch.device('{device}')"
    parser["dataset_dir"] = str(folder / "no_images")  # images come one by one
    return parser


def _forget_other_scripts(folder: Path) -> None:
    """Forget imported packages of other bundles that have the name of one of this bundle's."""
    packages = {path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    for name, module in list(sys.modules.items()):
        source = getattr(module, "__file__", None)
        if name.split(".")[0] in packages and source and folder.resolve() not in Path(source).resolve().parents:
            del sys.modules[name]


@contextmanager
def _without_reader_notes() -> Iterator[None]:
    """Keep MONAI from telling of a GPU decoder of compressed DICOM that is not there: a bundle's images are volumes."""
    plugin = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = plugin.level
    plugin.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
            yield
    finally:
        plugin.setLevel(level)


def _with_weights(network: Any, folder: Path) -> Any:
    import torch

    path = folder / "models" / "model.pt"
    damage = zip_damage(path) if path.is_file() else None
    if damage is not None:
        raise UserError(f"the weights are damaged ({damage})", path, "Copy or export the bundle again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("model", state))
    except Exception as error:  # torch raises whatever it likes on damaged and foreign files
        what = f"these are no weights of the bundle's network ({type(error).__name__})"
        raise UserError(what, path, "Export the bundle again") from error
    return network.eval()


def _without_saving(chain: Any) -> Any:
    """Return the transforms but for those that write files."""
    from monai.transforms import Compose, SaveImage, SaveImaged

    steps = getattr(chain, "transforms", (chain,))
    return Compose([step for step in steps if not isinstance(step, (SaveImage, SaveImaged))])


def _cleaning(chain: Any) -> tuple[Mapping[str, Any], Any]:
    """Return the steps of post-processing and the axis of its slices, of a bundle that `unia-med export` wrote."""
    found = next((step for step in chain.transforms if isinstance(getattr(step, "steps", None), dict)), None)
    return (found.steps, found.slice_axis) if found is not None else ({}, "stored")


def _first(found: Any) -> np.ndarray:
    """(X, Y, Z) of a result (1, X, Y, Z)."""
    array = np.asarray(found.as_tensor().cpu() if hasattr(found, "as_tensor") else found)
    return array[0] if array.ndim == 4 else array


def _transforms(step: Any) -> list[Any]:
    """Return the steps within a step of a bundle's config; those of this package's bundles have some in a group."""
    inner = step.get("transforms", []) if isinstance(step, dict) else []
    return inner if isinstance(inner, list) else []


def _as_monai(folder: Path) -> str:
    return f"See whether it runs by itself: python -m monai.bundle run --bundle_root {folder}"


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path, "Export the bundle again")
    if not isinstance(found, dict):
        raise UserError("is no JSON object", path, "Export the bundle again")
    return found
