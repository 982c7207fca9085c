"""What the documents say holds: links, sizes, commands, settings and snippets."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import unia_med
from unia_med.cli.main import build_parser
from unia_med.config.describe import find_settings
from unia_med.config.markdown import MARK
from unia_med.config.shipped import find_config

ROOT = Path(unia_med.__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("unia_med/*/*.md"),
    )
    if path.name != "CHANGELOG.md"
)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Command lines of `unia-med` in blocks of code and in backticks, without the rest of a shell line."""
    blocks = "\n".join(_fenced(text, "(?:bash)?")).replace("\\\n", " ")
    lines = [*blocks.splitlines(), *re.findall(r"`(unia-med [a-z][^`]*)`", text)]
    lines += re.findall(r"^    (unia-med .*)$", text, flags=re.MULTILINE)
    found = [part.strip() for line in lines for part in re.split(r"&&|#", line)]
    return [part.removeprefix("env/bin/") for part in found if re.match(r"(env/bin/)?unia-med [a-z]", part)]


def test_the_readme_is_short_and_all_documents_are_there() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
    names = {_name(path) for path in DOCUMENTS}
    folders = ("configs", "pipelines", "examples", "tests")
    assert {"README.md", "CONTRIBUTING.md", "examples/results.md", *(f"{name}/README.md" for name in folders)} <= names


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists() and (not heading or heading in _headings(file)), target


def _headings(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in lines if line[:1] == "#"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_commands_are_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    for command in commands(path.read_text(encoding="utf-8")):
        command = re.sub(r"\$[A-Z_]+", "1", command)  # a variable of a job, e.g. the index of its array
        # Square brackets around an option say that it may be left out; inside quotes they are lists.
        arguments = shlex.split(re.sub(r"\[(--[^\]]*|[A-Z]+)\]", r"\1", command))[1:]
        if {"...", "COMMAND", "--help"} & set(arguments):
            continue
        try:
            args = parser.parse_args(arguments)
        except SystemExit:
            # A sentence may name a command without all that it needs; a wrong option is an error anyway.
            assert "arguments are required" in capsys.readouterr().err, command
            continue
        if getattr(args, "config", None) and "/" not in args.config:
            find_config(args.config)
        for text in getattr(args, "set", None) or []:
            if "=" in text:
                assert find_settings(text.partition("=")[0]), text


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_snippets_are_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for block in _fenced(text, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)
    for block in _fenced(text, "python"):
        ast.parse(block)


def test_the_settings_in_the_documents_are_current() -> None:
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    current = MARK + text.partition(MARK)[2]
    # In a process of its own, as the command: tests change defaults and settings of other methods register themselves.
    code = "import sys; from unia_med.config.markdown import generated_part as part\n"
    code += "sys.stdout.buffer.write(part().encode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert current == done.stdout.decode(), "run: unia-med settings --markdown configs/README.md"


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unia_med.cardiac.phantom.dataset import write_dataset

    (patient,) = write_dataset(tmp_path / "hearts", patients=1)
    (tmp_path / "scans").mkdir()
    frame = min(patient.glob("*_frame??.nii.gz"))
    truth = frame.with_name(frame.name.replace(".nii.gz", "_gt.nii.gz"))
    shutil.copy(frame, tmp_path / "scan.nii.gz")
    shutil.copy(frame, tmp_path / "scans" / "scan7.nii.gz")
    shutil.copy(truth, tmp_path / "scans" / "scan7_gt.nii.gz")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in _fenced((ROOT / "README.md").read_text(encoding="utf-8"), "python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["result"].classes == ("RV", "MYO", "LV")
    assert (tmp_path / "masks" / "scan7_seg.nii.gz").is_file()


def test_the_check_of_commands() -> None:
    block = "```bash\nenv/bin/pip install . && env/bin/unia-med demo --output demo  # x\n```\n"
    text = f"`unia-med train --config a.yaml` and\n{block}"
    assert commands(text) == ["unia-med demo --output demo", "unia-med train --config a.yaml"]
