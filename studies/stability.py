"""Do feedback kernels diverge where their eigenvalues say? A phase diagram of linear layers.

    python -m studies stability

`analysis.safe_rates` predicts the largest stable learning rate of B; `fit` of the real layer is
bisected for the one at which B diverges, from a quarter to three times the prediction, until the
bracket is 2 % wide. Setting "layer": one linear layer, W held, one batch of 256 embedded images.
Setting "network": two linear layers, W learning by SGD through B from batches of 100; after 800
steps at a small rate of B, the prediction is made on 1,000 images, and the training goes on from
there at each rate. Every `fit` is a row of the output file; boundaries that it holds are not
measured again. The second table is what is predicted for the networks of `models.get` as drawn, on
32 images.
"""

import argparse
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from studies.study import Rows, Study
from studies.table import Place, select
from tfcredit import analysis, data, layers, models, rules
from tfcredit.optimizers import PartitionedOptimizer
from tfcredit.records import markdown

PAGE = "docs/stability.md"
RULES = {
    "info_alignment": lambda c: rules.InformationAlignment(null=c),
    "activation_alignment": lambda c: rules.ActivationAlignment(amp=c, sparse=c),
}
OPTIMIZERS = {
    "SGD": {},
    "momentum 0.9": {"momentum": 0.9},
    "Nesterov 0.9": {"momentum": 0.9, "nesterov": True},
}
CASES = [
    ("layer", rule, optimizer, coefficient)
    for rule in RULES
    for optimizer in OPTIMIZERS
    for coefficient in (2e-3, 2e-2)
]
CASES += [("network", rule, "SGD", 2e-3) for rule in RULES]
FIELDS = ["setting", "rule", "optimizer", "coefficient", "learning_rate", "predicted", "ratio"]
FIELDS += ["diverged"]
STEPS = 800
DIGITS = {"largest_learning_rate": 2, "fixed_point_ratio": 1, "fixed_point_angle": 0}


def images() -> tuple[np.ndarray, np.ndarray]:
    """2,000 embedded images as vectors, and their labels as one-hot vectors."""
    batches = [(x, labels) for x, labels, _ in data.get("embedded").evaluation(500)]
    x, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return x.reshape(len(x), -1), np.eye(10, dtype="float32")[labels]


def make(setting: str, rule: str, optimizer: str, coefficient: float) -> keras.Model:
    """The compiled network of a case."""
    keras.utils.set_random_seed(0)
    units = (10,) if setting == "layer" else (32, 10)
    model = keras.Sequential([keras.Input((784,))])
    for size in units:
        model.add(layers.Dense(size, use_bias=False, rule=RULES[rule](coefficient)))
    model.compile(
        PartitionedOptimizer(
            forward=keras.optimizers.SGD(0.0 if setting == "layer" else 1e-3),
            feedback=keras.optimizers.SGD(1.0, **OPTIMIZERS[optimizer]),
        ),
        "mse",
        steps_per_execution=STEPS // 8,
    )
    return model


def batches(setting: str) -> tf.data.Dataset:
    """Images and targets, without end."""
    x, target = images()
    size = len(x) if setting == "network" else 256
    examples = tf.data.Dataset.from_tensor_slices((x[:size], target[:size])).cache()
    if setting == "network":
        return examples.shuffle(size, seed=0).repeat().batch(100)
    return examples.batch(size).repeat()


def predict(setting: str, model: keras.Model) -> float:
    """The largest stable learning rate of B."""
    batch = images()[0][: 256 if setting == "layer" else 1000]
    records = analysis.safe_rates(model, batch, model.optimizer)
    return min(record["largest_learning_rate"] for record in records)


