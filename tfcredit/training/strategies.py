"""The devices of a run: one, replicas on one machine, several machines, a TPU."""

import json
import os
import zlib
from collections.abc import Callable

import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.training import workers
from tfcredit.training.recipe import Recipe

MAX_CPU_REPLICAS = 8
"""Logical devices that a machine without GPU may be cut into, to try replicas out."""
COLLECTIVE_SECONDS = 60
"""The time that a worker waits for the others in one exchange before it takes them for lost."""


def make(recipe: Recipe) -> tf.distribute.Strategy:
    """The strategy that the flags ask for. Call it before anything else computes.

    `auto` takes several workers if --workers, TF_CONFIG or a SLURM step of several tasks tells of
    some, a TPU if --tpu names one, all GPUs if there are several, and else one device.

    Args:
        recipe: The recipe; read are `strategy`, `num_replicas`, `tpu` and the flags of
            workers.

    Returns:
        TensorFlow's default strategy for one device.

    Raises:
        UserError: Fewer devices than asked for, no TPU, a cluster that is not described well.
    """
    name = _chosen(recipe)
    if recipe.workers or recipe.worker is not None:
        _require(name == "multi_worker", recipe, "--workers and --worker", "multi_worker")
    if recipe.tpu is not None:
        _require(name == "tpu", recipe, f"--tpu={recipe.tpu}", "tpu")
    if name == "one_device":
        if recipe.num_replicas not in (None, 1):
            raise UserError(
                f"--strategy=one_device and --num_replicas={recipe.num_replicas} contradict each "
                "other: use --strategy=mirrored."
            )
        return tf.distribute.get_strategy()
    makers = {"mirrored": _mirrored, "multi_worker": _multi_worker, "tpu": _tpu}
    strategy = makers[name](recipe)
    if recipe.num_replicas not in (None, strategy.num_replicas_in_sync):
        raise UserError(
            f"--num_replicas={recipe.num_replicas}, but --strategy={name} found "
            f"{strategy.num_replicas_in_sync} devices: give that number or leave the flag out."
        )
    return strategy


def _require(condition: bool, recipe: Recipe, flags: str, strategy: str) -> None:
    if not condition:
        raise UserError(
            f"--strategy={recipe.strategy} and {flags} contradict each other: use "
            f"--strategy={strategy}, or leave the others out."
        )


def _chosen(recipe: Recipe) -> str:
    if recipe.strategy != "auto":
        return recipe.strategy
    if workers.are_told(recipe):
        return "multi_worker"
    if recipe.tpu is not None:
        return "tpu"
    if recipe.num_replicas is not None:
        return "mirrored" if recipe.num_replicas > 1 else "one_device"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one_device"


def _mirrored(recipe: Recipe) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    wanted = recipe.num_replicas or max(1, len(gpus))
    available = len(gpus) if gpus else MAX_CPU_REPLICAS
    if wanted > available:
        kind = "GPUs" if gpus else "logical devices on its CPU"
        raise UserError(
            f"--num_replicas={wanted} is more than the {available} {kind} that this machine can "
            f"give: use at most {available}."
        )
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(wanted)])
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * wanted
        )
    except (RuntimeError, ValueError):  # TensorFlow has started: it keeps the devices it has.
        found = len(tf.config.list_logical_devices("CPU"))
        if found < wanted:
            raise UserError(
                f"--num_replicas={wanted} is more than the {found} logical devices that "
                "TensorFlow started with in this process: start the run in a process of its own."
            ) from None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(wanted)])


def _multi_worker(recipe: Recipe) -> tf.distribute.Strategy:
    addresses, index = workers.find(recipe)
    gpus = tf.config.get_visible_devices("GPU")
    own = workers.own_gpus(len(gpus))
    if len(own) < len(gpus):
        tf.config.set_visible_devices([gpus[place] for place in own], "GPU")
    task = {"type": "worker", "index": index}
    cluster = {"cluster": {"worker": addresses}, "task": task}
    os.environ["TF_CONFIG"] = json.dumps(cluster)  # where TensorFlow looks
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=COLLECTIVE_SECONDS)
    with workers.awaited(addresses, index, recipe.wait_for_workers):
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _tpu(recipe: Recipe) -> tf.distribute.Strategy:
    name = recipe.tpu or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError, OSError) as problem:
        raise UserError(
            f"--tpu={name}: no TPU answers ({str(problem).splitlines()[0][:150]}): run on a TPU VM "
            "with the wheel tensorflow-tpu, or choose another --strategy."
        ) from None
    return tf.distribute.TPUStrategy(resolver)


