"""What the everyday commands must not import: packages that take longer to load than a volume to segment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = ("monai", "timm", "torchvision", "ignite", "skimage", "sympy", "SimpleITK", "scipy.stats", "tensorboard")
SLOW += ("pydicom", "unia_med.report.masks")

CODE = """
import sys
from unia_med.cli.main import main
root, out = sys.argv[1:3]
patient = f"{root}/training/patient001"
codes = [
    main(["predict", "--model", "cardiac-sax", "--input", patient, "--output", out]),
    main(["evaluate", "--predictions", out, "--labels", patient]),
    main(["cardiac", "--masks", out, "--output", f"{out}/heart.csv"]),
    main(["inspect", "--config", "phantom_tiny.yaml", "--set", f"data.root={root}"]),
]
print("codes", codes, file=sys.stderr)
print(" ".join(sorted(name for name in %r if name in sys.modules)))
"""


def test_predict_evaluate_cardiac_and_inspect_import_nothing_slow(tiny_acdc: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE % (SLOW,), str(tiny_acdc), str(tmp_path / "masks")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "codes [0, 0, 0, 0]" in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--config", "phantom_tiny.yaml"),
        ("train", "--config", "phantom_tiny.yaml", "--set", "data.root=nowhere"),
        ("pipeline", "affinitynet_phantom.yaml", "--output", "out"),
    ],
)
def test_a_missing_data_folder_is_refused_before_torch_is_imported(arguments: tuple[str, ...], tmp_path: Path) -> None:
    program = "import sys; from unia_med.cli.main import main; code = main(sys.argv[1:]); "
    program += "sys.exit(code + 10 * ('torch' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert list(tmp_path.iterdir()) == []
