"""The training loop: stopped runs end where whole ones do, and what goes wrong is named."""

from __future__ import annotations

import copy
import csv
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from unia_med.engine.checkpoint import load_checkpoint
from unia_med.engine.interrupt import Interrupted
from unia_med.engine.randomness import seed_everything, step_seed
from unia_med.engine.schedule import cosine_factor
from unia_med.engine.stream import steps_from
from unia_med.engine.trainer import Trainer
from unia_med.errors import UserError
from unia_med.methods.base import Batch

Program = Callable[..., subprocess.CompletedProcess]


def _state(run_dir: Path, name: str = "last.pt") -> dict[str, Any]:
    return load_checkpoint(run_dir / "checkpoints" / name)


def _assert_same(one: Path, other: Path) -> None:
    a, b = _state(one), _state(other)
    for part in ("model", "ema"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part]), part
    assert a["step"] == b["step"]
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


@pytest.fixture
def whole(tiny: ModuleType, tmp_path: Path) -> Path:
    """The folder of an uninterrupted run."""
    tiny.tiny_trainer(tmp_path / "whole").run()
    return tmp_path / "whole"


@pytest.mark.parametrize("stop_at", [1, 6, 7, 11])
def test_a_stopped_and_resumed_run_equals_the_whole_bit_by_bit(
    stop_at: int, tiny: ModuleType, tmp_path: Path, whole: Path
) -> None:
    trainer = tiny.tiny_trainer(tmp_path / "parts")
    _at_step(trainer, stop_at, trainer.request_stop)
    with pytest.raises(Interrupted) as stop:
        trainer.run()
    assert stop.value.step == stop_at
    resumed = tiny.tiny_trainer(tmp_path / "parts")
    assert resumed.step == stop_at
    resumed.run()
    _assert_same(whole, tmp_path / "parts")


def _at_step(trainer: Trainer, step: int, act: Callable[[], None]) -> None:
    """Acts while a trainer computes the losses of its `step`-th iteration, counted from 1."""
    losses = trainer.method.losses

    def acting(batch: Batch, now: int) -> dict[str, Tensor]:
        if now == step - 1:
            act()
        return losses(batch, now)

    trainer.method.losses = acting


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_checkpoint(run_program: Program, tmp_path: Path, whole: Path) -> None:
    killed = run_program(tmp_path / "parts", int(signal.SIGKILL), 7)
    assert killed.returncode == -signal.SIGKILL
    assert _state(tmp_path / "parts")["step"] == 6
    assert run_program(tmp_path / "parts", 0, -1).returncode == 0
    _assert_same(whole, tmp_path / "parts")


def test_a_run_folder_that_is_removed_meanwhile_stops_the_training(
    tiny: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}")
    trainer = tiny.tiny_trainer(run)
    _at_step(trainer, 4, lambda: shutil.rmtree(run))
    with pytest.raises(UserError, match="was removed while the training ran"):
        trainer.run()
    assert trainer.step == 4 and not list(run.rglob("*"))
    assert "Traceback" not in capfd.readouterr().err


def test_a_diverged_training_is_no_result_also_after_a_resume(tiny: ModuleType, tmp_path: Path) -> None:
    def trainer(**more: Any) -> Trainer:
        return tiny.tiny_trainer(tmp_path, training=tiny.settings(learning_rate=1e4), **more)

    def infinite(method: Any, step: int) -> dict[str, float]:
        raise UserError("the network gives NaN or infinite probabilities")

    with pytest.raises(UserError, match="the training diverged"):  # and not what validation makes of it
        trainer(validation=infinite).run()
    with pytest.raises(UserError, match="the training diverged"):
        trainer().run()
    assert not (tmp_path / "checkpoints" / "best.pt").exists() and _state(tmp_path)["step"] == 10
    with pytest.raises(UserError, match="the training diverged"):
        trainer().run()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_a_checkpoint_and_their_exit_code(
    number: signal.Signals, code: int, run_program: Program, tmp_path: Path
) -> None:
    done = run_program(tmp_path, int(number), 2)
    assert (done.returncode, done.stderr) == (code, "")
    assert _state(tmp_path)["step"] == 3


