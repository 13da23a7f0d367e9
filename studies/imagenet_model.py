"""The model behind `imagenet_cost.py`: what training on ImageNet takes, from counts of a network.

A layer's training step consists of products: op, opT and H for backprop, and those that the rule
adds. With X, Y and K the elements of a layer's input and output (per image) and kernel, and n
images a step, each product takes n * multiply-adds of the layer and moves at least n (X + Y) + K
numbers. Nothing else is counted: batch norm, activations and L2 come on top of the bytes.
"""

import dataclasses

from benchmarks import products
from studies import ROOT
from studies.table import read
from tfcredit import ilsvrc2012, rules

COUNTS = ROOT / "studies" / "results" / "imagenet_counts.csv"
SIZES = {
    "resnet18": 224,
    "resnet34": 224,
    "resnet50": 224,
    "resnet50v2": 299,
    "resnet101v2": 299,
    "resnet152v2": 299,
}
"""Height and width of the images of each network of the paper."""
RULES = (
    "backprop",
    "symmetric_alignment",
    "activation_alignment",
    "info_alignment",
    "weight_mirror",
    "feedback_alignment",
    "kolen_pollack",
)
IMAGES, EPOCHS, BATCH = ilsvrc2012.IMAGES["train"], 90, 256
BYTES = 4
DEVICES = {"TPU v3-8": (420e12, 0.4), "H100 SXM": (989e12, 0.3)}
"""Peak FLOP/s in bfloat16 as the makers state it, and the share of it that is assumed."""
SLOTS = {"momentum": 1, "lars": 1, "sgd": 0, "adam": 2}
"""Numbers that an optimizer keeps per weight."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of a network; sums are over the layers with a kernel.

    Attributes:
        macs: Multiply-adds of op for one image.
        first_macs: Those of the first layer, where no error is sent down.
        moved: Numbers in inputs and outputs for one image, X + Y.
        first_moved: Those of the first layer.
        kernels: Elements of all kernels.
        trainable: All trainable weights of the backprop network.
        statistics: Its moving means and variances.
    """

    macs: int
    first_macs: int
    moved: int
    first_moved: int
    kernels: int
    trainable: int
    statistics: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """Costs of training: `flops` per image, `step_bytes` and `checkpoint` bytes."""

    flops: float
    step_bytes: float
    checkpoint: float

    def images_per_second(self, device: str) -> float:
        """Images that a device trains on in a second, and has to be fed with."""
        peak, share = DEVICES[device]
        return peak * share / self.flops

    def hours(self, device: str) -> float:
        """Hours of 90 epochs on a device."""
        return IMAGES * EPOCHS / self.images_per_second(device) / 3600


def cost(counts: Counts, rule_name: str, batch: int = BATCH) -> Cost:
    """The cost of training a network with a rule.

    Args:
        counts: The network's.
        rule_name: The rule's name.
        batch: Images per step.

    Returns:
        The cost.
    """
    rule = rules.get(rule_name)
    count = 3 + products.added(rule)
    flops = 2 * (count * counts.macs - counts.first_macs)
    moved = count * (batch * counts.moved + counts.kernels) - batch * counts.first_moved
    feedback = counts.kernels if rule.has_feedback_kernel else 0
    slots = 0
    if rule.learns:
        name = "momentum" if rule.follows_forward else rule.feedback_optimizer[0]
        slots = SLOTS[name]
        moved += feedback * (3 + 2 * slots)  # an update reads gradient, weight, slots; writes back
    moved += counts.trainable * (3 + 2 * SLOTS["momentum"])
    stored = counts.trainable * 2 + counts.statistics + feedback * (1 + slots)
    return Cost(flops, BYTES * moved, BYTES * stored)


def read_counts() -> dict[str, Counts]:
    """The counts in studies/results, per network."""
    return {
        row.pop("network"): Counts(**{name: int(value) for name, value in row.items()})
        for row in read(COUNTS)
    }
