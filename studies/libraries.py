"""Networks of `keras.applications` and of keras-hub: converted, a training step per rule, and back.

    python -m studies libraries
    python -m studies libraries --libraries hub

Of `keras.applications` the smallest network of each family, with 10 classes and the smallest images
that it takes; of keras-hub, if it is installed, every backbone, as small as its constructor makes
it (`studies/backbones.py`). Weights and batch statistics are drawn. Of a network's first rule files
are written and read, too. Rules that the output file holds for a network are not stepped again.
"""

import argparse
import functools
import importlib.util
import pathlib
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from studies.backbones import BACKBONES, STEPS, backbone
from studies.study import Rows, Study
from studies.table import Place, select
from tfcredit import convert, rules
from tfcredit.errors import UserError
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
"""Network of `keras.applications` -> side of its images."""
NETWORKS = {"applications": list(FAMILIES), "hub": list(BACKBONES)}
"""Library -> its networks."""
# "alignment" has no coefficients of its own.
RULES = {"applications": [name for name in rules.names() if name not in ("alignment", "backprop")]}
# One of each way in which a feedback kernel comes by its values; those that send no error down take
# no functional model of a class of its own.
RULES["hub"] = ["info_alignment", "kolen_pollack", "calibrated_mirror", "tracking_mirror"]
RULES["hub"] += ["sign_symmetry", "feedback_alignment", "low_dimensional_feedback", "frozen"]
# Akrout's first phase of 468 mirror batches, here of 2.
SHORTENED = {"akrout_mirror": "akrout_mirror(samples=8, first_steps=2)"}
FIELDS = ["library", "network", "converted", "left", "difference", "difference_back"]
FIELDS += ["difference_loaded", "rules", "seconds", "note"]
DIFFERENCES = ["difference", "difference_back", "difference_loaded"]


def network(library: str, name: str) -> keras.Model:
    """A network with drawn weights, and with statistics as far from an untrained one's as weights.

    Those of an untrained one are identities, which hide that a network has lost its statistics.
    """
    keras.utils.set_random_seed(0)
    if library == "hub":
        model = backbone(name)
    else:
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


def batch(model: keras.Model, seed: int) -> Any:
    """A batch of two that the network takes: numbers, tokens, masks that hide nothing, no boxes.

    A diffusion model makes two steps.
    """
    random = np.random.default_rng(seed)
    steps = STEPS.get(type(model).__name__, 8)

    def draw(tensor):
        shape = [2, *(steps if size is None else size for size in tensor.shape[1:])]
        if tensor.name.startswith("box"):
            return np.zeros([2, 1, *shape[2:]], tensor.dtype)
        if tensor.name == "num_steps":  # 0 would be drawn, too
            return np.full(shape, 2, tensor.dtype)
        if "mask" in tensor.name or tensor.dtype == "bool":
            return np.ones(shape, tensor.dtype)
        if "int" in tensor.dtype:
            return random.integers(0, 2, shape).astype(tensor.dtype)
        return random.uniform(size=shape).astype(tensor.dtype)

    return keras.tree.map_structure(draw, model._inputs_struct)


def outputs(model: keras.Model, inputs: Any, training: bool = False) -> list[tf.Tensor]:
    """The network's outputs as numbers, one after the other."""
    found = keras.tree.flatten(model(inputs, training=training))
    return [tf.cast(each, "float32") for each in found]


def difference(one: keras.Model, other: keras.Model) -> float:
    """The greatest between two networks' predictions."""
    inputs = batch(one, seed=1)
    pairs = zip(outputs(one, inputs), outputs(other, inputs), strict=True)
    return max(float(tf.reduce_max(tf.abs(a - b))) for a, b in pairs)


def step(model: keras.Model) -> None:
    """One step of training; raises if it leaves a weight that is not finite.

    Eagerly, because tracing takes longer than the step; without `compile`, which knows no two
    outputs of one layer by their names.
    """
    inputs, weights = batch(model, seed=2), model.trainable_variables
    with tf.GradientTape() as tape:
        found = outputs(model, inputs, training=True)
        if [tuple(each.shape) for each in found] == [(2, 10)]:
            lost = tf.nn.sparse_softmax_cross_entropy_with_logits([1, 2], found[0])
        else:
            lost = tf.stack([tf.reduce_mean((each - 1.0) ** 2) for each in found])
        loss = tf.reduce_sum(lost) + sum(model.losses)
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    pairs = [each for each in zip(gradients, weights, strict=True) if each[0] is not None]
    if pairs:  # of a network of convolutions alone `frozen` leaves nothing that learns
        keras.optimizers.SGD(1e-4).apply_gradients(pairs)
    if not all(np.isfinite(each).all() for each in [np.asarray(loss), *model.get_weights()]):
        raise FloatingPointError(f"{model.name}: a step under its rule gave values not finite")