def test_the_earlier_signal_handlers_come_back(tiny: ModuleType, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    tiny.tiny_trainer(tmp_path).run()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_stays_as_it_is(tiny: ModuleType, whole: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    again = tiny.tiny_trainer(whole)
    again.run()
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == files
    stored = _state(whole)["ema"]
    assert all(torch.equal(stored[name], value) for name, value in again.ema_method.state_dict().items())


def test_the_checkpoint_of_another_run_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    own = {"classes": ["LV", "RV"], "config": {"seed": 3}}
    tiny.tiny_trainer(tmp_path, metadata=own).run()
    tiny.tiny_trainer(tmp_path, metadata=own)
    for other in ({**own, "classes": ["RV", "LV"]}, {**own, "config": {"seed": 0}}):
        with pytest.raises(UserError, match=r"last\.pt.* of another run: "):
            tiny.tiny_trainer(tmp_path, metadata=other)


def test_the_seed_matters(tiny: ModuleType, tmp_path: Path, whole: Path) -> None:
    other = tiny.tiny_trainer(tmp_path / "other", seed=4)
    other.run()
    assert not torch.equal(other.method.head.weight, _state(whole)["model"]["head.weight"])


def test_rows_beyond_the_checkpoint_come_again_once(tiny: ModuleType, tmp_path: Path) -> None:
    training = tiny.settings(validate_every=2, checkpoint_every=5)
    tiny.tiny_trainer(tmp_path, training=training).run()
    path = tmp_path / "metrics.csv"
    text = path.read_text()
    early = _state(tmp_path)
    early["step"], early["scheduler"]["last_epoch"] = 7, 7
    torch.save(early, tmp_path / "checkpoints" / "last.pt")
    tiny.tiny_trainer(tmp_path, training=training).run()
    steps = [int(row["step"]) for row in csv.DictReader(path.read_text().splitlines())]
    assert steps == [2, 4, 6, 8, 10, 12]
    assert path.read_text().splitlines()[:4] == text.splitlines()[:4]


def test_the_table_holds_the_mean_losses_of_its_interval(tiny: ModuleType, tmp_path: Path) -> None:
    values: list[float] = []
    trainer = tiny.tiny_trainer(tmp_path, validation=lambda method, step: {"val_dice": float("nan"), "x": step / 4})
    losses = trainer.method.losses

    def noting(batch: Batch, step: int) -> dict[str, Tensor]:
        found = losses(batch, step)
        values.append(float(found["tags"].detach()))
        return found

    trainer.method.losses = noting
    trainer.run()
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["6", "12"]
    assert float(rows[0]["tags"]) == pytest.approx(sum(values[:6]) / 6, rel=1e-5)
    assert float(rows[1]["tags"]) == pytest.approx(sum(values[6:]) / 6, rel=1e-5)
    assert [(row["val_dice"], row["x"]) for row in rows] == [("", "1.5"), ("", "3")]


@pytest.mark.parametrize(("keep", "step", "best"), [("none", 12, None), ("dice", 6, 0.9)])
def test_validation_chooses_the_best_only_when_asked(
    keep: str, step: int, best: float | None, tiny: ModuleType, tmp_path: Path
) -> None:
    scores = {6: 0.9, 12: 0.5}
    training = tiny.settings(keep_best_by=keep)
    tiny.tiny_trainer(tmp_path, training=training, validation=lambda m, s: {"val_dice": scores[s]}).run()
    state = _state(tmp_path, "best.pt")
    assert (state["step"], state["best"]) == (step, best)


def test_a_worse_validation_after_a_resume_keeps_the_best(tiny: ModuleType, tmp_path: Path) -> None:
    training = tiny.settings(keep_best_by="dice")
    first = tiny.tiny_trainer(tmp_path, training=training, validation=lambda m, s: {"val_dice": 0.9})
    losses = first.method.losses
    first.method.losses = lambda batch, step: (step == 8 and first.request_stop()) or losses(batch, step)
    with pytest.raises(Interrupted):
        first.run()
    second = tiny.tiny_trainer(tmp_path, training=training, validation=lambda m, s: {"val_dice": 0.5})
    second.run()
    assert (second.best, _state(tmp_path, "best.pt")["step"]) == (0.9, 6)


def test_damaged_best_weights_of_a_finished_run_are_written_again(tiny: ModuleType, tmp_path: Path) -> None:
    tiny.tiny_trainer(tmp_path).run()
    path, whole = tmp_path / "checkpoints/best.pt", _state(tmp_path, "best.pt")["ema"]
    for damaged in (path.read_bytes()[:-1000], b"foreign"):
        path.write_bytes(damaged)
        tiny.tiny_trainer(tmp_path).run()
        again = _state(tmp_path, "best.pt")["ema"]
        assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole)


def test_without_masks_the_best_is_the_last(tiny: ModuleType, tmp_path: Path) -> None:
    training = tiny.settings(keep_best_by="dice")
    trainer = tiny.tiny_trainer(tmp_path, training=training, validation=lambda m, s: {})
    trainer.run()
    assert torch.equal(_state(tmp_path, "best.pt")["ema"]["head.weight"], trainer.ema_method.head.weight)


def test_validation_sees_the_average_in_eval_mode(tiny: ModuleType, tmp_path: Path) -> None:
    seen: list[tuple[bool, bool, int]] = []
    trainer = tiny.tiny_trainer(
        tmp_path, validation=lambda m, s: seen.append((m is trainer.ema_method, m.training, s)) or {}
    )
    trainer.run()
    assert seen == [(True, False, 6), (True, False, 12)]


def test_boundaries_come_once_at_their_step_before_its_checkpoint(tiny: ModuleType, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = tiny.TinySlices()

    def label(method: torch.nn.Module) -> None:
        assert not method.training
        path = tmp_path / "checkpoints" / "last.pt"
        seen.append((trainer.step, _state(tmp_path)["step"] if path.is_file() else -1))
        source.scores = torch.full((len(source), 3, 16, 16), 255, dtype=torch.uint8)

    trainer = tiny.tiny_trainer(tmp_path, dataset=source, boundaries={4: label, 12: label})
    batches: list[tuple[int, Tensor | None]] = []
    losses = trainer.method.losses
    trainer.method.losses = lambda batch, step: batches.append((step, batch.scores)) or losses(batch, step)
    trainer.run()
    assert seen == [(4, -1)]
    assert all((scores is not None) == (step >= 4) for step, scores in batches)
    assert float(batches[-1][1].max()) == 1.0


@pytest.mark.parametrize("stop", [None, 3, 7])
def test_a_restart_forgets_weights_moments_and_rate_also_when_resumed(
    stop: int | None, tiny: ModuleType, tmp_path: Path
) -> None:
    """The first step after the boundary is that of a run which begins there, whether or not the run was stopped."""
    heard: list[dict[str, Tensor]] = []

    def listen(method: torch.nn.Module) -> None:
        heard.append({name: value.clone() for name, value in method.state_dict().items()})

    def trainer() -> Trainer:
        return tiny.tiny_trainer(tmp_path, boundaries={5: listen}, restarts=True)

    begin = {name: value.clone() for name, value in trainer().method.state_dict().items()}
    if stop is not None:
        first = trainer()
        losses = first.method.losses
        first.method.losses = lambda batch, step: (step == stop and first.request_stop()) or losses(batch, step)
        with pytest.raises(Interrupted):
            first.run()
    states: dict[int, tuple] = {}
    second = trainer()
    losses = second.method.losses

    def watch(batch: Batch, step: int) -> dict[str, Tensor]:
        weights = {name: value.clone() for name, value in second.method.state_dict().items()}
        states[step] = (weights, second.scheduler.get_last_lr()[0], len(second.optimizer.state), second.average.updates)
        return losses(batch, step)

    second.method.losses = watch
    second.run()
    assert len(heard) == 1 and any(not torch.equal(heard[0][name], begin[name]) for name in begin)
    if stop != 7:
        weights, rate, moments, updates = states[5]
        assert all(torch.equal(weights[name], begin[name]) for name in begin)
        assert (rate, moments, updates) == (0.05, 0, 0)
    assert states[8][3] == 3 and states[8][1] < 0.05


def test_a_loss_that_is_not_finite_is_named_and_never_stored(tiny: ModuleType, tmp_path: Path) -> None:
    trainer = tiny.tiny_trainer(tmp_path)
    losses = trainer.method.losses

    def spoilt(batch: Batch, step: int) -> dict[str, Tensor]:
        found = losses(batch, step)
        return {**found, "tags": found["tags"] * float("nan")} if step == 7 else found

    trainer.method.losses = spoilt
    with pytest.raises(UserError, match=r"not finite at step 7: tags is nan; cases: patient\d+ slice \d"):
        trainer.run()
    assert _state(tmp_path)["step"] == 6


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_too_little_memory_names_the_setting(error: Exception, tiny: ModuleType, tmp_path: Path) -> None:
    def fail(batch: Batch, step: int) -> dict[str, Tensor]:
        raise error

    trainer = tiny.tiny_trainer(tmp_path)
    trainer.method.losses = fail
    with pytest.raises(UserError, match=r"Lower training.batch_size \(now 4\)"):
        trainer.run()


def test_other_errors_come_through_as_they_are(tiny: ModuleType, tmp_path: Path, capfd: Any) -> None:
    def fail(batch: Batch, step: int) -> dict[str, Tensor]:
        raise RuntimeError("a bug")

    trainer = tiny.tiny_trainer(tmp_path)
    trainer.method.losses = fail
    with pytest.raises(RuntimeError, match="a bug"):
        trainer.run()
    assert capfd.readouterr().err == ""


def test_a_training_is_this_loop(tiny: ModuleType, tmp_path: Path) -> None:
    """Seed of the step, batch of the order, gradient of this batch alone, clipped; AdamW, its rate, the average."""
    training = tiny.settings(clip_norm=0.05, schedule="cosine", warmup=0.25, weight_decay=0.1)
    trainer = tiny.tiny_trainer(tmp_path, training=training, augment=None)
    trainer.run()
    last = torch.channels_last  # of the memory, in which order dropout draws
    method, source = tiny.TinyMethod().to(memory_format=last), tiny.TinySlices()
    average = copy.deepcopy(method)
    groups = method.parameter_groups(0.05, 0.1)
    optimizer = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.999), eps=1e-8)
    for step, indices in zip(range(12), steps_from(source, 3, 4, 0), strict=False):
        seed_everything(step_seed(3, step))
        items = [source[index] for index in indices]
        images, tags = (torch.stack([one[name] for one in items]) for name in ("image", "tags"))
        batch = Batch(images.contiguous(memory_format=last), tags)
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (cosine_factor(step, 12, 3))
        optimizer.zero_grad()
        method(batch, step)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 0.05)
        optimizer.step()
        kept = min(0.9, (1 + step) / (10 + step))
        for mean, value in zip(average.parameters(), method.parameters(), strict=True):
            mean.data.mul_(kept).add_((1 - kept) * value.data)
    for found, expected in ((trainer.method, method), (trainer.ema_method, average)):
        for name, value in expected.named_parameters():
            if name != "body.0.bias":  # the norm takes it out, so that its gradient is nothing but rounding
                torch.testing.assert_close(found.get_parameter(name), value, atol=1e-5, rtol=1e-4)


