"""Writes a plan as a short commented config, and the tables that go with it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from unia_med.config.load import parse_config, read_yaml
from unia_med.config.shipped import find_config
from unia_med.data.checks import DataFault
from unia_med.data.io.label_file import LabelFile
from unia_med.data.io.nifti import write_like
from unia_med.data.io.read import read_volume
from unia_med.data.io.volume import Volume
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.errors import UserError
from unia_med.files import write_text
from unia_med.names import number_of, spreadsheet_text
from unia_med.notes import notes_hidden
from unia_med.project.meaning import Meaning
from unia_med.project.plan import MERGED, Plan, pattern_of

_FILL = {"scribbles": "rule", "points": "walker", "boxes": "ellipse"}
_FULL_FIELD = 0.9  # a slice that is smaller than this of the network's field is padded, and nothing is lost


def write_project(plan: Plan, output: Path) -> list[Path]:
    """Write the config of a plan, and tables where patterns cannot say it; nothing is overwritten.

    Args:
        plan: what was found.
        output: the YAML file.

    Returns:
        All files that were written, the config first.

    Raises:
        UserError: a file of that name is there with another content.
    """
    files: dict[Path, str] = {}
    data = _data(plan)
    merged = _place_merged(plan, output)
    patterns = _patterns(plan)
    if patterns is None or not _fits({**data, "volumes": patterns}, plan):
        table = output.with_name(f"{output.stem}_files.csv").resolve()
        files[table] = _table(plan)
        patterns = {"table": str(table), "unlisted": "ignore"}
        patterns |= {"channel_endings": plan.pairs.channel_endings} if plan.pairs.channel_endings else {}
        patterns |= {"patient": plan.patient} if plan.patient else {}
    data["volumes"] = patterns
    if plan.tags is not None:
        path = plan.tags.path.resolve()
        if not plan.tags.as_it_is:
            path = output.with_name(f"{output.stem}_tags.csv").resolve()
            files[path] = _csv(plan.tags.rows)
        data["tags"] = {"source": "csv", "path": str(path), "missing": "unknown"}
    template = read_yaml(find_config(f"volumes_{plan.method}"))
    values = {"seed": 0, "data": data} | {key: template[key] for key in template if key not in ("seed", "data")}
    parse_config(values, output)
    files = {output: _text(plan, values)} | files
    for path, text in files.items():
        if path.exists() and path.read_bytes() != text.encode():
            remedy = "Keep it, or name another file with --output; nothing was overwritten"
            raise UserError("is there already and says something else", where=path, remedy=remedy)
    for path, text in files.items():
        write_text(path, text)
    for path, label in merged.items():
        _write_merged(label, path)
    return [*files, *list(merged)[:1]]


def _place_merged(plan: Plan, output: Path) -> dict[Path, LabelFile]:
    """Return the merged label files by the paths where they will lie, which the plan names from now on."""
    folder = output.with_name(f"{output.stem}_labels").resolve()
    found = {}
    for _, files in filter(None, (plan.weak, plan.masks)):
        for image, path in list(files.items()):
            if path.parent == plan.root / MERGED:
                files[image] = folder / path.name
                found[folder / path.name] = plan.drawn[path]
    return found


def _write_merged(label: LabelFile, path: Path) -> None:
    if path.is_file():
        if not np.array_equal(read_volume(path).array, label.array):
            remedy = "Remove it, or name another file with --output; nothing was overwritten"
            raise UserError("is there already and says something else", where=path, remedy=remedy)
        return
    write_like(label.array, Volume(np.broadcast_to(np.uint8(0), label.array.shape), label.affine), path)


def _data(plan: Plan) -> dict[str, Any]:
    classes = plan.classes
    data: dict[str, Any] = {"name": "volumes", "root": str(plan.root.resolve()), "classes": list(classes.values())}
    source = plan.masks or plan.weak
    if list(classes) != list(range(1, len(classes) + 1)) and plan.tags is None:
        data["class_values"] = list(classes)
    if plan.channels > 1:
        data["channels"] = plan.channels
    if plan.weak is None:
        data["tags"] = {"source": "none"}
    else:
        data["labels"] = [_label_entry(plan.weak[0])]
        data["tags"] = {"source": "none" if plan.weak[0].kind == "masks" else "labels"}
    data["split"] = {"kind": "fractions", "fractions": [0.8, 0.2, 0.0] if plan.validates else [1.0, 0.0, 0.0]}
    data["grid"] = {**plan.grid, "percentiles": [1, 99]}
    if source is not None and plan.masks is not None:
        strangers = [v for v in plan.masks[0].classes if v not in classes]
        data["volumes"] = {"other_values": strangers} if strangers else {}
    return data


def _label_entry(meaning: Meaning) -> dict[str, Any]:
    if meaning.validates:
        return {"kind": "masks", "source": "masks"}
    entry: dict[str, Any] = {"kind": meaning.kind, "source": "files", "fill": _FILL.get(meaning.kind, "none")}
    if meaning.kind == "boxes":
        if meaning.as_bits:
            return entry
        entry["values"] = {name: value for value, name in meaning.classes.items()}
        return entry
    entry["background_value"] = meaning.background
    if meaning.nothing not in (None, 0):
        entry["ignore_value"] = meaning.nothing
    if meaning.background is None:
        entry["fill"] = "none"
    return entry


def _patterns(plan: Plan) -> dict[str, Any] | None:
    """Return `data.volumes` by patterns, or None where names follow none."""
    parents = {image.parent.relative_to(plan.root).as_posix() for image in plan.pairs.images}
    folder = next(iter(parents)) if len(parents) == 1 else ""
    found: dict[str, Any] = {"images": "**/*" if len(parents) > 1 else ("*" if folder == "." else f"{folder}/*")}
    labels = {}
    for entry in (plan.weak, plan.masks):
        if entry is None:
            continue
        if not all(label.is_relative_to(plan.root) for label in entry[1].values()):
            return None
        names = {pattern_of(label, image, plan.root, plan.pairs) for image, label in entry[1].items()}
        if len(names) != 1 or "{name}" not in (only := next(iter(names))):
            return None
        if entry[0].validates:
            found["masks"] = only
        else:
            labels[entry[0].kind] = only
    found |= {"labels": labels} if labels else {}
    found |= {"patient": plan.patient} if plan.patient else {}
    return found | ({"channel_endings": plan.pairs.channel_endings} if plan.pairs.channel_endings else {})


def _fits(data: dict[str, Any], plan: Plan) -> bool:
    """Return whether patterns find the images and labels of the plan, and nothing else."""
    try:
        config = parse_config({"data": data, "method": {"name": "partial"}}).data
        faults: list[DataFault] = []
        with notes_hidden():
            cases = VolumesDataset(config).found_cases(faults)
    except UserError:
        return False
    wanted = {
        image: {e[1][image] for e in (plan.weak, plan.masks) if e and image in e[1]} for image in plan.pairs.images
    }
    return not faults and {case.image: set(case.labels.values()) for case in cases} == wanted


def _table(plan: Plan) -> str:
    entries = [entry for entry in (plan.weak, plan.masks) if entry is not None]
    columns = ["mask" if entry[0].validates else entry[0].kind for entry in entries]
    rows = [["image", *columns]]
    for image in plan.pairs.images:
        cells = [_cell(entry[1].get(image), plan.root) for entry in entries]
        rows.append([image.relative_to(plan.root).as_posix(), *cells])
    return _csv(rows)


def _cell(path: Path | None, root: Path) -> str:
    """Return a path as a table has it: below the root of the data where it lies there."""
    if path is None:
        return ""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([spreadsheet_text(cell) for cell in row] for row in rows)
    return text.getvalue()


def _text(plan: Plan, values: dict[str, Any]) -> str:
    """Return the config with what was found as comments."""
    lines = [f"# Written by `unia-med init` for {plan.root.resolve()}: change what it got wrong."]
    count = len(plan.pairs.images)
    lines.append(f"# Found {number_of(count, 'image')} of {number_of(plan.channels, 'channel')}.")
    for what, entry in (("Labels to learn from", plan.weak), ("Masks for validation only", plan.masks)):
        if entry is not None:
            lines += [f"# {what}: {entry[0].kind}, {number_of(len(entry[1]), 'file')}."]
            lines += [f"#   {value}: {text}" for value, text in _meanings(entry[0]).items()]
    if plan.tags is not None:
        lines.append(f"# Tags to learn from: {plan.tags.path.name}, classes {', '.join(plan.tags.classes)}.")
    lines += [f"# Note: {note}" for note in plan.notes]
    lines = [" ".join(line.splitlines()) for line in lines]  # names of files may hold line breaks
    lines += [_comment(plan)] if _comment(plan) else []
    body = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return "\n".join(lines) + "\n" + body


def _meanings(meaning: Meaning) -> dict[int, str]:
    found = dict(meaning.why)
    if meaning.nothing is not None:
        if meaning.kind != "masks":
            found[meaning.nothing] += "; set background_value to change that"
    return found


def _comment(plan: Plan) -> str:
    if plan.weak is None or plan.weak[0].kind in ("masks", "boxes") or plan.weak[0].background is not None:
        return ""
    return (
        "# No background is marked: a network that calls everything a class makes no mistake. Draw some background\n"
        "# with a value of its own, and set background_value to it, fill to rule."
    )
