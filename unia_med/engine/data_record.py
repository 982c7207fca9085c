"""Which data a run was trained on, by their bytes, so that a resumed run notices others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from unia_med.config.schema import RunConfig
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.case_tags import tags_table
from unia_med.data.weak_labels.read import find_files
from unia_med.errors import UserError
from unia_med.files import content_digest, read_json, write_json

TABLE = "table of tags"
_THREADS = 4
_SHOWN = 3


def data_record(config: RunConfig, parts: Mapping[str, Sequence[CaseFiles]]) -> dict[str, str]:
    """Return a hash per training and validation case, over all its files, and one of the table of tags.

    Where the data lie does not matter.

    Args:
        config: of the run.
        parts: its cases, as `split_cases` gives them.
    """
    cases = [case for part in ("train", "val") for case in parts.get(part, ())]
    files = {case.name: list(_files(case, config)) for case in cases}
    for source in config.data.labels:
        if source.source == "files" and parts["train"]:
            for name, path in find_files(source, parts["train"], config.data).items():
                files[name].append(path)
    if config.data.tags.path is not None:
        files[TABLE] = [tags_table(config.data)]
    digest = lru_cache(maxsize=None)(content_digest)  # an annotation file of COCO belongs to many cases

    def joined(paths: Iterable[Path]) -> str:
        digests = "".join(digest(path) for path in paths if path.is_file())
        return blake2b(digests.encode(), digest_size=16).hexdigest()

    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(files, threads.map(joined, files.values()), strict=True))


def write_record(path: Path, record: Mapping[str, str]) -> None:
    """Write what `data_record` gave."""
    write_json(path, record)


def check_record(path: Path, record: Mapping[str, str]) -> None:
    """Refuse to go on with other data than a run began with.

    Args:
        path: what `write_record` wrote; a run of an earlier version has none, and is not checked.
        record: of the data as they are now.

    Raises:
        UserError: cases were added, removed or changed.
    """
    if not path.is_file():
        return
    remedy = "Remove it to go on without a check of the data"
    earlier = read_json(path, remedy)
    if not isinstance(earlier, dict):
        raise UserError("is no record of a run's data", path, remedy)
    told = {
        "new": record.keys() - earlier.keys(),
        "gone": earlier.keys() - record.keys(),
        "changed": {name for name in record.keys() & earlier.keys() if record[name] != earlier[name]},
    }
    differing = [f"{len(names)} {word} ({_some(names)})" for word, names in told.items() if names]
    if differing:
        remedy = "Give the data back as they were, or train again with another --output"
        raise UserError(f"the data are not those that the run began with: {', '.join(differing)}", path, remedy)


def _files(case: CaseFiles, config: RunConfig) -> Iterator[Path]:
    yield from ChannelFiles.of(config.data).files(case.image)
    if case.mask is not None:
        yield case.mask
    yield from (path for _, path in sorted(case.labels.items()) if path != case.mask)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
