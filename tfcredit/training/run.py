"""A run of a recipe: train, evaluate or export a network in its directory."""

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfcredit import data as datasets
from tfcredit.analysis import alignment, feedback_layers
from tfcredit.callbacks import AlignmentMonitor, EpochTable, MeasureMonitor
from tfcredit.convert.states import refresh
from tfcredit.environment import environment
from tfcredit.errors import NotFiniteError, UserError
from tfcredit.interrupt import StopSignal
from tfcredit.training import freezing, strategies
from tfcredit.training import tensorboard as board
from tfcredit.training.checkpoints import Checkpoints, newest
from tfcredit.training.flags import of_scope
from tfcredit.training.imports import import_own
from tfcredit.training.initial import start_from
from tfcredit.training.known_images import described, stand_in
from tfcredit.training.loop import Loop, Outputs, evaluate
from tfcredit.training.plan import Plan
from tfcredit.training.progress import Progress
from tfcredit.training.progress_line import ProgressLine
from tfcredit.training.recipe import Recipe
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.step_table import StepTable
from tfcredit.training.strategies import Cluster
from tfcredit.training.trainer import Trainer

COLUMNS = ("epoch", "step", "loss", "top1", "top5", "images_per_second")
WATCH_SECONDS = 2.0
"""The pause between two looks of `--mode=evaluate` for a new checkpoint."""


