"""Writes what inspection found: as tables for the terminal, as JSON, and as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unia_med.data.checks import DataFault
from unia_med.errors import UserError
from unia_med.files import write_text
from unia_med.names import number_of

SUFFIXES = (".json", ".html")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1b1b;
       background: #fff }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ccc; text-align: right }
th:first-child, td:first-child { text-align: left }
.faults li { color: #8a1500 } li { margin: .4rem 0 } code { background: #f2f2f2 }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #eee } th, td { border-color: #444 }
  .faults li { color: #ff9c86 } code { background: #2a2a2a } }
"""


@dataclass(frozen=True)
class ReportTable:
    """A table as it is shown everywhere: title, column heads, rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def check_output(path: Path | None) -> None:
    """Refuse a report file of a kind that cannot be written, before anything is read."""
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise UserError(f"the suffix is {path.suffix!r}", where=path, remedy="Use .json or .html")


def as_plain(report: dict[str, Any], faults: Sequence[DataFault], advice: Sequence[str]) -> dict[str, Any]:
    """Return the whole report as plain types."""
    listed = [{key: str(value) for key, value in asdict(fault).items()} for fault in faults]
    return {"faults": listed, **report, "advice": list(advice)}


def write(plain: dict[str, Any], title: str, path: Path) -> None:
    """Write a report as JSON or HTML, by the suffix; the file appears whole or not at all.

    Args:
        plain: What `as_plain` gives.
        title: Head of the page.
        path: Ends in one of `SUFFIXES`.
    """
    text = json.dumps(plain, indent=2) + "\n" if path.suffix.lower() == ".json" else page(plain, title)
    write_text(path, text)


def tables(plain: dict[str, Any]) -> Iterator[ReportTable]:
    """Yield the tables of a report that have something to show."""
    yield from _image_tables(plain["images"])
    tags = plain["tags"]
    if tags["slices"]:
        kinds = ("present", "absent", "unknown", "effective_negatives")
        rows = tuple((name, *(str(tags[kind][name]) for kind in kinds)) for name in tags["classes"])
        title = f"Tags of {tags['slices']} training slices ({tags['empty_slices']} without any class)"
        title = title.replace("Tags of", "Classes in the masks of") if tags["of_masks"] else title
        yield ReportTable(title, ("class", "present", "absent", "unknown", "absent while another is present"), rows)
        rows = tuple((name, *map(str, row)) for name, row in zip(tags["classes"], tags["together"], strict=True))
        yield ReportTable("Slices in which two classes occur together", ("", *tags["classes"]), rows)
    if not tags["of_masks"] and any(pair["apart"] is not None for pair in tags["pairs"]):
        yield ReportTable(
            "Can tags separate two classes?",
            ("pair", "both", "only the first", "only the second", "apart", "separable"),
            tuple(_pair_row(pair) for pair in tags["pairs"] if pair["apart"] is not None),
        )
    for entry in plain["labels"]:
        if entry["source"] == "files" and entry["cases"]:
            rows = (("background", str(entry["background_pixels"]), "", ""),) + tuple(
                (name, str(pixels), str(entry["pieces"].get(name, "")), str(entry["cases_without_class"][name]))
                for name, pixels in entry["pixels"].items()
            )
            title = (
                f"Pixels labelled by {entry['kind']} in {entry['cases']} of {entry['training_cases']} training cases; "
                f"{entry['slices_without_label']} of {entry['slices']} slices have none"
            )
            heads = ("class", "pixels", "connected pieces, by slice", "labelled cases without it")
            yield ReportTable(title, heads, rows)


def page(plain: dict[str, Any], title: str) -> str:
    """Return a report as an HTML page without scripts, pictures or links."""
    cases = plain["cases"]
    parts = ", ".join(f"{count} {part}" for part, count in cases["parts"].items())
    body = [f"<h1>{html.escape(title)}</h1>", f"<p>{number_of(cases['all'], 'case')}: {html.escape(parts)}.</p>"]
    if plain["faults"]:
        items = "".join(f"<li>{html.escape(str(DataFault(**fault)))}</li>" for fault in plain["faults"])
        body += [f"<h2>{number_of(len(plain['faults']), 'fault')}</h2>", f"<ul class='faults'>{items}</ul>"]
    else:
        body.append("<p>No fault was found.</p>")
    body += ["<h2>Advice</h2>", f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in plain['advice'])}</ul>"]
    body += [_html_table(table) for table in tables(plain)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(body)
        + "</body></html>\n"
    )


def _html_table(table: ReportTable) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>{rows}</table>"


def _image_tables(images: dict[str, Any]) -> Iterator[ReportTable]:
    if not images:
        return
    rows = []
    for key, name, unit in (("size", "size", "voxels"), ("spacing_mm", "spacing", "mm"), ("extent_mm", "extent", "mm")):
        for axis, values in enumerate(images.get(key, []), start=1):
            rows.append((f"{name} along stored axis {axis} ({unit})", *_numbers(values)))
    rows.append(("slices", *_numbers(images["slices"][0])))
    for key, name in (("p1", "1st"), ("p50", "50th"), ("p99", "99th")):
        rows.append((f"intensity, {name} percentile", *_numbers(images["intensity"][key])))
    yield ReportTable("Images", ("", "smallest", "median", "largest"), tuple(rows))
    codes = tuple((code, str(count)) for code, count in images.get("orientations", {}).items())
    if not codes:
        return
    yield ReportTable("Stored orientations", ("axes run to", "images"), codes)


def _numbers(values: dict[str, float]) -> tuple[str, str, str]:
    return f"{values['min']:.4g}", f"{values['median']:.4g}", f"{values['max']:.4g}"


def _pair_row(pair: dict[str, Any]) -> tuple[str, ...]:
    numbers = (pair["both"], pair["only_first"], pair["only_second"])
    share = f"{100 * pair['apart']:.1f} %"
    return (" / ".join(pair["classes"]), *map(str, numbers), share, "yes" if pair["separable"] else "no")
