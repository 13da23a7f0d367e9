"""Do feedback kernels diverge where their eigenvalues say? A phase diagram of linear layers.

    python studies/stability.py --output=studies/results/stability.csv

`analysis.safe_rates` predicts the largest stable learning rate of B; `fit` of the real layer is
bisected for the one at which B diverges, from a quarter to three times the prediction, until the
bracket is 2 % wide. Setting "layer": one linear layer, W held, one batch of 256 embedded images.
Setting "network": two linear layers, W learning by SGD through B from batches of 100; after 800
steps at a small rate of B, the prediction is made on 1,000 images, and the training goes on from
there at each rate. Every `fit` is a row of the output file; boundaries that it holds are not
measured again; `--update` writes the tables into docs/stability.md, the second of which is what is
predicted for the networks of `models.get` as drawn, on 32 images.
"""

import argparse
import os
import pathlib
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import numpy as np
import tabulation
import tensorflow as tf

from tfcredit import analysis, data, layers, models, rules
from tfcredit.optimizers import PartitionedOptimizer
from tfcredit.training.environment import environment

PAGE = tabulation.README.parent / "docs" / "stability.md"
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


def measure(case: tuple) -> list[dict]:
    """The rows of a case."""
    setting, model = case[0], make(*case)
    if setting == "network":
        model.optimizer.feedback.learning_rate = predict(setting, model) / 10
        model.fit(batches(setting), steps_per_epoch=STEPS, shuffle=False, verbose=0)
    predicted = predict(setting, model)
    return [
        dict(zip(FIELDS, (*case, rate, predicted, rate / predicted, diverged), strict=True))
        for rate, diverged in bisect(trial(setting, model), predicted)
    ]


def boundary(rows: list[dict]) -> float:
    """Measured over predicted: between the largest stable and the smallest diverged rate."""
    stable = [float(row["ratio"]) for row in rows if str(row["diverged"]) == "False"]
    diverged = [float(row["ratio"]) for row in rows if str(row["diverged"]) == "True"]
    return float(np.sqrt(max(stable) * min(diverged))) if stable and diverged else float("nan")


def of_case(rows: list[dict], case: tuple) -> list[dict]:
    """The rows that belong to a case."""
    return [row for row in rows if [str(row[name]) for name in FIELDS[:4]] == [*map(str, case)]]


def table(rows: list[dict]) -> str:
    """Predicted and measured boundary of each case, as Markdown."""
    lines = [
        "| setting | rule | `null` or `sparse` | optimizer of B | predicted | measured | ratio |"
    ]
    lines.append("|" + "---|" * 7)
    for case in CASES:
        mine = of_case(rows, case)
        if mine:
            predicted, ratio = float(mine[0]["predicted"]), boundary(mine)
            lines.append(
                f"| {case[0]} | `{case[1]}` | {case[3]} | {case[2]} | {predicted:.4g} "
                f"| {ratio * predicted:.4g} | {ratio:.3f} |"
            )
    return "\n".join(lines)


def networks_table() -> str:
    """Predictions for freshly drawn networks, least and largest layer, as Markdown."""
    lines = ["| network | rule | largest stable rate | \\|B*\\| / \\|W\\| | angle of B*, degrees |"]
    lines.append("|" + "---|" * 5)
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
            lines.append(f"| `{network}` | `{rule}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what the output file does not hold yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default="studies/results/stability.csv")
    parser.add_argument("--update", action="store_true", help="write the tables into the page")
    flags = parser.parse_args()
    rows = tabulation.read(flags.output)
    for case in CASES:
        if not of_case(rows, case):
            rows += measure(case)
            print(*case, f"{boundary(of_case(rows, case)):.3f}", flush=True)
            tabulation.write(flags.output, FIELDS, rows)
    print(table(rows))
    print(environment())
    if flags.update:
        tabulation.put("stability", table(rows), PAGE)
        tabulation.put("networks", networks_table(), PAGE)


if __name__ == "__main__":
    main()