def from_files(plain: keras.Model, model: keras.Model, rule: str) -> float:
    """The greatest difference of predictions after writing and reading files.

    Args:
        plain: The network.
        model: Its conversion.
        rule: The rule that it has.

    Returns:
        That of the conversion's weights in another conversion, or that of a file of the network
        that came back, whichever is greater.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        model.save_weights(path / "of.weights.h5")
        other = convert.to_feedback(plain, rule, seed=1)
        other.load_weights(path / "of.weights.h5")
        back = convert.to_backprop(model)
        back.save(path / "back.keras")
        loaded = keras.saving.load_model(path / "back.keras")
    return max(difference(model, other), difference(back, loaded))


def refused(library: str, name: str, problem: Exception) -> dict:
    """The row of a network that can't be converted."""
    row = dict.fromkeys(FIELDS, "") | {"library": library, "network": name, "converted": 0}
    return row | {"seconds": 0, "note": f"refused: {problem}"}


def examine(library: str, name: str, names: list[str], files: bool = True) -> dict:
    """The row of a network, for a step under each of these rules; with `files` in files too."""
    start, plain = time.perf_counter(), network(library, name)
    worst: dict[str, float] = dict.fromkeys(DIFFERENCES, 0.0)
    records: list[dict] = []
    row = {"library": library, "network": name}
    for rule in names:
        spelled = SHORTENED.get(rule, rule)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="stay on backprop")
            model = convert.to_feedback(plain, spelled, seed=0)
            if files and not records:
                worst["difference_loaded"] = from_files(plain, model, spelled)
        records = convert.report(model)
        worst["difference"] = max(worst["difference"], difference(plain, model))
        back = difference(plain, convert.to_backprop(model))
        worst["difference_back"] = max(worst["difference_back"], back)
        step(model)
    left = [record for record in records if record["rule"] == "backprop"]
    notes = sorted({f"{record['kind']}: {record['note']}" for record in left})
    return row | {
        "converted": len(records) - len(left),
        "left": len(left),
        **worst,
        "rules": " ".join(names),
        "seconds": round(time.perf_counter() - start),
        "note": "; ".join(notes),
    }


def joined(one: dict, other: dict) -> dict:
    """One row of two of the same network, for the rules of both."""
    worst = {name: max(float(one[name] or 0), float(other[name] or 0)) for name in DIFFERENCES}
    seconds = int(one["seconds"]) + int(other["seconds"])
    return other | worst | {"rules": f"{one['rules']} {other['rules']}", "seconds": seconds}


def cases(flags: argparse.Namespace, rows: Rows) -> Iterator[dict]:
    """Each network with the rules that it was not stepped under yet."""
    for library in flags.libraries:
        if library == "hub" and importlib.util.find_spec("keras_hub") is None:
            raise UserError("keras-hub is not installed: pip install '.[hub]', or leave it out.")
        for name in NETWORKS[library]:
            mine = select(rows, library=library, network=name)
            done = {rule for row in mine for rule in row["rules"].split()}
            left = [rule for rule in RULES[library] if rule not in done and rule in flags.rules]
            if left and not select(mine, converted=0):
                yield {"library": library, "network": name, "rules": " ".join(left)}


def measure(case: dict) -> list[dict]:
    """The row of a case."""
    keras.backend.clear_session()
    library, name = case["library"], case["network"]
    try:
        return [examine(library, name, case["rules"].split())]
    except UserError as problem:
        return [refused(library, name, problem)]


def table(library: str, rows: Rows) -> str:
    """The rows of a library as Markdown, one for each network."""
    head = ["network", "converted", "left", "max difference of predictions"]
    head += ["after `to_backprop`", "from files", "rules stepped"]
    fields = [name for name in FIELDS[1:] if name not in ("rules", "seconds", "note")]
    lines = []
    if any(row["note"] for row in select(rows, library=library)):
        head.append("left or refused because")
    for name in NETWORKS[library]:
        mine = select(rows, library=library, network=name)
        if mine:
            row = functools.reduce(joined, mine)
            line = [*(row[field] for field in fields), len(row["rules"].split()), short(row)]
            lines.append(line[: len(head)])
    return markdown(head, lines)


def short(row: dict) -> str:
    """A row's note without the names of layers."""
    return re.sub(r"'[^']*'(, '[^']*')*", "other layers", row["note"])


STUDY = Study(
    "libraries",
    __doc__,
    [
        (functools.partial(table, library), Place(library, "docs/convert.md"))
        for library in NETWORKS
    ],
    FIELDS,
    cases,
    measure,
    flags={
        "libraries": {"nargs": "+", "default": list(NETWORKS), "choices": NETWORKS},
        "rules": {"nargs": "+", "default": RULES["applications"], "choices": RULES["applications"]},
    },
)
