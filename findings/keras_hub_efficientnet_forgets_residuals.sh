#!/usr/bin/env bash
# An EfficientNetBackbone of keras-hub in a file.
#
# One would guess: a backbone that is saved and loaded gives the same predictions, or loading fails,
# as every argument of the constructor is in `get_config`.
# What happens: `get_config` leaves out `stackwise_nores_option`, which takes the residual
# connection from blocks. A residual has no weights, so that the file loads without a word, and the
# loaded network adds the input of each such block again: other predictions. `num_features` and
# `data_format` are left out too; a network with other than 1280 features can't be loaded.
#
# Versions: keras-hub 0.32.0, Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11.
# Date: 2026-11-29.
# Source: seen while backbones were made from their configs; no report of it was looked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0' \
  regex tokenizers sentencepiece kagglehub huggingface-hub
# Without tensorflow-text, which backbones do not need, and which brings a second TensorFlow.
"$folder/venv/bin/pip" install --quiet --no-deps 'keras-hub==0.32.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import keras_hub
import numpy as np

print("keras", keras.__version__, "keras-hub", keras_hub.__version__)
x = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype("float32")


def backbone(**options):
    """Two blocks with equal shapes before and behind them."""
    keras.utils.set_random_seed(0)
    return keras_hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 8],
        stackwise_expansion_ratios=[2, 2],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_strides=[1, 1],
        stackwise_block_types=["fused", "fused"],
        stackwise_force_input_filters=[0, 0],
        input_shape=(16, 16, 3),
        **options,
    )


def change(**options):
    """How far the predictions of a loaded backbone are off, and of what size they are."""
    model = backbone(**options)
    model.save("model.keras")
    loaded = keras.saving.load_model("model.keras")
    before, after = (np.asarray(each(x)) for each in (model, loaded))
    return float(np.abs(after - before).max()), float(np.abs(before).max())


for nores in ([False, False], [True, True]):
    off, size = change(stackwise_nores_option=nores)
    print(f"stackwise_nores_option={nores}: off by {off:.3g} of {size:.3g}")
    assert (off > 0.01 * size) == any(nores), "it has changed"
try:
    change(stackwise_nores_option=[False, False], num_features=16)
    raise SystemExit("it has changed: num_features is kept")
except ValueError as problem:
    print("num_features=16:", str(problem).strip().splitlines()[0][:120])
PYTHON
