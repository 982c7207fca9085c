"""Runs the stages of a recipe, each in its own folder, and leaves out what is finished and unchanged.

A stage's fingerprint covers its step and settings, the package version, the files it reads by name and content, and
the fingerprints and finishing times of the stages it reads. Its record lies in `records/NAME.json`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unia_med import __version__
from unia_med.config.pipeline import StageConfig
from unia_med.data.io.walk import walk
from unia_med.errors import UserError
from unia_med.files import content_digest, write_text
from unia_med.pipeline.recipe import Recipe
from unia_med.pipeline.steps import Step
from unia_med.registry import STEPS, resolve

RECORDS = "records"
_NAMELESS = "stage:{}"
_THREADS = 4


@dataclass(frozen=True)
class Record:
    """The record of a finished stage.

    Attributes:
        stage: Its name.
        step: What it does.
        fingerprint: Of everything that decides its outcome.
        version: Of the package that ran it.
        settings: Those that are part of the fingerprint.
        reads: Earlier stages, and what identifies the outputs that were read.
        finished: Seconds since 1970, or None while it runs or after it was killed.
        seconds: Wall time of the last part of the work.
    """

    stage: str
    step: str
    fingerprint: str
    version: str
    settings: dict[str, Any]
    reads: dict[str, str]
    finished: float | None = None
    seconds: float | None = None

    @property
    def token(self) -> str:
        """Identifier of this output: it changes with the settings and with the time of making."""
        return f"{self.fingerprint}@{self.finished}"


def run_recipe(recipe: Recipe, output: Path, device: str = "auto") -> int:
    """Run the stages that are new, changed or unfinished, and return the exit code of the last one that ran.

    Args:
        recipe: What to do.
        output: Folder of the pipeline; every stage has a folder of its name in it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: A setting of any stage is wrong, before anything runs; or a stage's own.
    """
    # All are built at once, so that a fault in the last stage shows before the first one runs.
    plan = _steps(recipe, lambda read: str(output / read))
    nameless = _steps(recipe, _NAMELESS.format)
    for step in plan.values():
        step.check()
    done: dict[str, Record] = {}
    for number, stage in enumerate(recipe.stages, start=1):
        folder, step = output / stage.name, plan[stage.name]
        title = f"[{number}/{len(recipe.stages)}] {stage.name}"
        reads = {read: done[read].token for read in stage.reads.values()}
        wanted = _wanted_record(stage, nameless[stage.name], reads)
        found = read_record(output, stage.name)
        same = found if found is not None and found.fingerprint == wanted.fingerprint else None
        if same is not None and same.finished is not None and step.is_complete(folder):
            print(f"{title}: finished, unchanged", flush=True)
            done[stage.name] = same
            continue
        resumes = same is not None and same.finished is None
        if not resumes:
            _make_room(folder, found, output / RECORDS / f"{stage.name}.json")
        print(f"{title}: {'goes on' if resumes else 'runs'}", flush=True)
        write_record(output, wanted)
        started = time.time()
        code = step.run(folder, device)
        if code:
            return code
        now = time.time()
        done[stage.name] = Record(**{**asdict(wanted), "finished": now, "seconds": round(now - started, 1)})
        write_record(output, done[stage.name])
    return 0


def read_record(output: Path, stage: str) -> Record | None:
    """Return the record of a stage, or None where there is none that can be read.

    Args:
        output: Folder of the pipeline.
        stage: Its name.
    """
    path = output / RECORDS / f"{stage}.json"
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # of another version, or damaged: the stage runs again
        return None


def write_record(output: Path, record: Record) -> None:
    """Write a record; it appears whole or not at all.

    Args:
        output: Folder of the pipeline.
        record: What to keep.
    """
    folder = output / RECORDS
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{record.stage}.json", json.dumps(asdict(record), indent=2) + "\n")


def files_digest(paths: list[Path]) -> str:
    """One hash of the names and contents of files and of all files in folders.

    Args:
        paths: Files or folders; a missing one counts as missing.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as threads:
        for path in paths:
            files = sorted(_listing(path))
            contents = threads.map(content_digest, (file for _, file in files))
            for (name, _), content in zip(files, contents, strict=True):
                digest.update(f"{name}\0{content}\n".encode())
            digest.update(b"\1")
    return digest.hexdigest()


def _listing(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
    elif path.is_dir():
        yield from ((file.relative_to(path).as_posix(), file) for file in walk(path) if file.is_file())


def _steps(recipe: Recipe, place: Callable[[str], str]) -> dict[str, Step]:
    """All steps with their settings checked.

    Args:
        recipe: The stages.
        place: What stands for the output of a stage in the settings of those that read it.
    """
    steps: dict[str, Step] = {}
    for stage in recipe.stages:
        settings: dict[str, Any] = dict(stage.settings)
        for key, read in stage.reads.items():
            settings = steps[read].fill(settings, key, place(read), steps[read])
        kind = resolve(STEPS, stage.step, f"step of stage '{stage.name}'")
        steps[stage.name] = kind(settings, recipe.shared, recipe.overrides, f"{recipe.origin}: stage '{stage.name}'")
    return steps


def _wanted_record(stage: StageConfig, step: Step, reads: dict[str, str]) -> Record:
    """Return the record that an up-to-date stage has.

    Args:
        stage: The stage.
        step: Its step, with names in place of the folders it reads, so that a moved pipeline stays finished.
        reads: What identifies the outputs that it reads.
    """
    settings = step.described()
    files = [path for path in step.inputs() if not str(path).startswith(_NAMELESS.format(""))]
    inputs = files_digest(files)
    facts = {"step": stage.step, "settings": settings, "version": __version__, "inputs": inputs, "reads": reads}
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Record(stage.name, stage.step, fingerprint, __version__, settings, reads)


def _make_room(folder: Path, record: Record | None, file: Path) -> None:
    """Remove what an earlier form of the stage left; a folder without a record in its file is refused."""
    if not folder.exists():
        return
    if record is None and any(folder.iterdir()):
        if file.exists():
            remedy = f"Restore it from a copy, or remove {folder}: the stage runs again"
            raise UserError("is damaged, so nobody knows what its stage left", file, remedy)
        raise UserError(
            "this folder is not empty and was not made by a pipeline", folder, "Name another --output, or remove it"
        )
    shutil.rmtree(folder)