class Run:
    """One run of a recipe in its directory.

    Args:
        recipe: The recipe; what it leaves open is chosen by data set and rule.
        callbacks: Of the chief, called after those of the run, so that the table has the epoch.
        given: Names of the flags that were given, where a run is evaluated or exported: it has
            flags of its own. Default: those that differ from their defaults.
        images: Images that were given in Python. Default: those of --dataset.
        network: See `Plan.of`.

    Raises:
        UserError: Anything about the recipe, the data or the directory that the user can mend.
    """

    def __init__(
        self,
        recipe: Recipe,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        given: Collection[str] | None = None,
        images: datasets.ImageData | None = None,
        network: keras.Model | Callable | None = None,
    ):
        self.callbacks = callbacks
        if recipe.mode in ("evaluate", "export"):
            directory = RunDirectory.of(recipe)
            recipe = directory.recipe_to_use(recipe, given)
            if recipe.mode == "export":  # without images, where what is known of them is enough
                images = stand_in(directory.known_images())
        import_own(recipe.import_)
        self.cluster = Cluster(strategies.make(recipe))
        self.plan = Plan.of(recipe, images, network)
        self.recipe = self.plan.recipe
        self.cluster.check(self.recipe)
        self.directory = RunDirectory.of(self.recipe)

    def check(self) -> None:
        """Build the network, and write nothing.

        Raises:
            UserError: It can't be built.
        """
        self._initialized(self._build())

    def train(self, stop: StopSignal | None = None) -> dict | None:
        """Train to the end.

        Args:
            stop: Tells if the process is asked to stop. Default: watched from here on.

        Returns:
            The summary, or `None` if SIGTERM, SIGHUP or Ctrl-C ended it before.

        Raises:
            UserError: The run can't go on; what was saved is intact.
        """
        if stop is None:
            with StopSignal() as stop:
                return self.train(stop)
        with self._explained():
            self._announce()
            if self.cluster.is_chief:
                self.directory.check(self.recipe)
            trainer = self._build()  # errors of the network first, before any file
            if self.cluster.is_chief:
                self._announce_network(trainer.network)
            self._initialized(trainer)
            if stop.asked and not self.cluster.workers:  # several workers agree on it in a step
                return self._stopped(stop, "before its first step")
            with self.directory.locked(self.cluster.is_chief):
                return self._train(trainer, stop)

    def _initialized(self, trainer: Trainer) -> None:
        """Give the network the weights that it starts from, unless it continues."""
        recipe, checkpoints = self.recipe, self.directory.checkpoints
        continues = newest(checkpoints) is not None and not recipe.overwrite
        if recipe.initial_weights is not None and not continues:
            path, drop = Path(recipe.initial_weights), recipe.initial_head == "drop"
            told = start_from(trainer.network, path, drop, self.plan.network)
            if self.cluster.is_chief:
                print(told, flush=True)
        trainer.start_averages()

    def _stopped(self, stop: StopSignal, when: str) -> None:
        by = stop.by or "a signal to another worker"
        print(f"Stopped by {by} {when}; start with --resume=auto to continue.", flush=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn TensorFlow's errors about damaged data and lost workers into a user's."""
        try:
            yield
        except tf.errors.OpError as problem:
            known = datasets.failure(problem) or self.cluster.lost(problem)
            if known is None:
                raise
            raise known from None

    def _check_alike(self) -> None:
        """Refuse workers that have other flags or images than the others."""
        recipe, images = self.recipe, self.plan.images
        flags = {name: getattr(recipe, name) for name in of_scope(recipe, "run")}
        if not self.cluster.agree(repr((flags, described(images), images.class_names))):
            raise UserError(
                f"worker {self.cluster.index} has other flags or other images than the "
                "other workers: give all of them the same command and the same images, or "
                "--strategy=one_device to tasks that are runs of their own."
            )

    def _train(self, trainer: Trainer, stop: StopSignal) -> dict | None:
        self._check_alike()
        if self.cluster.is_chief:
            self.directory.prepare(self.recipe)
            self.directory.keep_images(self.plan.images)
        self.cluster.barrier()  # the others wait until the chief has prepared the directory
        checkpoints = self._checkpoints(trainer)
        restored = _restored(trainer, checkpoints)
        step = restored or 0
        if not self.cluster.agree(f"step {step}"):
            raise UserError(
                f"worker {self.cluster.index} finds step {step} in {self.directory.path}, others "
                "find another one: give a --run_dir that all workers share."
            )
        if restored is None:
            self._check_unlost(checkpoints)
            checkpoints.save(0)  # before rows and events, which without it are of a lost run
        else:
            self._check_within(step, checkpoints)
            print(f"Continuing at step {step} from {checkpoints.latest}", flush=True)
        summary = self.directory.finished(step)
        if summary is not None and (step == self.plan.total_steps or "stopped_early" in summary):
            self._end_progress()  # a kill may have come right before
            return summary
        with self.directory.writing():
            return self._continue(trainer, checkpoints, step, stop)

    def _end_progress(self) -> None:
        if self.cluster.is_chief:
            self.directory.progress.unlink(missing_ok=True)

    def _check_within(self, step: int, checkpoints: Checkpoints) -> None:
        total = self.plan.total_steps
        if step > total:
            raise UserError(
                f"{checkpoints.latest} is of a longer run, as this one ends at step {total}: give "
                "the flags and the images of that run, or another --run_dir; nothing was touched."
            )

    def _check_unlost(self, checkpoints: Checkpoints) -> None:
        self.cluster.barrier()  # the chief's first checkpoint is not to be seen by the others
        if self.cluster.is_chief:
            self.directory.check_fresh(checkpoints.leftovers())
        if self.recipe.resume == "must":
            raise UserError(
                f"{self.directory.checkpoints} holds no checkpoint: use --resume=auto to start the "
                "run anew."
            )

    def _continue(
        self, trainer: Trainer, checkpoints: Checkpoints, step: int, stop: StopSignal
    ) -> dict | None:
        """Train from a step on, and finish."""
        directory = self.directory
        progress, rows = Progress(directory, step, self.cluster.is_chief), directory.rows(step)
        directory.measured(step)  # errors of tables before anything is written
        outputs = None
        if self.cluster.is_chief:
            logged = directory.logged(step)
            checkpoints.sweep()
            directory.sweep()
            directory.diverged.unlink(missing_ok=True)
            board.purge(directory, rows, logged, step)
            if not step:
                scheduled = bool(self.plan.rates.coefficients)
                board.write_start(directory.tensorboard, self.recipe, scheduled)
            outputs = self._outputs(trainer.network, progress, logged)

        loop = Loop(
            *(self.plan, trainer, checkpoints, self.cluster, progress, lambda: stop.asked),
            *(rows, outputs),
        )
        try:
            reached = loop.fit(step, self._callbacks(trainer.network, loop, step))
        except NotFiniteError as problem:
            if self.cluster.is_chief:
                directory.write(directory.diverged, f"{problem}\n")
            raise
        with trainer.averaged():
            results = None
            if loop.ended(reached) and not stop.asked:
                results = self._results(trainer, loop, stop)
            if results is None:
                where = f"at step {reached}: the checkpoint is {checkpoints.latest}"
                return self._stopped(stop, where)
            if loop.best[1]:
                results = {**results, "best_top1": loop.best[0], "best_step": loop.best[1]}
            if reached < self.plan.total_steps:
                self._tell_early(reached, loop)
                results = {**results, "stopped_early": True}
            results = {**results, "step": reached}
            return self._finish(trainer.network, results, progress.seconds)

    def _tell_early(self, step: int, loop: Loop) -> None:
        if self.cluster.is_chief:
            top1, best = loop.best
            print(
                f"Stopped early at step {step} of {self.plan.total_steps}: {loop.part} top-1 has "
                f"not risen above {top1:.4f} since step {best}, whose state is in "
                f"{self.directory.checkpoints / 'best'}.",
                flush=True,
            )

    def _outputs(
        self, network: keras.Model, progress: Progress, logged: Sequence[Mapping[str, float]]
    ) -> Outputs:
        """Tables and line of the chief."""
        directory, plan = self.directory, self.plan
        total, epoch = plan.total_steps, plan.steps_per_epoch
        return Outputs(
            EpochTable(directory.metrics, directory.tensorboard, COLUMNS),
            StepTable(directory, logged, epoch, self.recipe.alignment_every),
            ProgressLine(total, epoch, progress.seconds_left, lambda: _mean_angle(network)),
        )

    def _results(self, trainer: Trainer, loop: Loop, stop: StopSignal) -> dict | None:
        """Results of the trained network; test images are seen here first if others judge it."""
        evaluated = functools.partial(
            evaluate, trainer, self.plan, self.cluster, lambda: stop.asked
        )
        judged = loop.results or evaluated(part=loop.part)
        if loop.part == "test" or judged is None:
            return judged
        results = {**judged, "part": loop.part}  # of a folder without test images
        if self.plan.images.test_examples:
            results = evaluated()
            if results is None:
                return None
        return results | {f"{loop.part}_{name}": value for name, value in judged.items()}

    def _finish(self, network: keras.Model, results: dict, seconds: float) -> dict:
        """Write what a finished run leaves behind; the summary last, which says that all is."""
        summary = self._summary(network, results, seconds)
        if self.cluster.is_chief:
            seen = self.recipe.mode == "train_and_evaluate" and "validation_top1" not in results
            if not seen and "part" not in results:  # else the last epoch's row has them
                board.write_end(self.directory.tensorboard, results["step"], results)
            self.directory.save_model(network)
            self.directory.write_json(self.directory.summary, summary)
        self._end_progress()
        self.cluster.barrier()  # no worker leaves while another still needs it
        return summary

    def evaluate(self) -> Iterator[dict[str, float]]:
        """Evaluate the newest checkpoint, and each one that comes while the run trains.

        Yields:
            Test top-1, top-5, loss and the step of a checkpoint.

        Raises:
            UserError: There is no checkpoint, or the images are not of the run's classes.
        """
        self.directory.check_classes(self.plan.images.class_names)
        if not self.plan.images.test_examples:  # else others than the run's would be held out
            self.directory.check_images(self.plan.images)
        trainer = self._build()
        checkpoints = self._checkpoints(trainer)
        seen, done = {}, None
        while True:
            training = self.directory.is_locked()  # asked first: no checkpoint comes after it
            found = checkpoints.times()
            if found.keys() - seen.keys() or any(found[one] != seen[one] for one in found):
                seen, step = found, _restored(trainer, checkpoints)
                if step is not None and (step, found.get(step)) != done:
                    done = step, found.get(step)
                    with trainer.averaged():
                        results = self._evaluate(trainer)
                    yield {"step": step, **results}
            elif not training:
                break
            else:
                time.sleep(WATCH_SECONDS)
        if done is None:
            raise UserError(f"{self.directory.checkpoints} holds no checkpoint to evaluate.")

    def export(self) -> dict[str, str]:
        """Write the newest checkpoint's network as files that others use.

        Returns:
            What was written: kind -> path.

        Raises:
            UserError: There is no checkpoint, or the folder can't be written.
        """
        trainer = self._build()
        checkpoints = self._checkpoints(trainer)
        if _restored(trainer, checkpoints) is None:
            raise UserError(f"{self.directory.checkpoints} holds no checkpoint to export.")
        with trainer.averaged():
            return self.directory.export(trainer.network)

    def _evaluate(self, trainer: Trainer) -> dict[str, float]:
        part = "test" if self.plan.images.test_examples else "validation"
        with self._explained():
            results = evaluate(trainer, self.plan, self.cluster, part=part)
        return results if part == "test" else {**results, "part": part}

    def _build(self) -> Trainer:
        recipe = self.recipe
        keras.utils.set_random_seed(recipe.seed)
        if recipe.deterministic:
            tf.config.experimental.enable_op_determinism()
        with self.cluster.strategy.scope():
            network = self.plan.network()
            network.compile(
                self.plan.optimizer(),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
            )
            return Trainer(
                network,
                self.plan.rates.task,
                recipe.jit_compile,
                self.cluster.strategy,
                recipe.accumulation_steps,
                recipe.alignment_every,
                recipe.label_smoothing or 0.0,
            )

    def _checkpoints(self, trainer: Trainer) -> Checkpoints:
        folder, keep = self.directory.checkpoints, self.recipe.keep
        return Checkpoints(folder, trainer.state, keep, self.cluster.is_chief)

    def _callbacks(
        self, network: keras.Model, loop: Loop, step: int
    ) -> keras.callbacks.CallbackList:
        """The chief's callbacks; other workers only measure, and write nothing."""
        chief, recipe, callbacks = self.cluster.is_chief, self.recipe, []
        folder = self.directory.tensorboard if chief else None
        data = self.plan.images

        def steps(_) -> int:
            return loop.step

        examples, batches = data.test_examples, data.evaluation
        if loop.part == "validation":
            examples, batches = data.validation_examples, data.validation
        batch = next(iter(batches(min(64, examples))))
        images, labels = batch[:2]
        if chief:
            callbacks = [
                AlignmentMonitor(
                    folder, images, recipe.histograms, not recipe.measures, step == 0, steps
                ),
                loop.outputs.epochs,
                loop.outputs.line,
                *self.callbacks,
            ]
        if recipe.measures:
            # On all workers: while the chief alone traced, the others would give it up for lost.
            every, table = recipe.measure_every_steps, self.directory.measures if chief else None
            callbacks.append(
                MeasureMonitor(images, labels, folder, every, table=table, steps=steps)
            )
        return keras.callbacks.CallbackList(
            callbacks,
            model=network,
            epochs=loop.epochs,
            steps=min(self.plan.steps_per_epoch, self.plan.total_steps),
        )

    def _announce(self) -> None:
        recipe, plan, cluster = self.recipe, self.plan, self.cluster
        parts = cluster.replicas * recipe.accumulation_steps
        if not cluster.is_chief:
            print(f"Worker {cluster.index} of {len(cluster.workers)}", flush=True)
            return
        print(f"Data: {plan.images.chosen_because}")
        print(
            f"Training {recipe.model} with rule {plan.rule!r} for {plan.total_steps} steps of "
            f"{recipe.batch_size} images ({plan.steps_per_epoch} steps an epoch)"
        )
        print(
            f"Devices: {cluster.replicas} with {recipe.batch_size // parts} images each"
            + (f", {recipe.accumulation_steps} times a step" if parts > cluster.replicas else "")
        )
        print(f"Run directory: {self.directory.path}", flush=True)

    def _announce_network(self, network: keras.Model) -> None:
        if self.plan.own is not None:
            print(self.plan.own.told(network), flush=True)
        if not (self.recipe.trainable is None and self.recipe.bn_trainable is None):
            print(freezing.told(network), flush=True)

    def _summary(self, network: keras.Model, results: dict, seconds: float) -> dict:
        angles = _angles(network)
        return {
            **results,
            "mean_angle": _mean_angle(network),
            "angles": angles,
            "rule": self.plan.rule.name,
            "model": self.recipe.model,
            "parameters": network.count_params(),
            "dataset": self.plan.images.name,
            "data": self.plan.images.chosen_because,
            "seed": self.recipe.seed,
            "replicas": self.cluster.replicas,
            "seconds": round(seconds, 1),
            "flags": self.recipe.flagfile().splitlines(),
            **environment(),
        }


def _restored(trainer: Trainer, checkpoints: Checkpoints) -> int | None:
    """The step of the newest whole checkpoint, which the network then computes with."""
    step = checkpoints.restore()
    refresh(trainer.network)
    return step


def _angles(network: keras.Model) -> dict[str, float]:
    """Layer -> angle of W and B in degrees."""
    records = alignment(network) if feedback_layers(network) else []
    return {record["layer"]: record["angle"] for record in records}


def _mean_angle(network: keras.Model) -> float | None:
    """The mean of these angles; `None` without feedback kernels."""
    angles = _angles(network)
    return float(np.mean(list(angles.values()))) if angles else None
