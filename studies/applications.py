"""Every family of `keras.applications`: to feedback layers, a training step per rule, and back.

    python studies/applications.py --output=studies/results/applications.csv

Of each family the smallest network, with drawn weights, 10 classes and the smallest images that it
takes. Rules that the output file holds for a network are not stepped again.
"""

import argparse
import os
import pathlib
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import numpy as np
import tabulation

from tfcredit import convert, rules
from tfcredit.training.environment import environment

FAMILIES = {
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "VGG16": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "ConvNeXtTiny": 32,
    "NASNetMobile": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
}
"""Network -> side of its images."""
# "alignment" has no coefficients of its own.
RULES = [name for name in rules.names() if name != "alignment"]
RULES = [name for name in RULES if rules.get(name).has_feedback_kernel]
# Akrout's first phase of 468 mirror batches, here of 2.
SHORTENED = {"akrout_mirror": "akrout_mirror(samples=8, first_steps=2)"}
FIELDS = ["network", "converted", "left", "difference", "difference_back", "rules", "seconds"]


def network(name: str) -> keras.Model:
    """A network with drawn weights, and batch statistics that are not those of an untrained one."""
    keras.utils.set_random_seed(0)
    side = FAMILIES[name]
    model = getattr(keras.applications, name)(
        weights=None, classes=10, input_shape=(side, side, 3), classifier_activation=None
    )
    random = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        if variable.name in ("moving_mean", "moving_variance"):
            spread = 1 + 0.1 * random.random(variable.shape)
            variable.assign(keras.ops.convert_to_numpy(variable) * spread)
    return model


def difference(one: keras.Model, other: keras.Model) -> float:
    """The greatest between two networks' predictions."""
    images = np.random.default_rng(1).normal(size=(2, *one.input_shape[1:])).astype("float32")
    return float(np.abs(np.asarray(one(images)) - np.asarray(other(images))).max())


def step(model: keras.Model) -> None:
    """One step of training; raises if it leaves a weight unchanged or not finite."""
    images = np.random.default_rng(2).normal(size=(2, *model.input_shape[1:])).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Eagerly, because tracing takes longer than the step.
    model.compile(keras.optimizers.SGD(1e-4), loss, run_eagerly=True)
    value = model.train_on_batch(images, np.array([1, 2]))
    values = [np.asarray(value), *model.get_weights()]
    if not all(np.isfinite(each).all() for each in values):
        raise FloatingPointError(f"{model.name}: a step under its rule gave values not finite")


def examine(name: str, names: list[str]) -> dict:
    """The row of a network, for a step under each of these rules."""
    start, plain = time.perf_counter(), network(name)
    worst = worst_back = 0.0
    records = []
    for rule in names:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="stay on backprop")
            model = convert.to_feedback(plain, SHORTENED.get(rule, rule), seed=0)
        records = convert.report(model)
        worst = max(worst, difference(plain, model))
        worst_back = max(worst_back, difference(plain, convert.to_backprop(model)))
        step(model)
    return {
        "network": name,
        "converted": sum(record["rule"] != "backprop" for record in records),
        "left": sum(record["rule"] == "backprop" for record in records),
        "difference": worst,
        "difference_back": worst_back,
        "rules": " ".join(names),
        "seconds": round(time.perf_counter() - start),
    }


def joined(before: dict | None, now: dict) -> dict:
    """One row of two of the same network, for the rules of both."""
    if before is None:
        return now
    worst = {
        name: max(float(before[name]), now[name]) for name in ("difference", "difference_back")
    }
    seconds = int(before["seconds"]) + now["seconds"]
    return now | worst | {"rules": f"{before['rules']} {now['rules']}", "seconds": seconds}


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    titles = ["network", "converted", "left", "max difference of predictions"]
    titles += ["after `to_backprop`", "rules stepped"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        shown = row | {"rules": len(row["rules"].split())}
        lines.append(f"| {' | '.join(str(shown[field]) for field in FIELDS[: len(titles)])} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the output file does not hold yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--update", action="store_true", help="write the table into README.md")
    flags = parser.parse_args()
    rows = {row["network"]: row for row in tabulation.read(flags.output)}
    for name in FAMILIES:
        before = rows.get(name)
        done = before["rules"].split() if before else []
        left = [rule for rule in RULES if rule not in done]
        if left:
            rows[name] = joined(before, examine(name, left))
            tabulation.write(flags.output, FIELDS, rows.values())
            print(rows[name], flush=True)
    rows = list(rows.values())
    print(table(rows))
    print(environment())
    if flags.update:
        tabulation.put("applications", table(rows))


if __name__ == "__main__":
    main()
