"""The command line: quick help, examples, and exit codes with one message."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

import unia_med
from unia_med.cli import main as cli
from unia_med.errors import UserError

HELP_SECONDS = 1.0
"""Of CPU time, which a busy machine hardly changes."""


def run_cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unia_med.cli.main", *arguments]
    # The package under test, wherever the command runs; without it a checkout that is not installed fails.
    environment = {**os.environ, "PYTHONPATH": str(Path(unia_med.__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_parsers_import_nothing_heavy() -> None:
    code = (
        "import sys, unia_med.cli.main as m; m.build_parser();"
        "heavy = {'torch', 'numpy', 'monai', 'scipy', 'nibabel', 'pydantic'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)], ids=str)
def test_help_is_quick_and_has_an_example(command: tuple[str, ...]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run_cli(*command, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_SECONDS
    assert result.returncode == 0
    assert "example" in result.stdout.lower()
    assert f"unia-med {command[0] if command else 'train'} " in result.stdout


def test_version() -> None:
    assert run_cli("--version").stdout.startswith("unia-med ")


def test_bad_config_ends_with_2_and_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("trainin: {}")
    result = run_cli("train", "--config", "run.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "unia-med: error: run.yaml: trainin: unknown key. Did you mean 'training'? "
        "Known: augment, data, inference, method, network, prior, seed, training, version\n"
    )


def test_hostile_config_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: !!python/object/apply:os.system ['touch hacked']")
    result = run_cli("train", "--config", "run.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "hacked").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run_cli("train", "--config", "missing.yaml", "--debug", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("fly",), ("train",), ("phantom", "--output", "x", "--patients", "many")])
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("train", "--config", "a", "--set", "a=b", "c=d", "--output", "x"), "--set a=b --set c=d"),
        (("train", "--config", "a", "--form", "b", "--output", "x"), "Did you mean --from?"),
        (("evaluate", "--predictions", "a", "--labels", "b", "more"), "See unia-med evaluate --help"),
    ],
)
def test_what_no_option_takes_is_answered_with_the_next_thing_to_type(
    arguments: tuple[str, ...], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [(UserError("broken", "a.nii"), 2, "unia-med: error: a.nii: broken\n"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_errors_become_exit_codes(
    raised: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: Namespace) -> int:
        raise raised

    monkeypatch.setattr("unia_med.cli.demo.run", fail)
    assert cli.main(["demo"]) == code
    assert message in capsys.readouterr().err


def test_the_code_of_a_command_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unia_med.cli.demo.run", lambda args: 1)
    assert cli.main(["demo"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP serves torch on Linux alone")
@pytest.mark.parametrize(
    ("chosen", "count"), [({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")]
)
def test_idle_threads_sleep_unless_the_user_chose_otherwise(chosen: dict[str, str], count: str) -> None:
    code = (
        "from unia_med.cli import demo, main\n"
        "demo.run = lambda args: __import__('torch') is None\n"
        "assert main.main(['demo']) == 0"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"PYTHONPATH": str(Path(unia_med.__file__).parents[1]), "OMP_DISPLAY_ENV": "VERBOSE", **chosen}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert f"GOMP_SPINCOUNT = '{count}'" in done.stderr


def test_train_hands_over_config_folder_and_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    session = pytest.importorskip("unia_med.engine.session")
    calls: list[tuple] = []
    monkeypatch.setattr(session, "run_training", lambda *given: calls.append(given))
    arguments = ["train", "--config", "phantom_tiny", "--set", "seed=5", "--device", "cpu", "--resume"]
    arguments += ["--set", f"data.root={tmp_path}"]
    assert cli.main([*arguments, "--output", str(tmp_path)]) == 0
    assert cli.main(arguments) == 0
    config, output, resume, device = calls[0][:4]
    assert (config.seed, output, resume, device) == (5, tmp_path, True, "cpu")
    assert calls[1][1] == Path("runs/phantom_tiny")


def test_train_without_data_ends_with_2(tmp_path: Path) -> None:
    arguments = ["train", "--config", "phantom_tiny", "--device", "cpu", "--output", "run"]
    without = run_cli(*arguments, cwd=tmp_path)
    assert (without.returncode, "--set data.root=DIR" in without.stderr) == (2, True), without.stderr
    missing = run_cli(*arguments, "--set", "data.root=nowhere", cwd=tmp_path)
    assert (missing.returncode, "nowhere" in missing.stderr) == (2, True), missing.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_phantom_writes_patients(tmp_path: Path) -> None:
    result = run_cli("phantom", "--output", str(tmp_path / "hearts"), "--patients", "1")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "hearts").rglob("*_gt.nii.gz"))) == 2
    again = run_cli("phantom", "--output", str(tmp_path / "hearts"), "--patients", "1")
    assert again.returncode == 2 and "Traceback" not in again.stderr


def test_a_tilde_that_the_shell_left_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parse = cli.build_parser().parse_args
    args = parse(["predict", "--model=~/runs/a", "--input=~/scans", "--output=~/masks"])
    cli.expand_homes(args)
    model = args.model[0] if isinstance(args.model, list) else args.model
    assert str(model) == str(tmp_path / "runs" / "a")
    assert (args.input, args.output) == (tmp_path / "scans", tmp_path / "masks")
    args = parse(["train", "--config=~/a.yaml", "--from=~/runs/a", "--output=~/b"])
    cli.expand_homes(args)
    assert (str(args.config), args.start_from, args.output) == (
        str(tmp_path / "a.yaml"),
        str(tmp_path / "runs" / "a"),
        tmp_path / "b",
    )
    args = parse(["predict", "--model", "~odd~", "--input", "a~b", "--output", "~masks"])
    cli.expand_homes(args)
    model = args.model[0] if isinstance(args.model, list) else args.model
    assert (model, str(args.input), str(args.output)) == ("~odd~", "a~b", "~masks")
