"""A small vision transformer and a 1-D convolutional net under alignment rules.

    python studies/architectures.py --output=studies/results/architectures.csv

Networks of Keras layers, converted; embedded Fashion-MNIST, Adam, no augmentation. A run is a
network, a rule and a seed; runs that the output file holds are not repeated.
"""

import argparse
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import numpy as np
import tabulation

from tfcredit import analysis, convert, optimizers, rules
from tfcredit.data import embedded
from tfcredit.training.environment import environment

FIELDS = ["network", "rule", "seed", "epochs", "top1", "mean_angle", "greatest_angle", "seconds"]
L = keras.layers


def vision_transformer(width: int = 32, heads: int = 2, depth: int = 2) -> keras.Model:
    """Patches of 7 x 7, a bias for each position, pre-normalised blocks, mean over the tokens."""
    inputs = keras.Input((28, 28, 1))
    x = L.Reshape((16, width))(L.Conv2D(width, 7, 7, name="patches")(inputs))
    x = L.EinsumDense("bte,ef->btf", (16, width), bias_axes="tf", name="positions")(x)
    for index in range(depth):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(heads, width // heads, name=f"mha{index}")(y, y)])
        y = L.Dense(2 * width, "gelu", name=f"mlp{index}_0")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(width, name=f"mlp{index}_1")(y)])
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
    return keras.Model(inputs, L.Dense(10, name="top")(x))


def conv1d() -> keras.Model:
    """An image's rows as 28 steps of 28 channels; batch-normalised."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Reshape((28, 28)),
            L.Conv1D(32, 5, padding="causal"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv1D(64, 5, 2, "same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv1D(64, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.GlobalAveragePooling1D(),
            L.Dense(10, name="top"),
        ]
    )


RULES = ["backprop", "symmetric_alignment", "info_alignment", "feedback_alignment"]
NETWORKS = {"vision_transformer": vision_transformer, "conv1d": conv1d}


def images() -> dict[str, np.ndarray]:
    """The embedded images, of mean 0 and variance 1."""
    arrays = embedded.load_arrays()
    mean, std = arrays["x_train"].mean(), arrays["x_train"].std()
    return arrays | {part: (arrays[part] - mean) / std for part in ("x_train", "x_test")}


def train(network: str, rule: str, seed: int, epochs: int, examples: int | None = None) -> dict:
    """One run; returns its row."""
    start, arrays = time.perf_counter(), images()
    keras.utils.set_random_seed(seed)
    model = NETWORKS[network]()
    optimizer = keras.optimizers.Adam(1e-3)
    if rule != "backprop":
        model = convert.to_feedback(model, rule, seed=seed)
        own = rules.get(rule).feedback_optimizer
        if own is not None:
            optimizer = optimizers.PartitionedOptimizer(optimizer, optimizers.get(*own))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    x, y = arrays["x_train"][:examples], arrays["y_train"][:examples]
    model.fit(x, y, 64, epochs=epochs, verbose=0)
    top1 = model.evaluate(arrays["x_test"], arrays["y_test"], 500, verbose=0)[1]
    angles = [
        analysis.angle(layer.kernel, layer.feedback_kernel)
        for layer in analysis.feedback_layers(model)
    ]
    return {
        "network": network,
        "rule": rule,
        "seed": seed,
        "epochs": epochs,
        "top1": round(top1, 4),
        "mean_angle": round(statistics.mean(angles), 1) if angles else "",
        "greatest_angle": round(max(angles), 1) if angles else "",
        "seconds": round(time.perf_counter() - start),
    }


def table(rows: list[dict]) -> str:
    """Mean and half range over the seeds of each network and rule, as Markdown."""
    lines = ["| network | rule | top-1, % | mean angle, degrees |", "|---|---|---|---|"]
    for network in NETWORKS:
        for rule in RULES:
            mine = [row for row in rows if (row["network"], row["rule"]) == (network, rule)]
            top1 = tabulation.spread([100 * float(row["top1"]) for row in mine])
            angles = [float(row["mean_angle"]) for row in mine if row["mean_angle"] != ""]
            lines.append(f"| `{network}` | `{rule}` | {top1} | {tabulation.spread(angles)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the output file does not hold yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--update", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    rows = tabulation.read(options.output)
    done = {(row["network"], row["rule"], int(row["seed"]), int(row["epochs"])) for row in rows}
    for seed in range(options.seeds):
        for network in NETWORKS:
            for rule in RULES:
                if (network, rule, seed, options.epochs) in done:
                    continue
                rows.append(train(network, rule, seed, options.epochs))
                print(rows[-1], flush=True)
                tabulation.write(options.output, FIELDS, rows)
    print(table(rows))
    print(environment())
    if options.update:
        tabulation.put("architectures", table(rows))


if __name__ == "__main__":
    main()
