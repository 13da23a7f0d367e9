"""Every layer and every rule, listed once; the files beside this one hold a promise each."""

import keras
import numpy as np
import tensorflow as tf

from tests.crossing import crossed
from tfcredit import layers, models, rules
from tfcredit.primitives import PRIMITIVES


def depthwise(make, *arguments):
    """A builder that takes the regulariser under the name that other layers have for it."""

    def build(kernel_regularizer=None, **kw):
        return make(*arguments, depthwise_regularizer=kernel_regularizer, **kw)

    return build


# A builder and the shape of one sample.
LAYERS = {
    "dense": (lambda **kw: layers.Dense(4, "tanh", **kw), (5,)),
    "dense rank 3": (lambda **kw: layers.Dense(4, use_bias=False, **kw), (3, 5)),
    "conv": (lambda **kw: layers.Conv2D(4, 3, padding="same", activation="tanh", **kw), (5, 4, 2)),
    "pointwise": (lambda **kw: layers.Conv2D(4, 1, 2, **kw), (5, 4, 2)),
    "grouped": (lambda **kw: layers.Conv2D(4, (2, 3), (2, 1), groups=2, **kw), (5, 4, 2)),
    "conv 1d": (lambda **kw: layers.Conv1D(4, 3, 2, "causal", activation="tanh", **kw), (6, 2)),
    "conv 3d": (lambda **kw: layers.Conv3D(3, 2, **kw), (3, 4, 3, 2)),
    "transposed": (lambda **kw: layers.Conv2DTranspose(3, 3, 2, "same", **kw), (3, 2, 2)),
    "transposed 1d": (lambda **kw: layers.Conv1DTranspose(3, 2, 2, output_padding=1, **kw), (4, 2)),
    "transposed 3d": (
        lambda **kw: layers.Conv3DTranspose(2, 2, use_bias=False, **kw),
        (2, 3, 2, 2),
    ),
    "depthwise": (depthwise(layers.DepthwiseConv2D, 3, 1, "same", 2), (5, 4, 2)),
    "depthwise 1d": (depthwise(layers.DepthwiseConv1D, 3, 2), (7, 3)),
    "einsum": (
        lambda **kw: layers.EinsumDense("abc,cde->abde", (None, 2, 3), "tanh", "de", **kw),
        (3, 5),
    ),
}

# "alignment" has no default: a sum of all primitives stands for it. Akrout's first phase is long.
SUM = "0.02*amp + 0.01*null + 0.03*sparse + 0.05*self + 0.1*decay + 0.5*error"
SUM += "".join(f" + 0.01*{name}" for name in PRIMITIVES if f"*{name}" not in SUM)
SPECIAL = {"alignment": SUM, "akrout_mirror": "akrout_mirror(samples=8, first_steps=3)"}
# One whose R sees a part of the batch.
SPECIAL["autoencoder_alignment"] = "autoencoder_alignment(inputs={'fraction': 0.5})"
RULES = {name: SPECIAL.get(name, name) for name in rules.names()}

# How a rule's feedback kernel comes by its values.
LEARN = [
    "activation_alignment",
    "alignment",
    "autoencoder_alignment",
    "info_alignment",
    "kolen_pollack",
    "l_drl",
    "low_dimensional_feedback",
    "low_rank_feedback",
    "phase_free_mirror",
    "product_feedback_alignment",
    "symmetric_alignment",
    "tracking_activation",
    "tracking_mirror",
    "weight_mirror",
]
UPDATE = [
    "akrout_mirror",
    "brsf",
    "calibrated_activation",
    "calibrated_mirror",
    "frozen_backprop",
    "frsf",
    "normalized_feedback_alignment",
    "phase_free_mirror",
    "sign_symmetry",
    "tracking_activation",
    "tracking_mirror",
    "usf",
]
FIXED = ["backprop", "direct_feedback_alignment", "feedback_alignment", "node_perturbation"]
FIXED += ["soft_alignment", "direct_kolen_pollack", "drtp", "frozen"]
# Layers without a feedback kernel of their own.
WITHOUT_B = ["backprop", "direct_feedback_alignment", "direct_kolen_pollack", "drtp", "frozen"]
WITHOUT_B += ["low_dimensional_feedback", "node_perturbation"]