class Cluster:
    """The processes and replicas of a run: who is chief, who gets which data, who was lost.

    Args:
        strategy: The strategy.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.replicas = strategy.num_replicas_in_sync
        multi = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        resolver = strategy.cluster_resolver if multi else None
        self.workers = resolver.cluster_spec().as_dict()["worker"] if multi else []
        self.index = resolver.task_id if multi else 0

    @property
    def is_chief(self) -> bool:
        """True if this process writes the run directory."""
        return self.index == 0

    def check(self, recipe: Recipe) -> None:
        """Check that a run can be computed on these devices.

        Args:
            recipe: The complete recipe.

        Raises:
            UserError: The batch can't be divided, or XLA is asked for where it can't be had.
        """
        parts = self.replicas * recipe.accumulation_steps
        if recipe.batch_size % parts:
            raise UserError(
                f"--batch_size={recipe.batch_size} can't be divided among {self.replicas} replicas "
                f"times --accumulation_steps={recipe.accumulation_steps}: use a multiple of "
                f"{parts}."
            )
        if (recipe.evaluation_batch_size or 0) % self.replicas:
            raise UserError(
                f"--evaluation_batch_size={recipe.evaluation_batch_size} can't be divided among "
                f"{self.replicas} replicas: use a multiple of {self.replicas}."
            )
        on_cpu = not tf.config.list_logical_devices("GPU") and recipe.strategy != "tpu"
        if recipe.jit_compile and self.replicas > 1 and on_cpu:
            raise UserError(
                f"--jit_compile and {self.replicas} replicas on CPUs contradict each other: XLA "
                "can't exchange gradients there; leave --jit_compile out."
            )

    def barrier(self) -> None:
        """Wait until all workers are here."""
        self.total(1.0)

    def total(self, value: float) -> float:
        """Return the sum of a number over all replicas; all workers must call it."""
        if not self.workers:
            return value * self.replicas

        @tf.function(autograph=False)
        def summed():
            per_replica = self.strategy.run(lambda: tf.constant(value, tf.float32))
            return self.strategy.reduce("SUM", per_replica, axis=None)

        return float(summed())

    def agree(self, text: str) -> bool:
        """Compare a text of the workers by a checksum; all workers must call it.

        Args:
            text: This worker's.

        Returns:
            False if another worker has another text. At least one worker finds it out.
        """
        checksum = zlib.crc32(text.encode())
        # Parts so small that float32 has their sums over thousands of replicas exactly.
        parts = [float(checksum >> shift & 0x7FF) for shift in (0, 11, 22)]
        sums = [self.total(part) for part in parts]
        return sums == [part * self.replicas for part in parts]

    def distribute(self, dataset_of: Callable) -> object:
        """Distribute the batches of a dataset.

        Args:
            dataset_of: Function of (host, hosts, replicas of this host) -> `tf.data.Dataset` of
                one replica's batches.

        Returns:
            An iterable of what `strategy.run` takes.
        """

        def of_context(context):
            hosts = max(1, context.num_input_pipelines)
            return dataset_of(context.input_pipeline_id, hosts, max(1, self.replicas // hosts))

        return self.strategy.distribute_datasets_from_function(of_context)

    def lost(self, problem: tf.errors.OpError) -> UserError | None:
        """Explain an error that a lost worker causes.

        Args:
            problem: The error.

        Returns:
            The sentence for the user; `None` if the error has another cause.
        """
        kinds = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError)
        kinds += (tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
        if not self.workers or not isinstance(problem, kinds):
            return None
        named = [
            i for i in range(len(self.workers)) if f"task:{i}" in str(problem) and i != self.index
        ]
        named = named or [i for i in range(len(self.workers)) if i != self.index]
        names = " or ".join(f"worker {i} ({self.workers[i]})" for i in named)
        return UserError(
            f"worker {self.index} lost {names}: start all workers again with --resume=auto, they "
            "continue at the last checkpoint."
        )
