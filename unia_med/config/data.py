"""Settings of the data: where it lies, what its classes are, how it is split and brought to one grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unia_med.config.images import IMAGE_DATASETS, CocoConfig, VocConfig, image_defaults
from unia_med.config.section import Section
from unia_med.config.volumes import VolumesConfig, picture_grid
from unia_med.config.weak_labels import LabelSource, under_new_names
from unia_med.registry import CLASS_VALUES, resolve

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
SliceAxis = Literal["stored", "axial", "coronal", "sagittal"]
SYNTHETIC = "synthetic"
"""The `data.name` of runs without a data set: they learn from the slices that their prior draws."""


def _refuse_repeats(field: str, values: list) -> None:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{field} name {', '.join(repeated)} more than once")


def layout_values(name: Any) -> dict[str, int]:
    """Return the classes that a layout has of its own with their values in its masks; empty where users name them.

    Args:
        name: of the layout.
    """
    own: dict[str, int] = resolve(CLASS_VALUES, name) if isinstance(name, str) and name in CLASS_VALUES else {}
    return own


class SplitConfig(Section):
    """Which patients train, which validate and which are held out; always by patient, never by slice."""

    kind: Literal["modulo", "fractions", "kfold", "lists", "given"] = "modulo"
    """`modulo`: by the number in the patient's name; `fractions` (the default of `volumes`) and `kfold`: drawn with the
    run's seed; `lists`: as named; `given` (the default of `voc` and `coco`): as the data set says, by its lists or by
    the column `split` of a table."""
    modulus: int = Field(20, ge=2)
    """`modulo`: a patient belongs where its number modulo this is listed."""
    train: list[str] = []
    """`lists`: patients that train."""
    val: list[int | str] = [13, 14, 15, 16]
    """`modulo`: residues; `lists`: patients. They choose the best checkpoint."""
    test: list[int | str] = [0, 17, 18, 19]
    """`modulo`: residues; `lists`: patients. They are never looked at in training."""
    fractions: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    """`fractions`: shares of train, val and test; they sum to 1."""
    folds: int = Field(5, ge=2)
    """`kfold`: number of parts."""
    fold: int = Field(0, ge=0)
    """`kfold`: the part that validates, from 0; the others train."""

    @model_validator(mode="before")
    @classmethod
    def _no_residues_in_lists(cls, values: Any) -> Any:
        """Drop the default residues, which only `modulo` understands."""
        if isinstance(values, dict) and values.get("kind") == "lists":
            return {"val": [], "test": [], **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        if self.kind == "modulo":
            self._check_residues()
        if self.kind == "lists":
            self._check_lists()
        if abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions sum to {sum(self.fractions):g}, not 1")
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} does not exist: {self.folds} folds count from 0 to {self.folds - 1}")
        return self

    def _check_residues(self) -> None:
        residues = [*self.val, *self.test]
        wrong = [r for r in residues if not isinstance(r, int) or not 0 <= r < self.modulus]
        if wrong:
            raise ValueError(f"val and test hold {wrong}, not residues from 0 to {self.modulus - 1}")
        _refuse_repeats("val and test", residues)

    def _check_lists(self) -> None:
        patients = [*self.train, *self.val, *self.test]
        wrong = [p for p in patients if not isinstance(p, str)]
        if wrong:
            raise ValueError(f"kind 'lists' needs patient names in val and test, not {wrong}")
        if not self.train:
            raise ValueError("kind 'lists' needs patient names in train")
        _refuse_repeats("train, val and test", patients)


class TagsConfig(Section):
    """Where the slice tags come from."""

    source: Literal["masks", "csv", "labels", "annotations", "onehot", "none"] = "masks"
    """`masks`: derived from the training masks, which are used for nothing else; `csv`: read from `path`; `labels`:
    as far as the weak labels of `data.labels` determine them; `annotations`: of the objects annotated in `voc` or
    `coco` (the default of `coco`); `onehot`: read from `path`, a list of vectors; `none`: all unknown."""
    path: Path | None = None
    """`onehot`: a `.npy`, `.npz` or `.json` of one vector per image, 1 present, 0 absent. `csv`: a table with the
    columns image, slice and one per class (0, 1, or empty for unknown); without slice for tags of whole volumes."""
    missing: Literal["error", "unknown"] = "unknown"
    """`csv`: what a training case without any tag in the table is. `error` (the default of `volumes`) refuses it,
    `unknown` lets it train by its other labels."""

    @model_validator(mode="after")
    def _check(self) -> TagsConfig:
        if self.source in ("csv", "onehot") and self.path is None:
            raise ValueError(f"source '{self.source}' needs path, the tags file")
        return self


class GridConfig(Section):
    """The pixel grid on which networks see a slice."""

    slice_axis: SliceAxis = "stored"
    """Axis along which slices are taken: `stored`: the third as stored, whatever it is in the body; the others: the
    axis nearest to it, after turning every volume the same way (RAS order), for sets of mixed orientation. Results are
    turned back. Slice numbers of tags count along it: up, forward or to the right."""
    units: Literal["mm", "pixels"] = "mm"
    """What image files measure in: `mm`: a scan's geometry; `pixels`: pictures such as PNG, JPEG and TIFF, which have
    none, or scans taken as if they had none: `spacing_mm` is null, and validation counts the pixels of all cases
    together. The default of `voc`, of `coco`, and of `volumes` in a folder of pictures alone."""
    spacing_mm: Positive | None = 1.875
    """Pixel size in plane after resampling, mm; null keeps the stored pixels."""
    size: tuple[int, int] = (128, 128)
    """Height and width in pixels of the central crop (or zero padding) after resampling."""
    resize: Literal["none", "stretch"] = "none"
    """`stretch` brings a slice of any size to `size`, its aspect changing, in place of crop and padding; for
    photographs, as UniA's published validation."""
    percentiles: tuple[float, float] | None = (1, 99)
    """Intensity percentiles of the whole volume that become 0 and 1; values beyond are clipped. null: intensities are
    divided by 255, for photographs."""

    @model_validator(mode="after")
    def _check(self) -> GridConfig:
        if min(self.size) < 16:
            raise ValueError(f"size {list(self.size)} is below 16 px")
        if self.resize == "stretch" and self.spacing_mm is not None:
            raise ValueError("resize 'stretch' sets the pixel size; set spacing_mm to null")
        low, high = self.percentiles or (0, 100)
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles [{low:g}, {high:g}] are not two rising numbers from 0 to 100")
        return self


