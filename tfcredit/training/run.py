"""A run: its parts put together, the loop over epochs, what is written at the end."""

import os
import platform
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import tfcredit
from tfcredit import data as datasets
from tfcredit.analysis import alignment
from tfcredit.callbacks import AlignmentMonitor, EpochTable
from tfcredit.errors import UserError
from tfcredit.training import assemble
from tfcredit.training.checkpoints import Checkpoints
from tfcredit.training.recipe import Recipe
from tfcredit.training.rundir import RunDirectory
from tfcredit.training.trainer import Trainer

COLUMNS = ("epoch", "step", "loss", "top1", "top5", "images_per_second")


class Run:
    """One run of a recipe in its directory.

    Args:
        recipe: The recipe; what it leaves open is chosen by data set and rule.

    Raises:
        UserError: Anything about the recipe, the data or the directory that the user can mend.
    """

    def __init__(self, recipe: Recipe):
        if recipe.num_replicas != 1:
            raise UserError(
                f"--num_replicas={recipe.num_replicas}: this version trains on one device; leave "
                "the flag out."
            )
        wanted = (recipe.dataset, recipe.data_dir)
        self.recipe = recipe = assemble.complete(recipe, datasets.get(*wanted))
        self.data = datasets.get(*wanted, augment=recipe.augment)
        self.steps_per_epoch = self.data.steps_per_epoch(recipe.batch_size)
        self.total_steps = assemble.total_steps(recipe, self.steps_per_epoch)
        assemble.rule_of(recipe, self.steps_per_epoch)  # errors first, before any file
        self.directory = RunDirectory.of(recipe)
        if recipe.mode == "evaluate" and not self.directory.holds_run():
            raise UserError(
                f"{self.directory.path} holds no run to evaluate: give the --run_dir of one."
            )

    def train(self) -> dict:
        """Train to the end, evaluating after each epoch; returns the summary."""
        recipe = self.recipe
        self._announce()
        network = self._build()
        trainer, checkpoints = self._parts(network, continues=self.directory.prepare(recipe))
        step = checkpoints.restore()
        if step:
            print(f"Continuing at step {step} from {checkpoints.latest}", flush=True)
        started = time.time()
        try:
            self._fit(trainer, checkpoints, step)
            network.save(self.directory.model)
        except OSError as problem:
            raise self.directory.unwritable(problem) from None
        results = trainer.evaluate(self.data.evaluation(recipe.batch_size))
        summary = self._summary(network, results, time.time() - started)
        self.directory.write_json(self.directory.summary, summary)
        self._write_hparams(results)
        return summary

    def evaluate(self) -> dict:
        """Evaluate the newest checkpoint of the run; returns top-1, top-5, loss and step."""
        network = self._build()
        trainer, checkpoints = self._parts(network, continues=True)
        step = checkpoints.restore()
        if not step:
            raise UserError(f"{self.directory.checkpoints} holds no checkpoint to evaluate.")
        results = trainer.evaluate(self.data.evaluation(self.recipe.batch_size))
        return {**results, "step": step}

    def _build(self) -> keras.Model:
        recipe = self.recipe
        keras.utils.set_random_seed(recipe.seed)
        if recipe.deterministic:
            tf.config.experimental.enable_op_determinism()
        network = assemble.network(recipe, self.data)
        network.compile(
            assemble.optimizer(recipe, self.steps_per_epoch),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=recipe.jit_compile,
        )
        return network

    def _parts(self, network: keras.Model, continues: bool) -> tuple[Trainer, Checkpoints]:
        recipe = self.recipe
        rate = assemble.task_rate(recipe, self.steps_per_epoch)
        trainer = Trainer(network, rate, recipe.jit_compile)
        checkpoints = Checkpoints(self.directory.checkpoints, trainer.variables, recipe.keep)
        if continues and recipe.resume == "must" and checkpoints.latest is None:
            raise UserError(
                f"{self.directory.checkpoints} holds no checkpoint: use --resume=auto to start the "
                "run anew."
            )
        return trainer, checkpoints

    def _fit(self, trainer: Trainer, checkpoints: Checkpoints, step: int) -> None:
        """The loop over epochs and steps, from `step` on."""
        size = self.steps_per_epoch
        epochs = -(-self.total_steps // size)
        callbacks = keras.callbacks.CallbackList(
            self._callbacks(),
            add_progbar=True,
            model=trainer.network,
            verbose=1 if sys.stdout.isatty() else 2,
            epochs=epochs,
            steps=min(size, self.total_steps),
        )
        callbacks.on_train_begin()
        for epoch in range(step // size, epochs):
            callbacks.on_epoch_begin(epoch)
            if step % size == 0:
                trainer.reset()
            first, started = step, time.perf_counter()
            batches = self.data.train(
                self.recipe.batch_size, self.recipe.seed, epoch, start_step=step % size
            )
            for images, labels in batches.take(self.total_steps - step):
                callbacks.on_train_batch_begin(step % size)
                if not trainer.step(images, labels):
                    self._stop_at(step, trainer.blame(images, labels), checkpoints)
                step += 1
                callbacks.on_train_batch_end((step - 1) % size, self._batch_logs(trainer, step))
                if step % self.recipe.checkpoint_every_steps == 0 and step % size:
                    checkpoints.save(step)
            seconds = time.perf_counter() - started
            logs = self._epoch_logs(trainer, step)
            logs["images_per_second"] = (step - first) * self.recipe.batch_size / seconds
            callbacks.on_epoch_end(epoch, logs)
            checkpoints.save(step)  # after the row of the epoch, which a resume would not write
        callbacks.on_train_end()

    def _batch_logs(self, trainer: Trainer, step: int) -> dict[str, float]:
        """What the progress bar shows, read from the device every 10 steps only."""
        return trainer.results() if step % 10 == 0 else {}

    def _epoch_logs(self, trainer: Trainer, step: int) -> dict[str, float]:
        tests = trainer.evaluate(self.data.evaluation(self.recipe.batch_size))
        logs = {"step": step, **trainer.results()}
        logs |= {f"test_{name}": value for name, value in tests.items()}
        return logs | self._learning_rates(trainer.network.optimizer)

    def _learning_rates(self, optimizer) -> dict[str, float]:
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
        optimizer = getattr(optimizer, "inner", optimizer)  # of noisy updates
        rates = {"learning_rate": float(optimizer.learning_rate)}
        if hasattr(optimizer, "feedback"):
            rates["feedback_learning_rate"] = float(optimizer.feedback.learning_rate)
        return rates

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        folder = self.directory.tensorboard
        probe = next(iter(self.data.evaluation(min(64, self.data.test_examples))))[0]
        return [
            AlignmentMonitor(folder, probe, self.recipe.histograms),
            EpochTable(self.directory.metrics, folder, COLUMNS),
        ]

    def _stop_at(self, step: int, where: str, checkpoints: Checkpoints):
        raise UserError(
            f"loss or gradients were not finite at step {step + 1}: {where}. Training stopped; the "
            f"last good checkpoint is {checkpoints.latest or 'none yet'}. Lower --learning_rate or "
            "the rule's coefficients."
        )

    def _announce(self) -> None:
        recipe = self.recipe
        print(f"Data: {self.data.chosen_because}")
        print(
            f"Training {recipe.model} with rule {assemble.base_rule(recipe)!r} for "
            f"{self.total_steps} steps of {recipe.batch_size} images "
            f"({self.steps_per_epoch} steps an epoch)"
        )
        print(f"Run directory: {self.directory.path}", flush=True)

    def _summary(self, network: keras.Model, results: dict, seconds: float) -> dict:
        angles = {record["layer"]: record["angle"] for record in alignment(network)}
        return {
            **results,
            "step": self.total_steps,
            "mean_angle": float(np.mean(list(angles.values()))) if angles else None,
            "angles": angles,
            "rule": assemble.base_rule(self.recipe).name,
            "model": self.recipe.model,
            "dataset": self.data.name,
            "data": self.data.chosen_because,
            "seed": self.recipe.seed,
            "seconds": round(seconds, 1),
            "flags": self.recipe.flagfile().splitlines(),
            **environment(),
        }

    def _write_hparams(self, results: dict) -> None:
        from tensorboard.plugins.hparams import api  # imports slowly, needed once

        writer = tf.summary.create_file_writer(str(self.directory.tensorboard))
        with writer.as_default(self.total_steps):
            flags = {k: v for k, v in vars(self.recipe).items() if v is not None}
            api.hparams({k: v for k, v in flags.items() if k != "run_dir"})
            tf.summary.scalar("test/top1", results["top1"])


def environment() -> dict:
    """Versions, machine and settings that results depend on."""
    here = os.path.dirname(os.path.abspath(tfcredit.__file__))
    revision = subprocess.run(
        ["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "versions": {
            "tfcredit": tfcredit.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "git_revision": revision.stdout.strip() or None,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
    }
