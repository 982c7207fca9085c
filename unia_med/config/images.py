"""Settings of the data sets of 2D photographs, `voc` and `coco`: where images, masks and annotations lie."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from unia_med.config.section import Section

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()
"""The 20 classes of PASCAL VOC, as `Annotations/*.xml` spell them; in masks they are 1 to 20 in this order."""

COCO_CLASSES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")
"""The 80 classes of COCO in the order of their category ids, which have gaps; here they are 1 to 80."""

IMAGE_DATASETS = {"voc": VOC_CLASSES, "coco": COCO_CLASSES}
"""Data sets of photographs, with their classes."""

IMAGE_GRID: dict[str, Any] = {
    "units": "pixels",
    "spacing_mm": None,
    "percentiles": None,
    "resize": "stretch",
    "size": [448, 448],
}
"""What a photograph needs in place of a scan's grid: no millimetres, intensities / 255, any size to one square."""


class VocConfig(Section):
    """The VOCdevkit layout. `data.root` is `VOC2012`, or a folder that holds it, as `VOCdevkit`; paths are below it."""

    masks: list[str] = ["SegmentationClass"]
    """Folders of the mask PNGs; the first that has the image's file counts. `[SegmentationClassAug,
    SegmentationClass]` for the masks that SBD adds."""
    train: str = "train"
    """List of the training images in `ImageSets/Segmentation`, without `.txt`; `train_aug` for the published training
    on 10,582 images. The first word of a line names an image (`2007_000032`, or its path)."""
    val: str = "val"
    """List of the validation images; a list that is not there is empty."""
    test: str | None = None
    """List of the test images."""


class CocoConfig(Section):
    """The COCO layout: annotation files and a folder of images for each; paths are below `data.root`.

    Of `annotations/instances_val2014.json` the images lie in `val2014` unless `images` names a folder for all.
    """

    train: str = "annotations/instances_train2014.json"
    """Annotations of the training images."""
    val: str = "annotations/instances_val2014.json"
    """Annotations of the validation images; a file that is not there leaves none."""
    test: str | None = None
    """Annotations of the test images."""
    images: str | None = None
    """Folder of all images; null: of each annotation file its own, see above."""
    masks: list[str] = []
    """Folders of mask PNGs in VOC's manner, which then replace the polygons; the first that has a file counts."""
    other_categories: list[str] = []
    """Categories of the annotation files that are no class of `data.classes` and count as background."""


class CrfConfig(Section):
    """Dense conditional random field on predicted images (Kraehenbuehl and Koltun 2011), with UniA's values."""

    iterations: int = Field(0, ge=0, le=100)
    """Mean-field iterations; 0: none, 10 as published."""


def image_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Return the data part of a config, with the defaults of photographs where it gives no value.

    Args:
        values: as written; `name` is one of `IMAGE_DATASETS`.
    """
    tags = {"source": "annotations" if values["name"] == "coco" else "masks"}
    defaults: dict[str, Any] = {
        "classes": list(IMAGE_DATASETS[values["name"]]),
        "channels": 3,
        "split": {"kind": "given"},
        "tags": tags,
        "grid": IMAGE_GRID,
    }
    filled = {**defaults, **values}
    for part in ("split", "tags", "grid"):
        if isinstance(values.get(part), dict):
            filled[part] = {**defaults[part], **values[part]}
    return filled
