"""Weakly supervised segmentation of medical images from tags, points, scribbles and boxes.

    import unia_med

    model = unia_med.load("runs/mine")            # a run, a bundle's folder, or the name of a shipped model
    result = model("scan.nii.gz")                 # or a nibabel or SimpleITK image, or an array with spacing_mm=
    result.mask, result.uncertainty, result.classes
    for case in unia_med.predict(model, "scans/"):
        ...

Names are imported when they are first used, so that `import unia_med` takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unia_med.account import name_the_user

if TYPE_CHECKING:
    from unia_med.api import choose_next, evaluate, export, inspect, load, predict, train
    from unia_med.data.io.read import read_volume
    from unia_med.data.io.volume import Volume
    from unia_med.errors import UserError
    from unia_med.runs import Run

__version__ = "0.1.0"

name_the_user()  # before torch and MONAI ask for it

__all__ = [
    "Run",
    "UserError",
    "Volume",
    "choose_next",
    "evaluate",
    "export",
    "inspect",
    "load",
    "predict",
    "read_volume",
    "train",
]

_HOMES = {
    **dict.fromkeys(("choose_next", "evaluate", "export", "inspect", "load", "predict", "train"), "unia_med.api"),
    "Run": "unia_med.runs",
    "UserError": "unia_med.errors",
    "Volume": "unia_med.data.io.volume",
    "read_volume": "unia_med.data.io.read",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted({*globals(), *__all__})
