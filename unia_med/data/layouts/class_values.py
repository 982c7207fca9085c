"""Classes of published data sets, with their values in the masks; read with a config, so nothing heavy is imported."""

from __future__ import annotations

from unia_med.config.images import COCO_CLASSES, VOC_CLASSES

ACDC: dict[str, int] = {"RV": 1, "MYO": 2, "LV": 3}
"""Right ventricle, left ventricular myocardium and left ventricular cavity (Bernard et al., IEEE TMI 2018)."""

VOC: dict[str, int] = {name: value for value, name in enumerate(VOC_CLASSES, start=1)}
"""In the masks of PASCAL VOC."""

COCO: dict[str, int] = {name: value for value, name in enumerate(COCO_CLASSES, start=1)}
"""In mask PNGs of COCO, in VOC's manner; annotation files have category ids."""
