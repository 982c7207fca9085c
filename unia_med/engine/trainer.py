"""The training loop: a MONAI trainer with this package's iteration, and its handlers.

Every step is a pure function of the weights, the optimiser state and (seed, step, rank). A checkpoint therefore needs
no random states, and a resumed run equals an uninterrupted one bit by bit on a CPU.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor

from unia_med import distributed
from unia_med.config.schema import AugmentConfig, TrainingConfig
from unia_med.data.slices.augment import BatchAugmentation, step_generator
from unia_med.engine.average import WeightAverage
from unia_med.engine.checkpoint import load_checkpoint, load_weights, require_own, save_checkpoint
from unia_med.engine.collapse import CollapseWatch
from unia_med.engine.interrupt import Interrupted, StopRequest
from unia_med.engine.monitor import Monitor
from unia_med.engine.precision import half_precision, type_name
from unia_med.engine.randomness import seed_everything, step_seed
from unia_med.engine.schedule import rate_scheduler, restarted_factor
from unia_med.engine.stream import BatchStream, SliceSource, item_name
from unia_med.engine.watch import Divergence, LossWatch, RunningMeans
from unia_med.errors import UserError
from unia_med.files import remove_leftovers
from unia_med.memory import kept_memory
from unia_med.methods.base import Batch, Method
from unia_med.run_files import RunFiles
from unia_med.tensors import with_layout

_LOG = logging.getLogger(__name__)

_STATE_KEYS = ("model", "ema", "ema_updates", "optimizer", "scheduler", "scaler", "step", "best", "means")
_LOOK_EVERY = 2  # loggings from one look at the predicted classes to the next; each costs a prediction of the batch
_MEMORY_REMEDY = "Lower training.batch_size (now {}), data.grid.size or network.input_size"

Boundary = Callable[[Method], None]


class Trainer:
    """Train one method on one data set within one folder; a folder with a checkpoint is continued.

    Attributes:
        ema_method: the averaged method in eval mode, which is validated, predicted with and exported.
        step: iterations done.
    """

    def __init__(
        self,
        method: Method,
        dataset: SliceSource,
        training: TrainingConfig,
        augment: AugmentConfig | None,
        run_dir: Path,
        device: torch.device,
        seed: int,
        validation: Callable[[Method, int], Mapping[str, float]] | None = None,
        boundaries: Mapping[int, Boundary] | None = None,
        *,
        restore: Callable[[int], None] | None = None,
        restarts: bool = False,
        workers: int = 0,
        metadata: Mapping[str, Any] | None = None,
        title: str = "train",
    ) -> None:
        """Assemble a training and load the folder's last checkpoint if there is one; nothing is written before `run`.

        Args:
            method: what is trained; moved to the device.
            dataset: training slices.
            training: optimiser, schedule, budget.
            augment: random changes of slices; None for none.
            run_dir: gets checkpoints, table, log and curves.
            device: of this process.
            seed: drives order, augmentation and everything random in the method.
            validation: called with the averaged method and the step on every process; gives numbers by column of
                `metrics.csv`, of which `keep_best_by: dice` compares `val_dice`.
            boundaries: what happens before a step past 0, e.g. labelling again; called with the averaged method. A
                checkpoint of that step is written after it, so whatever it leaves on the disk is there at a resume.
            restore: brings the other processes to the state in which a boundary left the first, given its step. With
                several processes boundaries run on the first one only.
            restarts: after a boundary training starts again, with the weights that `run` found at step 0.
            workers: loading processes.
            metadata: plain values for the checkpoints: `config` and `classes`.
            title: shown next to the progress bar.
        """
        self.device = torch.device(device)
        self._layout = torch.channels_last  # faster convolutions, on CPU and CUDA
        self.method = with_layout(method.to(self.device), self._layout).train()
        self.dataset, self.training, self.run_dir, self.seed = dataset, training, run_dir, seed
        self._validation, self._boundaries = validation, dict(boundaries or {})
        self._restore, self._restarts, self._workers = restore, restarts, workers
        self._metadata = {"config": {}, "classes": [], **(metadata or {})}
        self._augment = BatchAugmentation(augment) if augment is not None else None
        self._monitor = Monitor(run_dir, training.iterations, title)
        self._watch = LossWatch(method, lambda index: item_name(dataset, index), self.device.type == "cpu")
        self._collapse = CollapseWatch(self._metadata["classes"], training.iterations)
        self._means, self._stop, self._divergence = RunningMeans(), StopRequest(), Divergence()
        self._prepare_optimiser()
        self.average = WeightAverage(self.method, training.ema)
        self.step = 0
        self._begun_in_run = RunFiles(run_dir).config.is_file()  # a teacher's folder has no config
        self.best: float | None = None
        if self.last_path.is_file():
            self._load()

    @property
    def ema_method(self) -> Method:
        """The averaged method, in eval mode."""
        return self.average.method

    @property
    def last_path(self) -> Path:
        """Checkpoint from which a run continues."""
        return RunFiles(self.run_dir).last

    @property
    def best_path(self) -> Path:
        """Checkpoint to predict with."""
        return RunFiles(self.run_dir).best

    @property
    def _start_path(self) -> Path:
        return RunFiles(self.run_dir).start

    def run(self) -> None:
        """Train up to the budget, from the folder's checkpoint if there is one.

        Raises:
            Interrupted: after SIGINT or SIGTERM, with the checkpoint written.
            UserError: bad data, a loss that is not finite, too little memory.
        """
        if self.step > 0:
            self._replace_damaged_best()
        if self.step == self.training.iterations:
            return
        if distributed.is_main():
            remove_leftovers(self.last_path.parent)
            remove_leftovers(self.run_dir)
            if self._restarts and self.step == 0:
                save_checkpoint({"model": self.method.state_dict()}, self._start_path)
        with kept_memory(), self._stop, self._monitor.open(self.step):
            try:
                self._engine().run()
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise self._memory_error(error) from error
            except RuntimeError as error:
                if "can't allocate memory" in str(error):
                    raise self._memory_error(error) from error
                raise

    def restart_average(self) -> None:
        """Restart the average from the method's weights, after they were replaced."""
        self.average = WeightAverage(self.method, self.training.ema)

    def request_stop(self) -> None:
        """Ask the run to stop after its current step, as SIGTERM would."""
        self._stop.set()

    def _engine(self) -> SupervisedTrainer:
        settings = self.training
        stream = BatchStream(
            self.dataset,
            self.seed,
            settings.batch_size,
            self.step,
            settings.iterations,
            self._boundaries,
            self._workers,
            self.device.type == "cuda",
        )
        engine = SupervisedTrainer(
            device=self.device,
            max_epochs=1,  # one pass over a stream as long as the whole budget
            train_data_loader=stream,
            epoch_length=settings.iterations,
            network=distributed.wrap(self.method, self.device),
            optimizer=self.optimizer,
            loss_function=lambda losses: losses["loss"],
            iteration_update=self._iterate,
            decollate=False,
        )
        engine.logger = logging.Logger("unia_med.engine", logging.CRITICAL)  # errors reach the user once, by exception
        engine.state.iteration = self.step
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        return engine

    def _iterate(self, engine: Any, raw: dict[str, Any]) -> dict[str, Tensor]:
        step = engine.state.iteration - 1
        seed_everything(step_seed(self.seed, step, distributed.rank()))
        batch = self._prepare(raw, step)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses = engine.network(batch, step)
        engine.state.output = losses
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        self._watch.record(step, losses, raw["index"])
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        self.scaler.scale(losses["loss"]).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self._update_weights()
        if (step + 1) % (_LOOK_EVERY * self.training.log_every) == 0 and distributed.is_main():
            self._collapse.look(self.ema_method, batch, step + 1)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {"loss": losses["loss"].detach()}

    def _prepare(self, raw: Mapping[str, Any], step: int) -> Batch:
        tensors = {k: v.to(self.device, non_blocking=True) for k, v in raw.items() if isinstance(v, Tensor)}
        images, maps = tensors["image"], {}
        if "scores" in tensors:
            maps["scores"] = _unit_scores(tensors["scores"])
        if "labels" in tensors:
            maps["labels"] = tensors["labels"].long()
        if self._augment is not None:
            generator = step_generator(self.seed, step, distributed.rank(), self.device)
            images, maps = self._augment(images, maps, generator)
        images = images.contiguous(memory_format=self._layout)
        index = torch.tensor(raw["index"]).to(self.device, non_blocking=True)
        return Batch(images, tensors["tags"], index=index, exact=tensors.get("exact"), **maps)

    def _update_weights(self) -> None:
        if self.training.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.training.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.average.update()

    def _after_step(self, engine: SupervisedTrainer) -> None:
        self.step = engine.state.iteration
        settings, last = self.training, self.step == self.training.iterations
        self._monitor.advance(self.step)
        validates = last or self.step % settings.validate_every == 0
        crosses = self.step in self._boundaries and not last
        stops = self._stops(last)
        saves = validates or crosses or stops or self.step % settings.checkpoint_every == 0
        logs = validates or stops or self.step % settings.log_every == 0
        if saves or logs:
            self._check_folder()
        if logs:
            self._log()
        if last:
            self._divergence.check()
        if validates:
            self._validate()
        if crosses:
            self._cross_boundary(self.step)
        if last:
            self._collapse.report()
        if last and not (settings.keep_best_by == "dice" and self.best is not None):
            self._save(self.best_path)
        # After a boundary, so that the labels of the checkpoint's step are always on disk before it is.
        if saves:
            self._save(self.last_path)
        if stops:
            raise Interrupted(self.step, int(self._stop.signal_number or 0))

    def _check_folder(self) -> None:
        """Stop where the run folder was removed meanwhile: what is written now would be no run."""
        if self._begun_in_run and not RunFiles(self.run_dir).config.is_file():
            raise UserError("was removed while the training ran", self.run_dir, "Train again, and leave it alone")

    def _stops(self, last: bool) -> bool:
        if last:
            return False
        if not distributed.active():
            return bool(self._stop)
        # Processes must agree; asking each other every step would cost more than stopping a little later.
        if self.step % self.training.log_every:
            return False
        signals = distributed.largest(int(self._stop.signal_number or 0), self.device)
        if signals:
            self._stop.set(signals)
        return bool(signals)

    def _log(self) -> None:
        rows = self._watch.read()
        self._means.add(rows)
        self._divergence.look(rows, self.step)
        if rows:
            interval = RunningMeans()
            interval.add(rows)
            self._monitor.losses(self.step, interval.means(), self.optimizer.param_groups[0]["lr"])

    def _validate(self) -> None:
        distributed.broadcast_buffers(self.ema_method)  # each process has its own batch-norm statistics
        try:
            scores = dict(self._validation(self.ema_method, self.step)) if self._validation is not None else {}
        except UserError:  # such as probabilities that are not finite
            self._divergence.check()
            raise
        row: dict[str, float | int | None] = dict(self._means.means())
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self._monitor.row(self.step, {**row, **scores})
        self._means.clear()
        key = scores.get("val_dice", math.nan)
        if self.training.keep_best_by == "dice" and key > (-math.inf if self.best is None else self.best):
            self.best = float(key)
            self._save(self.best_path)

    def _cross_boundary(self, step: int) -> None:
        if distributed.is_main():
            self._boundaries[step](self.ema_method)
        distributed.barrier()
        if not distributed.is_main() and self._restore is not None:
            self._restore(step)
        if self._restarts:
            load_weights(self.method, load_checkpoint(self._start_path, ("model",))["model"], self._start_path)
            self.optimizer.state.clear()
            self.restart_average()

    def _prepare_optimiser(self) -> None:
        settings = self.training
        groups = self.method.parameter_groups(settings.learning_rate, settings.weight_decay)
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=fused)
        starts = self._boundaries if self._restarts else ()
        factor = restarted_factor(settings.schedule, settings.iterations, settings.warmup, starts)
        self.scheduler = rate_scheduler(self.optimizer, factor)
        self._half = half_precision(self.device) if settings.amp else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._half == torch.float16)

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._half is None else torch.autocast(self.device.type, self._half)

    def _save(self, path: Path) -> None:
        self._means.add(self._watch.read())  # a state whose losses were not finite must not be kept
        if not distributed.is_main():
            return
        state = {
            "model": self.method.state_dict(),
            "ema": self.ema_method.state_dict(),
            "ema_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "best": self.best,
            "means": self._means.state(),
            "first_loss": self._divergence.first,
            "precision": type_name(self._half),
        }
        save_checkpoint({**state, **self._metadata}, path)

    def _load(self) -> None:
        state = load_checkpoint(self.last_path, _STATE_KEYS)
        require_own(state, self._metadata, self.last_path)
        if self.device.type == "cpu":
            # As the run began, not as the timing of today comes out; checkpoints that do not say are of float32.
            self._half = torch.bfloat16 if state.get("precision") == "bfloat16" else None
        load_weights(self.method, state["model"], self.last_path)
        load_weights(self.ema_method, state["ema"], self.last_path)
        try:
            self.average.updates = state["ema_updates"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.scaler.load_state_dict(state["scaler"])
            self._means.load(state["means"])
            self._divergence.first = state.get("first_loss")  # not in checkpoints of earlier versions
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            what = f"the state of the training in it cannot be used ({type(error).__name__}: {error})"
            raise UserError(what, self.last_path, "Train again with another --output") from error
        self.step, self.best = state["step"], state["best"]

    def _replace_damaged_best(self) -> None:
        """Go on without the best weights so far where their file is damaged; those of a finished run are the last."""
        if not self.best_path.is_file():
            return
        try:
            load_checkpoint(self.best_path, ("model", "ema"))
        except UserError as error:
            _LOG.warning("%s; it is written again from last.pt, or from what is trained now", error)
            self.best = None
            if self.step == self.training.iterations:
                self._save(self.best_path)

    def _memory_error(self, error: BaseException) -> UserError:
        what = f"out of memory on {self.device} at step {self.step}: {str(error).splitlines()[0] if str(error) else ''}"
        return UserError(what.rstrip(": "), remedy=_MEMORY_REMEDY.format(self.training.batch_size))


def _unit_scores(scores: Tensor) -> Tensor:
    return scores.float() / 255 if scores.dtype == torch.uint8 else scores
