"""The recipe of a bundle's docs/README.md for MONAI Label, run as it is printed, over HTTP on the loopback."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unia_med.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

VARIABLE = "UNIA_MED_MONAILABEL_PYTHON"
NAME = "cardiac_sax_segmentation"


def fetch(url: str, data: bytes | None = None, kind: str = "application/x-www-form-urlencoded") -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, {"Content-Type": kind}), timeout=900) as answer:
        return answer.read()


@pytest.fixture(scope="module")
def label_python() -> Path:
    """Python of an environment that has MONAI Label."""
    named = os.environ.get(VARIABLE)
    if not named:
        pins = '"monailabel==0.8.5" "monai==1.6.1" "pydicom<3" "dicomweb-client<0.60" "pynetdicom<3"'
        pytest.skip(
            f"no MONAI Label: pip install {pins} in an environment of its own, and set {VARIABLE} to its python"
        )
    return Path(named)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An oblique synthetic heart, alone in a folder."""
    root = tmp_path_factory.mktemp("hearts")
    assert main(["phantom", "--output", str(root / "phantom"), "--patients", "1", "--seed", "3"]) == 0
    source = nibabel.load(next((root / "phantom").rglob("*_frame01.nii.gz")))
    turned = np.array([[0.8, -0.36, 0.48, -31.5], [0.6, 0.48, -0.64, 12.25], [0, 0.8, 0.6, 40.75], [0, 0, 0, 1]])
    affine = turned @ np.diag([*source.header.get_zooms()[:3], 1.0])
    (root / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.asarray(source.dataobj), affine), root / "images" / "heart.nii.gz")
    return root / "images" / "heart.nii.gz"


def recipe(bundle: Path) -> list[str]:
    """The commands in the section on 3D Slicer, the installation left out."""
    text = (bundle / "docs" / "README.md").read_text()
    block = re.search(r"## In 3D Slicer.*?```\n(.*?)```", text, re.DOTALL)
    assert block
    return [line for line in block[1].splitlines() if not line.startswith("pip ")]


@pytest.fixture(scope="module")
def server(label_python: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("label")
    assert main(["export", "--model", "cardiac-sax", "--output", str(folder / NAME)]) == 0
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    surroundings["PATH"] = f"{label_python.parent}{os.pathsep}{surroundings['PATH']}"
    *before, start = recipe(folder / NAME)
    assert start.startswith("monailabel start_server") and len(before) == 3
    for line in before:
        command = shlex.split(line.replace("BUNDLE", NAME))
        subprocess.run(command, cwd=folder, env=surroundings, check=True, timeout=900)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = shlex.split(start.replace("IMAGES", str(image.parent))) + ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        # A session of its own: the command is a shell script, whose child is the server.
        process = subprocess.Popen(
            command, cwd=folder, env=surroundings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(900):
            try:
                fetch(f"http://127.0.0.1:{port}/info/")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


def test_the_mask_over_http_is_that_of_predict(server: str, image: Path, tmp_path: Path) -> None:
    assert NAME in fetch(f"{server}/info/").decode()
    answer = fetch(f"{server}/infer/{NAME}?image=heart&output=image", b"params=%7B%7D")
    (tmp_path / "label.nii.gz").write_bytes(answer)
    assert main(["predict", "--model", "cardiac-sax", "--input", str(image), "--output", str(tmp_path / "own")]) == 0
    ours, theirs = nibabel.load(tmp_path / "own" / "heart_seg.nii.gz"), nibabel.load(tmp_path / "label.nii.gz")
    np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-4)
    own, other = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
    assert set(np.unique(own)) == {0, 1, 2, 3}
    # A network at other versions of its libraries may differ in a voxel of equal probabilities.
    assert own.shape == other.shape and (own != other).sum() <= 2