class DataConfig(Section):
    """A data set and how it is used."""

    name: str = "acdc"
    """Layout of the data set: a name in `unia_med.registry.DATASETS`. `synthetic`: no data set at all, the run learns
    from the slices that its prior draws."""
    root: Path | None = None
    """Folder of the data set; usually given as `--set data.root=DIR`. Relative paths count from the folder in which the
    command runs; `tags.path`, `volumes.table` and `labels: folder` from `data.root`, if they are there."""
    classes: list[str] = []
    """Class names without background, in label order; where the layout has classes of its own (`acdc`, `voc`, `coco`),
    left out they are those."""
    class_values: list[Annotated[int, Field(ge=1, le=255)]] | None = None
    """Value of each class in the masks; null means those of the layout's own classes, and 1, 2, 3, ... of others. In
    PNG masks 255 marks pixels that do not count, unless it is given to a class here."""
    groups: dict[str, list[str]] | None = None
    """Classes merged into one, as name: members; every class is in exactly one group. For classes that tags cannot
    separate."""
    channels: int = Field(1, ge=1)
    """Image channels C; above 1, they are the fourth axis of an image file, or files of their own (see
    `volumes.channel_endings`)."""
    volumes: VolumesConfig = VolumesConfig()
    voc: VocConfig = VocConfig()
    coco: CocoConfig = CocoConfig()
    split: SplitConfig = SplitConfig()
    tags: TagsConfig = TagsConfig()
    labels: list[LabelSource] = []
    """Labels on pixels: points, scribbles, blocks, boxes or masks, of all training patients or of some. Of several
    sources a later one fills only what earlier ones left open."""
    grid: GridConfig = GridConfig()
    cache: Literal["memory", "disk", "none"] = "memory"
    """Where preprocessed slices are kept; `disk` for sets that do not fit into memory; `none` decodes an image whenever
    it is needed, for COCO."""
    cache_dir: Path | None = None
    """Folder of the disk cache; null means inside the run folder."""
    workers: int = Field(0, ge=0)
    """Loader processes; 0 loads in the main process and always works."""

    @model_validator(mode="before")
    @classmethod
    def _older_version(cls, values: Any) -> Any:
        """Read what version 0.1 wrote into a run folder."""
        if not isinstance(values, dict) or not isinstance(values.get("labels"), list):
            return values
        return {**values, "labels": [under_new_names(source) for source in values["labels"]]}

    @model_validator(mode="before")
    @classmethod
    def _classes_of_the_layout(cls, values: Any) -> Any:
        """Fill in the classes of a layout that has its own."""
        if not isinstance(values, dict) or "classes" in values:
            return values
        own = layout_values(values.get("name", "acdc"))
        return {**values, "classes": list(own)} if own else values

    @model_validator(mode="before")
    @classmethod
    def _own_data(cls, values: Any) -> Any:
        """Replace ACDC's defaults for other data.

        The classes of own volumes have to be named, their patients have no numbers, and a missing row is an error.
        """
        if isinstance(values, dict) and str(values.get("name")) in IMAGE_DATASETS:
            return image_defaults(values)
        if not isinstance(values, dict) or values.get("name") != "volumes":
            return values
        if "classes" not in values:
            raise ValueError("classes are missing: name those of your data, without background")
        split, tags = values.get("split") or {}, values.get("tags") or {}
        split = {"kind": "fractions", **split} if isinstance(split, dict) else split
        tags = {"missing": "error", **tags} if isinstance(tags, dict) else tags
        return {**values, "split": split, "tags": tags, "grid": picture_grid(values)}

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if not self.classes:
            raise ValueError("classes is empty")
        _refuse_repeats("classes", self.classes)
        if self.class_values is not None:
            _refuse_repeats("class_values", self.class_values)
            if len(self.class_values) != len(self.classes):
                raise ValueError(f"class_values has {len(self.class_values)} entries for {len(self.classes)} classes")
        if self.groups is not None:
            self._check_groups(self.groups)
        in_pixels = self.grid.units == "pixels"
        if in_pixels and (self.grid.spacing_mm is not None or self.grid.slice_axis != "stored"):
            raise ValueError("pictures have no millimetres: grid.spacing_mm must be null, slice_axis stored")
        if self.name in IMAGE_DATASETS and not in_pixels:
            raise ValueError(f"{self.name} has no millimetres: grid.units must be pixels")
        if self.volumes.channel_endings and len(self.volumes.channel_endings) != self.channels:
            found = len(self.volumes.channel_endings)
            raise ValueError(f"{found} volumes.channel_endings for {self.channels} channels")
        return self

    def _check_groups(self, groups: dict[str, list[str]]) -> None:
        members = [member for group in groups.values() for member in group]
        _refuse_repeats("groups", members)
        foreign = sorted(set(members) - set(self.classes))
        missing = sorted(set(self.classes) - set(members))
        if foreign:
            raise ValueError(f"groups name {foreign}, which are not in classes {self.classes}")
        if missing:
            raise ValueError(f"groups leave out {missing}; every class belongs to one group")
        if not all(groups.values()):
            raise ValueError("a group has no members")

    @property
    def background_values(self) -> list[int]:
        """Values of the mask files that are no class and count as background, next to 0."""
        named = self.volumes.other_values if self.name == "volumes" else []
        own = {} if self.class_values is not None else layout_values(self.name) or {}
        return [*named, *sorted(set(own.values()) - set(self.mask_values.values()))]

    @property
    def mask_values(self) -> dict[str, int]:
        """Value of each class in the mask files."""
        own = layout_values(self.name)
        if self.class_values is None and own and set(self.classes) <= set(own):
            return {name: own[name] for name in self.classes}
        return dict(zip(self.classes, self.class_values or range(1, len(self.classes) + 1), strict=True))

    def located(self, path: Path) -> Path:
        """Return where a file or folder that belongs to the data set lies: the one rule for relative paths.

        Args:
            path: as a config has it; below `root` if it is there, else as seen from the folder of the command.
        """
        inside = None if self.root is None else self.root / path
        return inside if inside is not None and inside.exists() else path

    @property
    def target_classes(self) -> list[str]:
        """Names of the classes that a network learns, without background: the groups, or else the classes."""
        return list(self.groups) if self.groups else list(self.classes)