def trial(setting: str, model: keras.Model) -> Callable[[float], bool]:
    """A function that trains on from here at a learning rate of B and tells if B diverges."""
    examples, start = batches(setting), model.get_weights()
    kernels = [layer.feedback_kernel for layer in analysis.feedback_layers(model)]

    def norms():
        return np.array([np.linalg.norm(kernel.numpy().astype(float)) for kernel in kernels])

    def diverges(learning_rate: float) -> bool:
        model.set_weights(start)
        for variable in model.optimizer.feedback.variables[2:]:  # the momenta
            variable.assign(tf.zeros_like(variable))
        model.optimizer.feedback.learning_rate = learning_rate
        before = norms()
        model.fit(examples, steps_per_epoch=STEPS, shuffle=False, verbose=0)
        return not np.all(norms() < 1e3 * before)

    return diverges


def bisect(diverges: Callable[[float], bool], predicted: float) -> list[tuple[float, bool]]:
    """Learning rates around the boundary, and whether B diverged there."""
    low, high = predicted / 4, predicted * 3
    found = [(rate, diverges(rate)) for rate in (low, high)]
    if [diverged for _, diverged in found] != [False, True]:
        return found  # no boundary in sight
    while high > 1.02 * low:
        middle = float(np.sqrt(low * high))
        found.append((middle, diverges(middle)))
        low, high = (low, middle) if found[-1][1] else (middle, high)
    return found


def named(case: tuple) -> dict:
    """A case as columns."""
    return dict(zip(FIELDS[:4], case, strict=True))


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """All cases, as columns."""
    return map(named, CASES)


def measure(case: dict) -> list[dict]:
    """The rows of a case."""
    setting, model = case["setting"], make(**case)
    if setting == "network":
        model.optimizer.feedback.learning_rate = predict(setting, model) / 10
        model.fit(batches(setting), steps_per_epoch=STEPS, shuffle=False, verbose=0)
    predicted = predict(setting, model)
    return [
        case
        | {"learning_rate": rate, "predicted": predicted, "ratio": rate / predicted}
        | {"diverged": diverged}
        for rate, diverged in bisect(trial(setting, model), predicted)
    ]


def boundary(rows: list[dict]) -> float:
    """Measured over predicted: between the largest stable and the smallest diverged rate."""
    stable = [float(row["ratio"]) for row in rows if str(row["diverged"]) == "False"]
    diverged = [float(row["ratio"]) for row in rows if str(row["diverged"]) == "True"]
    return float(np.sqrt(max(stable) * min(diverged))) if stable and diverged else float("nan")


def table(rows: Rows) -> str:
    """Predicted and measured boundary of each case, as Markdown."""
    head = ["setting", "rule", "`null` or `sparse`", "optimizer of B", "predicted", "measured"]
    lines = []
    for case in CASES:
        mine = select(rows, **named(case))
        if mine:
            predicted, ratio = float(mine[0]["predicted"]), boundary(mine)
            setting, rule, optimizer, coefficient = case
            line = [setting, f"`{rule}`", coefficient, optimizer, f"{predicted:.4g}"]
            lines.append([*line, f"{ratio * predicted:.4g}", f"{ratio:.3f}"])
    return markdown([*head, "ratio"], lines)


def networks_table(rows: Rows) -> str:
    """Predictions for freshly drawn networks, least and largest layer, as Markdown."""
    head = ["network", "rule", "largest stable rate", r"\|B*\| / \|W\|", "angle of B*, degrees"]
    lines = []
    x = images()[0][:32].reshape(-1, 28, 28, 1)
    for network in ("fc", "conv", "resnet8"):
        for rule in ("weight_mirror", *RULES):
            keras.utils.set_random_seed(0)
            model = models.get(network, classes=10, input_shape=x.shape[1:], rule=rule, seed=0)
            records = analysis.safe_rates(model, x)
            cells = []
            for name, digits in DIGITS.items():
                values = [record[name] for record in records]
                cells.append(f"{min(values):.{digits}f} to {max(values):.{digits}f}")
            lines.append([f"`{network}`", f"`{rule}`", *cells])
    return markdown(head, lines)


STUDY = Study(
    "stability",
    __doc__,
    [(table, Place("stability", PAGE)), (networks_table, Place("networks", PAGE))],
    FIELDS,
    cases,
    measure,
)
