"""Settings of weak labels: where points, scribbles, blocks, boxes or masks come from, and how they are completed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from unia_med.config.section import Section
from unia_med.errors import suggestion
from unia_med.registry import SHAPES, with_installed

LabelKind = Literal["scribbles", "points", "blocks", "boxes", "masks"]
"""Kinds of weak labels that lie on pixels; tags have settings of their own (`data.tags`)."""

COMPLETED = {
    "none": ("scribbles", "points", "blocks", "boxes", "masks"),
    "rule": ("scribbles", "points"),
    "walker": ("scribbles", "points", "blocks"),
    "ellipse": ("boxes",),
    "intensity": ("scribbles", "points", "blocks", "boxes"),
}
"""Kinds that each way of completing takes."""

DEFAULT_BETA = {"scribbles": 2000.0, "points": 8000.0, "blocks": 8000.0}
"""Found on training patients of ACDC."""

DEFAULT_SUFFIXES = {
    "scribbles": ("_scribble", "_scribbles"),
    "points": ("_points",),
    "blocks": ("_blocks",),
    "boxes": ("_boxes",),
    "masks": ("_gt", "_masks"),
}
"""Endings of label files by kind, tried in this order; ACDC's own come first."""


class MakeConfig(Section):
    """How weak labels are made from masks, for research; lengths are stored pixels."""

    points: int = Field(1, ge=1)
    """`points`: points per class and slice, well inside the structure."""
    background_points: int = Field(3, ge=0)
    """`points`: background points per slice, spread over the directions round the structures."""
    background_distance_px: float = Field(8.0, ge=2)
    """`scribbles`: mean distance of the background loop from the structures; `points`: least distance of a background
    point, the largest being three times as much."""
    scribble_share: float = Field(0.8, gt=0, le=1)
    """`scribbles`: share of each structure's skeleton that is drawn, in one stroke per piece; 1 draws all of it."""
    block_size: int = Field(16, ge=2)
    """`blocks`: side of a block; all pixels of a block are annotated."""
    blocks: int = Field(1, ge=1)
    """`blocks`: blocks per class and slice, each with some of the class, and one more that holds none."""


class CompleteConfig(Section):
    """How sparse labels are completed; lengths are pixels of the network's grid."""

    beta: float | None = Field(None, gt=0)
    """`walker`: how strongly the walk avoids intensity edges (scikit-image's scale); larger follows edges closer. Null:
    2000, and 8000 from points and blocks, which lie farther from the edges."""
    shape: str | None = None
    """`walker`, `ellipse`: what is known of the shape of the classes, a name of `unia_med.registry.SHAPES`: knowledge
    of anatomy beyond the labels. Null: nothing is."""

    brightness: list[str] | None = None
    """`intensity` from boxes of several classes: their names from the darkest to the brightest in the images, which
    boxes do not say."""

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str | None) -> str | None:
        known = with_installed(SHAPES, "unia_med.shapes")
        if shape is not None and shape not in known:
            raise ValueError(f"unknown shape {shape!r}. {suggestion(shape, known)}")
        return shape


class LabelSource(Section):
    """One source of labels on pixels; the data set's sources are read in order, a later one fills what is left."""

    kind: LabelKind = "scribbles"
    """What was drawn."""
    source: Literal["masks", "files"] = "files"
    """`files`: label volumes, next to the images or in `folder`; `masks`: made from the masks of the training cases
    with the run's seed, for research."""
    folder: Path | None = None
    """`files`: folder with one label volume per case, as `unia-med weaken` writes them, below `data.root` if it is
    there; null: next to the images."""
    suffix: str | None = None
    """`files`: ending of the file name after the case name; null: `_scribble` or `_scribbles`, `_points`, `_blocks`,
    `_boxes`, `_gt` or `_masks`."""
    values: dict[str, Annotated[int, Field(ge=0, le=255)]] | None = None
    """`files`: value of each class; null: as in the masks. Boxes are coded by bits, see `unia-med weaken --help`."""
    background_value: int | None = Field(0, ge=0, le=255)
    """`files`: value of annotated background; null: background is never annotated."""
    ignore_value: int | None = Field(None, ge=0, le=255)
    """`files`: value of a pixel that is not annotated; null: one above the highest class value (ACDC: 4). 255 always
    means not annotated."""
    patients: Annotated[int, Field(ge=1)] | list[str] | None = None
    """Training patients that have these labels: null all of those with a file or a mask; a number that many, drawn
    with the run's seed so that a larger number contains the smaller; or names."""
    fill: Literal["none", "rule", "walker", "ellipse", "intensity"] = "none"
    """`none`: as drawn; `rule`: scribbles with the background outside their loop, points with that beyond them;
    `walker`: the rule and then a random walker, for dense labels from scribbles, points or blocks; `ellipse`: dense
    labels from boxes; `intensity`: the rule and then a Gaussian per class under a smooth bias field, for classes that
    differ in intensity, such as tissues of the brain; doubtful pixels stay open."""
    marks_every_class: bool | None = None
    """Whether each class that is there is marked in an annotated slice, so that a class without a mark is absent. Null:
    yes for the classes that are drawn somewhere in the case; a class that is drawn nowhere in it is unknown."""
    make: MakeConfig = MakeConfig()
    complete: CompleteConfig = CompleteConfig()

    @model_validator(mode="after")
    def _check(self) -> LabelSource:
        if self.kind not in COMPLETED[self.fill]:
            fits = [fill for fill, kinds in COMPLETED.items() if self.kind in kinds]
            raise ValueError(f"fill '{self.fill}' does not go with {self.kind}; use {' or '.join(fits)}")
        if self.complete.shape is not None and self.fill not in ("walker", "ellipse"):
            raise ValueError(f"complete.shape belongs to fill 'walker' and 'ellipse', not to '{self.fill}'")
        if self.complete.brightness is not None and (self.fill, self.kind) != ("intensity", "boxes"):
            raise ValueError("complete.brightness belongs to fill 'intensity' from boxes")
        if self.source == "masks":
            given = [name for name in ("folder", "suffix", "values", "ignore_value") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{', '.join(given)} belong to source 'files', not to 'masks'")
        if isinstance(self.patients, list) and len(set(self.patients)) != len(self.patients):
            raise ValueError("patients name one more than once")
        return self


def under_new_names(source: Any) -> Any:
    """Return a label source of version 0.1 under the names of today: `heart_shape` became the shape `heart`.

    Args:
        source: as written, an entry of `data.labels`.
    """
    complete = source.get("complete") if isinstance(source, dict) else None
    if not isinstance(complete, dict) or "heart_shape" not in complete:
        return source
    rest = {key: value for key, value in complete.items() if key != "heart_shape"}
    fill = source.get("fill")
    # Boxes had no switch; the shape leaves classes alone that are no part of a heart, as that version did.
    if fill == "ellipse" or (fill == "walker" and complete["heart_shape"]):
        rest = {"shape": "heart", **rest}
    return {**source, "complete": rest}