def test_slices_change_from_step_to_step_and_exact_ones_are_known(tiny: ModuleType, tmp_path: Path) -> None:
    class OneSlice(tiny.TinySlices):
        def __getitem__(self, index: int) -> dict[str, Any]:
            item = super().__getitem__(0)
            return {**item, "exact": torch.tensor(index > 4), "scores": torch.full((3, 16, 16), 51, dtype=torch.uint8)}

    trainer, seen = tiny.tiny_trainer(tmp_path, dataset=OneSlice()), []
    losses = trainer.method.losses
    trainer.method.losses = lambda batch, step: seen.append(batch) or losses(batch, step)
    trainer.run()
    assert not torch.equal(seen[0].images[0], seen[1].images[0])
    assert sum(int(batch.exact.sum()) for batch in seen[:2]) in (3, 4, 5) and seen[0].exact.dtype == torch.bool
    assert seen[0].scores.max().item() == pytest.approx(0.2, abs=1e-6)


def test_gradients_are_brought_to_scale_before_they_are_clipped(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In half precision they are scaled; a norm of scaled ones says nothing."""
    trainer, done = tiny.tiny_trainer(tmp_path, training=tiny.settings(clip_norm=1.0)), []
    parts = {name: (lambda *_, name=name: done.append(name)) for name in ("unscale_", "step", "update")}
    trainer.scaler = SimpleNamespace(**parts)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: done.append("clip"))
    trainer._update_weights()
    assert done == ["unscale_", "clip", "step", "update"]


def test_clipping_bounds_the_gradient(tiny: ModuleType, tmp_path: Path) -> None:
    trainer = tiny.tiny_trainer(tmp_path, training=tiny.settings(clip_norm=1e-3))
    trainer.run()
    norm = torch.stack([parameter.grad.norm() for parameter in trainer.method.parameters()]).norm()
    assert float(norm) <= 1.001e-3


def test_a_checkpoint_of_another_network_is_refused(tiny: ModuleType, whole: Path) -> None:
    other = tiny.TinyMethod()
    other.head = torch.nn.Conv2d(4, 5, 1)
    with pytest.raises(UserError, match="do not fit the network"):
        tiny.tiny_trainer(whole, method=other)


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_batch_of_both(tiny: ModuleType, tmp_path: Path) -> None:
    """Batch norm, dropout and augmentation differ between processes by nature, so the method here has none."""
    program = Path(__file__).with_name("tiny_run.py")
    one, two = tmp_path / "one", tmp_path / "two"
    shared = {"iterations": 6, "schedule": "cosine"}
    for processes, folder, batch in ((1, one, 8), (2, two, 4)):
        values = json.dumps({**shared, "batch_size": batch})
        done = _torchrun(processes, program, folder, "0", "-1", values, "plain")
        assert done.returncode == 0, done.stderr
    a, b = _state(one), _state(two)
    for name, value in a["ema"].items():
        torch.testing.assert_close(b["ema"][name], value, rtol=1e-4, atol=1e-6)
    assert len((two / "metrics.csv").read_text().splitlines()) == 2


def _torchrun(processes: int, *arguments: object) -> subprocess.CompletedProcess:
    import os
    import sys

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launch, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
