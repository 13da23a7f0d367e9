"""Every family of `keras.applications`: to feedback layers, a training step per rule, and back.

    python -m studies applications

Of each family the smallest network, with drawn weights and batch statistics, 10 classes and the
smallest images that it takes. Rules that the output file holds for a network are not stepped again.
"""

import argparse
import functools
import time
import warnings
from collections.abc import Iterator

import keras
import numpy as np

from studies.study import Rows, Study
from studies.table import Place, select
from tfcredit import convert, rules
from tfcredit.records import markdown

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
    """A network with drawn weights, and with statistics as far from an untrained one's as weights.

    Those of an untrained one are identities, which hide that a network has lost its statistics.
    """
    keras.utils.set_random_seed(0)
    side = FAMILIES[name]
    model = getattr(keras.applications, name)(
        weights=None, classes=10, input_shape=(side, side, 3), classifier_activation=None
    )
    random = np.random.default_rng(0)
    draw = {"mean": lambda shape: random.normal(0, 0.3, shape)}
    draw["variance"] = lambda shape: random.uniform(0.5, 1.5, shape)
    for layer in model._flatten_layers(include_self=False):
        for kind, drawn in draw.items():
            for owner in ("moving", "adapt"):  # of batch norm; of `Normalization`
                variable = getattr(layer, f"{owner}_{kind}", None)
                if variable is not None:
                    variable.assign(drawn(variable.shape))
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
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


def joined(one: dict, other: dict) -> dict:
    """One row of two of the same network, for the rules of both."""
    worst = {
        name: max(float(one[name]), float(other[name]))
        for name in ("difference", "difference_back")
    }
    seconds = int(one["seconds"]) + int(other["seconds"])
    return other | worst | {"rules": f"{one['rules']} {other['rules']}", "seconds": seconds}


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Each network with the rules that it was not stepped under yet."""
    for name in FAMILIES:
        done = {rule for row in select(rows, network=name) for rule in row["rules"].split()}
        left = [rule for rule in RULES if rule not in done]
        if left:
            yield {"network": name, "rules": " ".join(left)}


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    return [examine(case["network"], case["rules"].split())]


def table(rows: Rows) -> str:
    """The rows as Markdown, one for each network."""
    head = ["network", "converted", "left", "max difference of predictions"]
    head += ["after `to_backprop`", "rules stepped"]
    lines = []
    for name in dict.fromkeys(row["network"] for row in rows):
        row = functools.reduce(joined, select(rows, network=name))
        lines.append([*(row[field] for field in FIELDS[:5]), len(row["rules"].split())])
    return markdown(head, lines)


STUDY = Study(
    "applications",
    __doc__,
    [(table, Place("applications", "docs/convert.md"))],
    FIELDS,
    cases,
    measure,
)
