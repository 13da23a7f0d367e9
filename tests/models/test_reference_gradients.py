"""ResNet-18 against the numbers of the authors' own code: logits, losses, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.crossing import crossed
from tests.models.golden_resnet import GOLDEN, load_made_up_weights, weights_by_path
from tfcredit import models, rules
from tfcredit.convert.reference import our_path

# Ours have the halves that the authors' primitives lack, so decay, null and sparse are doubled.
RULES = {
    "feedback": rules.FeedbackAlignment(),
    "symmetric": rules.SymmetricAlignment(decay=2e-3, self_=2e-3),
    "activation": rules.ActivationAlignment(amp=2e-3, sparse=2e-3),
    "mirror": rules.WeightMirror(amp=1e-3, decay=2e-3),
    "information": rules.InformationAlignment(amp=2e-3, null=2e-3, decay=2e-3),
    "kolen_pollack": rules.KolenPollack(decay=2e-3),
}
NUMBERS = np.load(GOLDEN / "resnet18_gradients.npz")
IO = np.load(GOLDEN / "reference_resnet18_io.npz")
TOLERANCE = 1e-4

# Four of the network's 3 million relu inputs lie within 2e-5 standard deviations of 0, on the other
# side in the authors' float32 run than in exact arithmetic. One such derivative changes the
# gradients by up to 2 %, so ours are compared with these four switched as theirs were. (Found by
# least squares on the difference: of the blocks' relus within 1e-4 of 0, some 150, these four
# have weights of 1.00 to 1.02, the others at most 0.003, and 2e-5 remains unexplained.)
AUTHORS_SIDE = {
    "block_group1_1_relu": ((0, 3, 7, 26), 0.0),
    "block_group2_0_conv1_relu": ((3, 11, 11, 106), 1.0),
    "block_group4_0_conv1_relu": ((0, 3, 0, 104), 0.0),
    "block_group4_1_relu": ((3, 2, 2, 115), 1.0),
}
# The made-up weights and the image lie on a coarse grid, so that many of the stem's outputs are
# equal up to rounding: which of them the max-pooling picks, and so which patch of the image
# reaches this one gradient, is chance. (Ours in float32 and in float64 differ by 9 %.)
TIED = {"conv0/kernel": 0.15}


class SwitchedRelu(keras.layers.Layer):
    """A relu whose derivative at one unit is given."""

    def __init__(self, unit, derivative, **options):
        super().__init__(**options)
        self.unit, self.derivative = unit, derivative

    def call(self, inputs):
        @tf.custom_gradient
        def relu(x):
            def gradient(dy):
                slope = tf.cast(x > 0, dy.dtype)
                slope = tf.tensor_scatter_nd_update(slope, [self.unit], [self.derivative])
                return dy * slope

            return tf.nn.relu(x), gradient

        return relu(inputs)


@pytest.fixture(scope="module", autouse=True)
def float64():
    """What is left is then the authors' rounding."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


def assert_close(ours, reference, what, tolerance=TOLERANCE):
    error = np.linalg.norm(np.asarray(ours, np.float64) - reference)
    assert error <= tolerance * np.linalg.norm(reference), what


def resnet18(rule, as_the_authors_switched=False):
    model = models.get("resnet18", input_shape=(128, 128, 3), rule=rule)
    if as_the_authors_switched:
        model = keras.models.clone_model(model, clone_function=switch)
    load_made_up_weights(model, "resnet18")
    return model


def switch(layer):
    """The layer anew, with the derivative of `AUTHORS_SIDE`."""
    if layer.name not in AUTHORS_SIDE:
        return layer.from_config(layer.get_config())
    unit, derivative = AUTHORS_SIDE[layer.name]
    return SwitchedRelu(unit, tf.constant(derivative, tf.float64), name=layer.name)


def forward_terms(model, activity):
    """What the authors' R holds besides ours: the same terms of the forward kernel.

    They act on nothing, as the forward kernel is behind a stop-gradient.

    Args:
        model: The model.
        activity: Layer name -> its input x in the training call.
    """
    total = 0.0
    for name, x in activity.items():
        layer = model.get_layer(name)
        kernel = tf.convert_to_tensor(layer.kernel)
        y = layer.connection.op(x, kernel)
        squares = {"decay": kernel, "sparse": y}
        n = {"decay": 1, "sparse": len(x)}
        for term, tensor in squares.items():
            coefficient = layer.rule.coefficients.get(term, 0.0)
            total += coefficient / n[term] * float(tf.nn.l2_loss(tensor))
    return total


@pytest.fixture(scope="module")
def activity():
    """Every feedback layer's input in a training call; the rule has no say in it."""
    model = resnet18("backprop")
    names = [layer.name for layer in model.layers if hasattr(layer, "rule")]
    inputs = [model.get_layer(name).input for name in names]
    probe = keras.Model(model.input, inputs)
    return dict(zip(names, probe(NUMBERS["x"], training=True), strict=True))


@tf.function(reduce_retracing=True)
def step(model, images, labels, variables):
    """Logits, the three losses and the gradients of their sum in one training call."""
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        cross_entropy = tf.reduce_mean(losses)
        total = cross_entropy + tf.add_n(model.losses)
    layers = [layer for layer in model.layers if hasattr(layer, "rule")]
    kernels = [layer.kernel for layer in layers] + [layers[-1].bias]
    l2 = 1e-4 * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(k)) for k in kernels])
    alignment = total - cross_entropy - l2
    gradients = tape.gradient(total, variables, unconnected_gradients="zero")
    return logits, cross_entropy, l2, alignment, gradients


def test_inference_gives_the_authors_logits():
    logits = resnet18("backprop")(IO["x"], training=False)
    assert_close(logits, IO["logits_inference"], "logits")


def own_tolerance(rule, path):
    if rule == "kolen_pollack":  # its B learns from the gradient of W
        path = path.replace("feedback_", "")
    return TIED.get(path, TOLERANCE)


@pytest.mark.every(4)
@pytest.mark.parametrize(
    "rule", crossed(RULES, quick=lambda rule: rule in ("symmetric", "information"))
)
def test_training_gives_the_authors_losses_and_gradients(rule, activity):
    model = resnet18(RULES[rule], as_the_authors_switched=True)
    prefix = f"{rule}/grad/"
    stored = {our_path(k.removeprefix(prefix)): k for k in NUMBERS.files if k.startswith(prefix)}
    variables = [weights_by_path(model)[path].value for path in stored]
    images, labels = NUMBERS["x"], NUMBERS["labels"]
    logits, cross_entropy, l2, alignment, gradients = step(model, images, labels, variables)

    assert_close(logits, NUMBERS["logits_training"], "logits")
    assert float(cross_entropy) == pytest.approx(NUMBERS[f"{rule}/cross_entropy"], rel=TOLERANCE)
    assert float(l2) == pytest.approx(NUMBERS[f"{rule}/l2"], rel=TOLERANCE)
    if RULES[rule].learns:
        alignment = float(alignment) + forward_terms(model, activity)
        assert alignment == pytest.approx(NUMBERS[f"{rule}/alignment"], rel=TOLERANCE)
    for (path, key), gradient in zip(stored.items(), gradients, strict=True):
        assert_close(gradient, NUMBERS[key], path, own_tolerance(rule, path))