# One of each mechanism: whole networks are trained under the others in slow tests only.
QUICK = ["alignment", "backprop", "brsf", "calibrated_mirror", "direct_feedback_alignment"]
QUICK += ["kolen_pollack"]
QUICK_FIRST = crossed(RULES, quick=QUICK.__contains__)


def mechanism(name):
    """What a rule does with B: the methods that are its own, and whose optimizer B has."""
    rule = rules.get(RULES[name])
    methods = ("loss", "gradient", "perturbation", "update", "initial")
    own = [each for each in methods if getattr(type(rule), each) is not getattr(rules.Rule, each)]
    facts = rule.has_feedback_kernel, rule.sends_error, rule.follows_forward
    return *facts, rule.linear_in_error, *own


ONE_OF_EACH = {*QUICK, *{mechanism(rule): rule for rule in [*RULES, *QUICK]}.values()}


def is_quick(name, rule):
    """Each layer meets all products that rules take, each rule a dense layer and a convolution."""
    return rule in ("alignment", "backprop", "calibrated_mirror") or name in ("dense", "conv")


# Each layer with each rule; the second for the test that looks most closely: there each layer
# meets a rule of each mechanism in quick tests, too.
PAIRS = crossed(LAYERS, RULES, quick=is_quick)
MORE_PAIRS = crossed(
    LAYERS, RULES, quick=lambda name, rule: is_quick(name, rule) or rule in ONE_OF_EACH
)


def layer(name, rule, batch=3, **options):
    """A built layer and a batch for it."""
    make, shape = LAYERS[name]
    keras.utils.set_random_seed(0)  # the forward kernel
    made = make(rule=RULES.get(rule, rule), **{"seed": 3, **options})
    made.build((None, *shape))
    x = np.random.default_rng(0).normal(size=(batch, *shape))
    return made, tf.constant(x, made.compute_dtype)


def network(rule, dtype=None, seed=1):
    """A small network with each kind of product; the same weights each time."""
    keras.utils.set_random_seed(seed)
    options = {"rule": RULES.get(rule, rule), "dtype": dtype}
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, padding="same", activation="tanh", **options),
            layers.Conv2D(4, 1, 2, use_bias=False, **options),
            keras.layers.Flatten(),
            layers.Dense(5, "relu", **options),
            layers.Dense(3, **options),
            keras.layers.Activation("linear", dtype="float32"),
        ]
    )
    return models.wire(model)


def feedback_layers(model):
    return [each for each in model.layers if isinstance(each, layers.FeedbackLayer)]


def data(steps, batch=8, first=0):
    """The batches of `steps` steps from step `first` on."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=((first + steps) * batch, 6, 6, 2)).astype("float32")
    y = (x[..., 0].mean((1, 2)) > 0).astype("int32") + (x[:, 0, 0, 1] > 0)
    return x[first * batch :], y[first * batch :]


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compile_network(model, optimizer=None, **options):
    optimizer = keras.optimizers.SGD(0.05, 0.9) if optimizer is None else optimizer
    model.compile(optimizer, cross_entropy(), **options)
    return model


def train(model, steps, first=0):
    """Losses of `steps` steps on the data from step `first` on."""
    x, y = data(steps, first=first)
    history = model.fit(x, y, 8, shuffle=False, verbose=0).history["loss"]
    return history[-1]


def state(model):
    """All variables of model and optimizer, as arrays."""
    variables = list(model.weights) + list(model.optimizer.variables)
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assert_close(actual, expected, tolerance=0.0):
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
