"""Cases: which network is trained how, and trainings that are ready to take steps."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from benchmarks import products
from benchmarks.timing import clocked, timed
from tfcredit import convert
from tfcredit.analysis.alignment import kernel_layers
from tfcredit.data import ImageData, synthetic
from tfcredit.data.shard import Shard
from tfcredit.training import strategies
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe
from tfcredit.training.trainer import Trainer

PLAIN = "plain Keras"
"""The baseline: the same network of Keras' own layers, trained by backprop by the same step."""
FUNCTIONS = {"vit": "benchmarks.vision_transformer:vision_transformer"}
"""Networks of functions, as `--model` takes them."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and how it is trained.

    Attributes:
        network: MODEL@SIZE: a name of `tfcredit.models` or of `FUNCTIONS`, and the images' size in
            pixels.
        batch: Images of each replica and step.
        rule: As `--rule` takes it, or `PLAIN`.
        precision: As `--precision` takes it.
        mode: "graph" or "xla".
        steps: Steps per call of the compiled function.
        width: Of a CIFAR-style residual network; `None` for its default.
        replicas: Logical devices.
    """

    network: str
    batch: int
    rule: str = PLAIN
    precision: str = "float32"
    mode: str = "graph"
    steps: int = 1
    width: int | None = None
    replicas: int = 1

    def plan(self, images: ImageData) -> Plan:
        """The plan that the runner would make."""
        name = self.network.split("@")[0]
        recipe = Recipe(
            model=FUNCTIONS.get(name, name),
            dataset="synthetic",
            rule="backprop" if self.rule == PLAIN else self.rule,
            batch_size=self.batch * self.replicas,
            precision=self.precision,
            width=self.width,
            jit_compile=self.mode == "xla",
            steps=1,
            strategy="mirrored" if self.replicas > 1 else "one_device",
            num_replicas=self.replicas,
        )
        return Plan.of(recipe, images)


class Training:
    """A case that is ready to take steps, on one batch that is kept in memory.

    Args:
        case: The case. With several replicas it has to be the first of its process to compute.
    """

    def __init__(self, case: Case):
        self.case = case
        size = int(case.network.split("@")[1])
        images = synthetic.build(size, classes=1000 if size > 64 else 10)
        plan = case.plan(images)
        recipe = plan.recipe
        cluster = strategies.Cluster(_strategy(recipe.strategy, recipe.num_replicas))
        with cluster.strategy.scope():
            network = plan.network()
            if case.rule == PLAIN:
                network = convert.to_backprop(network)
            network.compile(plan.optimizer())
            self.trainer = Trainer(network, None, recipe.jit_compile, cluster.strategy)

        def dataset(host: int, hosts: int, replicas: int) -> tf.data.Dataset:
            return images.train(recipe.batch_size, 0, 0, 0, Shard(host, hosts, replicas))

        self._batches = iter(cluster.distribute(dataset))

    def trace(self) -> float:
        """Seconds that Python takes to trace a step, which the first step then does not."""
        step = self.trainer._one_step[True]
        return timed(step.get_concrete_function, self._batches, tf.zeros([2]))()

    def run(self, calls: int = 1) -> float:
        """Seconds per step over some calls."""
        return self._clocked(calls)[0]

    def _clocked(self, calls: int) -> tuple[float, float]:
        """Likewise, by the wall clock and of the CPU."""
        wall, cpu = clocked(self._advance, calls)()
        return wall / (calls * self.case.steps), cpu / (calls * self.case.steps)

    def _advance(self, calls: int) -> None:
        for _ in range(calls):
            self.trainer.run(self._batches, self.case.steps)

    def runner(self, calls: int) -> Callable[[], tuple[float, float]]:
        """Wall-clock and CPU seconds per step, as the timing protocol wants them.

        They are those of steps behind one that is not counted.

        In a training every step follows one of its own kind, whereas here another network's left
        its marks on caches and heap: without it ratios moved by 2 % with the set of competitors.
        """

        def turn() -> tuple[float, float]:
            self.run()
            return self._clocked(calls)

        return turn

    def bound(self) -> float | None:
        """FLOPs of a step over backprop's, if all that costs are products; `None` if unknown."""
        counted = [
            products.of_layer(layer, self.case.batch) for layer in kernel_layers(self.network)
        ]
        if None in counted:
            return None
        backprop = sum(3 * macs for macs, _ in counted) - counted[0][0]  # no error leaves the first
        return (backprop + sum(added for _, added in counted)) / backprop

    @property
    def network(self) -> keras.Model:
        """The network."""
        return self.trainer.network


@functools.cache
def _strategy(name: str, replicas: int) -> tf.distribute.Strategy:
    """One for all trainings of the process: two would number their exchanges alike."""
    return strategies.make(Recipe(strategy=name, num_replicas=replicas))
