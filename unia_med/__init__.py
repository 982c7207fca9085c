"""Weakly supervised segmentation of medical images from tags, points, scribbles and boxes."""

from __future__ import annotations

__version__ = "0.1.0"
