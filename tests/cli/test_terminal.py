"""Standard output that is closed, full or no longer read: results stay, work goes on, no file takes its number."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unia_med.cli.terminal import LastingFile
from unia_med.engine.interrupt import StopRequest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")


def test_a_pipe_that_nobody_reads_takes_everything() -> None:
    read, write = os.pipe()
    os.close(read)
    with LastingFile(write, "w") as file:
        assert file.write(b"abc") == 3 and file.lost is not None and file.lost.errno == errno.EPIPE
        assert file.write(memoryview(b"defg")) == 4


def test_what_can_be_written_is_written(tmp_path: Path) -> None:
    with LastingFile(tmp_path / "a", "w") as file:
        assert file.write(b"abc") == 3 and file.lost is None
    assert (tmp_path / "a").read_bytes() == b"abc"


def _command(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = f'"$0" -m unia_med.cli.main "$@" {redirected}'
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["bash", "-c", f"set -o pipefail; {line}", sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_fault() -> None:
    done = _command("| head -1", "settings")
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 1


@pytest.mark.slow
def test_closed_streams_take_nothing(tmp_path: Path) -> None:
    record = tmp_path / "configs.md"
    record.write_bytes((Path(__file__).parents[2] / "configs" / "README.md").read_bytes())
    done = _command(">&- 2>&- <&-", "settings", "--markdown", str(record))
    assert done.returncode == 0 and "Written" not in record.read_text()
    assert done.stdout == done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_standard_output_is_said() -> None:
    done = _command("> /dev/full", "settings", "training.iterations")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "standard output: cannot be written: No space left on device" in done.stderr


def test_a_hang_up_is_a_request_to_stop_unless_it_is_ignored() -> None:
    import signal

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal_number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
