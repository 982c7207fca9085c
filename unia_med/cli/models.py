"""`unia-med models`: the models that came with the package, with their classes and scores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from unia_med.cli.options import new_command

EXAMPLE = """unia-med models
unia-med predict --model NAME --input scan.nii.gz --output masks"""

CARD = "card.json"
"""Next to a shipped model's config: `summary`, `trained_on`, `licence` (texts), and `scores` (what -> number)."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command.

    Args:
        subparsers: Of the main parser.
    """
    new_command(subparsers, "models", "List the models that came with the package.", EXAMPLE)


def run(args: argparse.Namespace) -> int:
    """Print the models.

    Args:
        args: Parsed command line.
    """
    from unia_med.runs import shipped_models

    models = shipped_models()
    for name, folder in models.items():
        print(as_text(name, folder))
    if not models:
        print("This installation holds no models; `unia-med train` makes one")
    return 0


def as_text(name: str, folder: Path) -> str:
    """Return what is known of a model, in lines of a terminal.

    Args:
        name: As a user types it.
        folder: Its config, checkpoint and card.
    """
    from unia_med.config.load import load_config

    card = read_card(folder)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    classes = ", ".join(load_config(folder / "config.yaml").data.target_classes)
    lines = [f"{name}  ({megabytes:.1f} MB)", card.get("summary", ""), f"Classes: {classes}"]
    lines += [
        f"{title}: {card[key]}" for title, key in (("Trained on", "trained_on"), ("Licence", "licence")) if key in card
    ]
    lines += [f"{what}: {value:.3f}" for what, value in card.get("scores", {}).items()]
    return "\n    ".join(line for line in lines if line)


def read_card(folder: Path) -> dict[str, Any]:
    """Return a shipped model's card; empty without one.

    Args:
        folder: Of the model.
    """
    path = folder / CARD
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
