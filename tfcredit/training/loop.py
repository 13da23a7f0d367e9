"""The loop over steps and epochs: checkpoints, evaluation, callbacks, the signal to stop."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras

from tfcredit.callbacks import EpochTable
from tfcredit.data import ImageData, Shard
from tfcredit.errors import NotFiniteError, UserError
from tfcredit.training.checkpoints import Checkpoints
from tfcredit.training.diagnosis import diagnose
from tfcredit.training.plan import Plan
from tfcredit.training.progress import Progress
from tfcredit.training.progress_line import ProgressLine
from tfcredit.training.step_table import StepTable
from tfcredit.training.strategies import Cluster
from tfcredit.training.trainer import Trainer

SMALLEST_SCALE = 2.0**-10
"""Of the loss under float16: if gradients are not finite at this one, no smaller one helps."""


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What the chief tells beside callbacks.

    Attributes:
        epochs: The table of epochs, which is a callback too.
        steps: The table of steps within epochs.
        line: What is printed, a callback too.
    """

    epochs: EpochTable
    steps: StepTable
    line: ProgressLine


class Loop:
    """Trains to the end of a recipe, from wherever the checkpoint stands.

    Args:
        plan: Of the run.
        trainer: Takes the steps.
        checkpoints: Keeps all state; restored already.
        cluster: Where to compute.
        progress: Counts the time.
        stop: Tells if this process is asked to stop; called between steps.
        rows: The table of epochs as earlier starts of the run left it.
        outputs: Tables and line; `None` in workers that write nothing.

    Attributes:
        step: Optimizer steps taken, those included that a loss scale skipped.
    """

    def __init__(
        self,
        plan: Plan,
        trainer: Trainer,
        checkpoints: Checkpoints,
        cluster: Cluster,
        progress: Progress,
        stop: Callable[[], bool],
        rows: Sequence[Mapping[str, float]] = (),
        outputs: Outputs | None = None,
    ):
        self.outputs = outputs
        self.plan = plan
        self.recipe = plan.recipe
        self.trainer = trainer
        self.checkpoints = checkpoints
        self.cluster = cluster
        self.progress = progress
        self.stop = stop
        self.step = 0
        self.total_steps = plan.total_steps
        self.epoch_steps = plan.steps_per_epoch
        self.epochs = -(-self.total_steps // self.epoch_steps)
        self.results: dict[str, float] | None = None
        self.epochs_closed = max([0, *(row["epoch"] for row in rows)])
        self.part = judging_part(plan.images)
        column = f"{self.part}_top1"
        evaluated = [(row[column], row["step"]) for row in rows if column in row and row["step"]]
        self._evaluated_steps = {step for _, step in evaluated}
        # Of equal ones the first.
        self.best = max(evaluated, key=lambda found: (found[0], -found[1]), default=(-1.0, 0))
        self._trained_epoch = None
        self._saved_at = time.monotonic()

    def fit(self, step: int, callbacks: keras.callbacks.CallbackList) -> int:
        """Train from `step` on.

        Args:
            step: Optimizer steps taken before.
            callbacks: Called at batches and epochs, as by `keras.Model.fit`.

        Returns:
            The step reached: the last one (see `ended`), or an earlier one if asked to stop; it is
            checkpointed.

        Raises:
            NotFiniteError: A step was not finite; names layer and step.
            UserError: The table of epochs is lost, and with it the top-1 of the best state.
        """
        # Epochs before the last one that ended have been closed, even if their rows were lost.
        self.epochs_closed = max(self.epochs_closed, (step - 1) // self.epoch_steps)
        self.step = step
        self._recall_best(step)
        callbacks.on_train_begin()
        if self.recipe.evaluate_first and step == 0 and not self._evaluate_start():
            return step
        while not self.ended(step):
            if not self._closed(step):
                if not self._close_epoch(step, callbacks):
                    return step
                continue
            step, stopped = self._train_epoch(step, callbacks)
            if stopped:
                return step  # not the end: what callbacks do there would not be of this step
        callbacks.on_train_end()
        return step

    def _recall_best(self, step: int) -> None:
        """Take the best top-1 from beside its checkpoint if its row of the table is lost."""
        found = self.checkpoints.best()
        if found is None or self.recipe.mode != "train_and_evaluate":
            return
        top1, best = found
        # Steps beyond this one were undone, and an epoch without a row is evaluated again.
        if best in self._evaluated_steps or best > step or not self._closed(best):
            return
        if top1 is None:
            raise UserError(
                f"the table of epochs lacks the row of step {best}, whose state is the best and "
                f"lies in {self.checkpoints.folder / 'best'}, so its top-1 is not known: put "
                "metrics.csv back, or move that folder away to find a new best from here on."
            )
        self.best = max(self.best, (top1, best), key=lambda one: (one[0], -one[1]))

    def ended(self, step: int) -> bool:
        """True if training ends at a step: all steps are taken, or top-1 has not risen for long.

        Args:
            step: Steps taken.

        Returns:
            Whether no more steps follow, and the last epoch has been evaluated and written.
        """
        return self._closed(step) and (step == self.total_steps or self.stops_early(step))

    def stops_early(self, step: int) -> bool:
        """True if `--early_stopping` ends the run at a step, which is the end of an epoch.

        Args:
            step: Steps taken.

        Returns:
            Whether as many epochs as the flag says have brought no better top-1.
        """
        patience, best = self.recipe.early_stopping, self.best[1]
        if patience is None or not best or step % self.epoch_steps:
            return False
        return step // self.epoch_steps - best // self.epoch_steps >= patience

    def _closed(self, step: int) -> bool:
        """True if the epochs that end at or before `step` have been evaluated and written."""
        ended = self.epochs if step == self.total_steps else step // self.epoch_steps
        return self.epochs_closed >= ended

    def _train_epoch(self, step: int, callbacks) -> tuple[int, bool]:
        """Take the steps up to the end of the epoch, and save there."""
        epoch, place = divmod(step, self.epoch_steps)
        end = min((epoch + 1) * self.epoch_steps, self.total_steps)
        callbacks.on_epoch_begin(epoch)
        self._trained_epoch = epoch
        skipped = self.trainer.skipped(step)
        if place == 0:
            self.trainer.reset()
        batches = iter(self.cluster.distribute(self._dataset_from(epoch, place)))
        self.progress.begin(is_new=place == 0)
        while step < end:
            count = self._steps_until_pause(step, end)
            callbacks.on_train_batch_begin(place)
            wishes = self.stop(), self._is_time()
            good, stop, save = self.trainer.run(batches, count, *wishes, first=step)
            if good < count or self.trainer.loss_scale < SMALLEST_SCALE:
                self._stop_at(step + min(good, count - 1))
            self.step = step = step + count
            place += count
            self.progress.count(count)
            logs = self.trainer.results() if step // 10 > (step - count) // 10 else {}
            callbacks.on_train_batch_end(place - 1, logs)
            every = self.recipe.log_every_steps
            if every is not None and step % every == 0:
                self._log(step)
            if stop or save or step == end or step % self.recipe.checkpoint_every_steps == 0:
                self._save(step)
            if stop:
                return step, True
        self._tell_skipped(self.trainer.skipped(step) - skipped, epoch)
        return step, False

    def _log(self, step: int) -> None:
        """Write the row of some steps within an epoch, and tell of them."""
        so_far = self.trainer.results()  # of all workers
        if self.outputs is None:
            return
        row = {
            "epoch": -(-step // self.epoch_steps),
            "step": step,
            **self.outputs.steps.means(step, so_far),
            **self._rates(step),
            "images_per_second": self._images_per_second(self.progress.speed()),
        }
        self.outputs.steps.write(row)
        self.outputs.line.on_log(row)

    def _rates(self, step: int) -> dict[str, float]:
        """What schedules give after a step."""
        rates = learning_rates(self.trainer.network.optimizer)
        return rates | self.plan.rates.coefficients_at(step)

    def _images_per_second(self, steps_per_second: float | None) -> float | None:
        return None if steps_per_second is None else steps_per_second * self.recipe.batch_size

    def _tell_skipped(self, count: int, epoch: int) -> None:
        if count and self.cluster.is_chief:
            print(
                f"float16: {count} steps of epoch {epoch + 1} were skipped, as their gradients "
                f"were not finite; the loss scale is {self.trainer.loss_scale:g} now.",
                flush=True,
            )

    def _dataset_from(self, epoch: int, place: int) -> Callable:
        """The batches of an epoch from one of its steps on, as `Cluster.distribute` wants them."""

        def dataset(host: int, hosts: int, replicas: int):
            shard = Shard(host, hosts, replicas * self.recipe.accumulation_steps)
            recipe = self.recipe
            return self.plan.images.train(recipe.batch_size, recipe.seed, epoch, place, shard)

        return dataset

    def _steps_until_pause(self, step: int, end: int) -> int:
        most = min(self.recipe.steps_per_execution, end - step)
        for every in (self.recipe.checkpoint_every_steps, self.recipe.log_every_steps):
            if every is not None:
                most = min(most, every - step % every)
        return most

    def _is_time(self) -> bool:
        minutes = self.recipe.checkpoint_every_minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def _save(self, step: int) -> None:
        self.progress.note(step, self.checkpoints.steps())
        self.checkpoints.save(step)
        self._saved_at = time.monotonic()

    def _close_epoch(self, step: int, callbacks) -> bool:
        """Evaluate, write the epoch's row, keep the best; False if asked to stop meanwhile."""
        logs = {"step": step, **self.trainer.results()}
        epoch = -(-step // self.epoch_steps) - 1
        speed = self._images_per_second(self.progress.end())
        if speed is not None:
            logs["images_per_second"] = speed
        if self._trained_epoch != epoch:  # an earlier start trained it
            callbacks.on_epoch_begin(epoch)
        if self.recipe.mode == "train_and_evaluate":
            with self.trainer.averaged():
                self.results = self._evaluated()
                if self.results is None:
                    return False
                if self.results["top1"] > self.best[0]:
                    self.best = self.results["top1"], step
                    self.checkpoints.save_best(step, self.best[0])
            logs |= {f"{self.part}_{name}": value for name, value in self.results.items()}
        logs |= self._rates(step)
        callbacks.on_epoch_end(epoch, logs)  # writes the row, which makes the epoch closed
        self.epochs_closed = epoch + 1
        return True

    def _evaluate_start(self) -> bool:
        """Evaluate before the first step; False if asked to stop meanwhile."""
        results = self._evaluated()
        if results is not None and self.outputs is not None:
            row = {f"{self.part}_{name}": value for name, value in results.items()}
            self.outputs.epochs.write({"epoch": 0, "step": 0, **row})
            self.outputs.line.on_start(row)
        return results is not None

    def _evaluated(self) -> dict[str, float] | None:
        return evaluate(self.trainer, self.plan, self.cluster, self.stop, part=self.part)

    def _stop_at(self, step: int):
        """End the run at a step that was not finite, saying where it went wrong."""
        epoch, place = divmod(step, self.epoch_steps)
        cluster = self.cluster
        pieces = cluster.replicas // max(1, len(cluster.workers))
        hosts = max(1, len(cluster.workers))
        dataset = self._dataset_from(epoch, place)(cluster.index, hosts, pieces)
        where = diagnose(self.trainer, dataset.take(pieces * self.recipe.accumulation_steps))
        raise NotFiniteError(
            f"loss or gradients were not finite at step {step + 1}: {where}. Training stopped; the "
            f"last good checkpoint is {self.checkpoints.latest or 'none yet'}. Lower "
            "--learning_rate or the rule's coefficients."
        )


def judging_part(images: ImageData) -> str:
    """The images by which a run is judged while it trains.

    Args:
        images: The images.

    Returns:
        "validation" if there are validation images, else "test".
    """
    return "validation" if images.validation_examples else "test"


def evaluate(
    trainer: Trainer,
    plan: Plan,
    cluster: Cluster,
    stop: Callable[[], bool] = lambda: False,
    part: str = "test",
) -> dict[str, float] | None:
    """Evaluate a network on every test or validation image once.

    Args:
        trainer: Of the network.
        plan: Of the run.
        cluster: Where to compute.
        stop: Tells if this process is asked to stop. Several workers do not ask it, as all of them
            would have to agree: they evaluate to the end.
        part: "test" or "validation".

    Returns:
        Cross entropy `loss`, `top1` and `top5`; `None` if asked to stop.
    """

    def dataset(host: int, hosts: int, replicas: int):
        images, recipe = plan.images, plan.recipe
        batches = images.validation if part == "validation" else images.evaluation
        size = recipe.evaluation_batch_size or recipe.batch_size
        return batches(size, Shard(host, hosts, replicas))

    stopped = False

    def batches() -> Iterable:
        nonlocal stopped
        for batch in cluster.distribute(dataset):
            if not cluster.workers and stop():
                stopped = True
                return
            yield batch

    results = trainer.evaluate(batches())
    return None if stopped else results


def learning_rates(optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """Read the learning rates of the forward weights and of the feedback kernels.

    Args:
        optimizer: Of the network.

    Returns:
        `learning_rate` and, if the feedback kernels have an optimizer, `feedback_learning_rate`.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    optimizer = getattr(optimizer, "inner", optimizer)  # of noisy updates
    named = {"learning_rate": optimizer}
    if hasattr(optimizer, "feedback"):
        named["feedback_learning_rate"] = optimizer.feedback
    return {
        name: float(keras.ops.convert_to_numpy(one.learning_rate)) for name, one in named.items()
    }
