"""Classes of published data sets, with their values in the masks; read with a config, so nothing heavy is imported."""

from __future__ import annotations

ACDC: dict[str, int] = {"RV": 1, "MYO": 2, "LV": 3}
"""Right ventricle, left ventricular myocardium and left ventricular cavity (Bernard et al., IEEE TMI 2018)."""
