import functools

import keras
import numpy as np
import pytest

from tests.conformance.descriptors import QUICK, RULES
from tests.crossing import crossed
from tests.models.golden_resnet import NETWORKS, our_path, weights_by_path
from tfcredit import models, primitives, rules
from tfcredit.errors import UserError

SMALL_IMAGE = (28, 28, 1)
SMALL_NETWORKS = ["conv", "fc", "resnet8", "resnet20", "resnet32", "resnet56"]


def kernels(model):
    """All kernels, forward and feedback, by path."""
    found = weights_by_path(model).items()
    return {path: np.array(w) for path, w in found if path.endswith("kernel")}


@functools.cache
def backprop_kernels(name, shape):
    return kernels(small(name, input_shape=shape))


def feedback_layers(model):
    return {layer.name: layer for layer in model.layers if hasattr(layer, "rule")}


def small(name="resnet8", **options):
    options = {"classes": 10, "input_shape": SMALL_IMAGE, "seed": 1, **options}
    return models.get(name, **options)


def test_names_are_sorted_and_hold_every_network():
    large = [f"resnet{d}{v}" for d in (18, 34, 50, 101, 152, 200) for v in ("", "v2")]
    assert models.names() == sorted(SMALL_NETWORKS + large)


@pytest.mark.every(10)
@pytest.mark.parametrize("name", NETWORKS)
def test_resnets_have_the_authors_variables(name, monkeypatch):
    # Drawing up to 129 million random numbers would take most of the time.
    zeros = keras.initializers.Zeros()
    draw = "keras.initializers.VarianceScaling.__call__"
    monkeypatch.setattr(draw, lambda self, *shape, **options: zeros(*shape))
    model = models.get(name, input_shape=(64, 64, 3), rule="feedback_alignment", seed=1)
    expected = {our_path(n): tuple(shape) for n, shape in NETWORKS[name]["variables"]}
    expected["dense/feedback_kernel"] = expected["dense/feedback_kernel"][::-1]
    ours = weights_by_path(model)
    assert {path: tuple(w.shape) for path, w in ours.items()} == expected

    def parameters(*words, exclude=False):
        chosen = [w for p, w in ours.items() if (p.rsplit("/")[-1] in words) != exclude]
        return sum(int(np.prod(w.shape)) for w in chosen)

    not_forward = ("feedback_kernel", "moving_mean", "moving_variance")
    assert parameters("feedback_kernel") == NETWORKS[name]["feedback_parameters"]
    assert parameters(*not_forward, exclude=True) == NETWORKS[name]["forward_parameters"]


BUILT = ["resnet18v2", *SMALL_NETWORKS[:3]]
# Node perturbation takes no batch norm: test_perturbation.py.
PAIRS = crossed(BUILT, RULES, quick=lambda n, rule: n == "conv" or rule in QUICK)
PAIRS = [
    pair
    for pair in PAIRS
    if pair.values[1] != "node_perturbation" or "resnet" not in pair.values[0]
]


@pytest.mark.every(6)
@pytest.mark.parametrize("name, rule", PAIRS)
def test_every_network_is_built_with_every_rule(name, rule):
    shape = SMALL_IMAGE if name in SMALL_NETWORKS else (64, 64, 3)
    rule = RULES[rule]
    model = small(name, input_shape=shape, rule=rule)
    assert model.output_shape == (None, 10)
    taught = feedback_layers(model).values()
    depth = sum(layer.rule.has_feedback_kernel for layer in taught)
    expected = {rules.get(rule).in_network(depth)}
    if rule == "frozen":  # but for the layer at the output
        expected.add(rules.get("backprop"))
    assert {layer.rule for layer in taught} == expected
    # One builder: the rule changes nothing about the forward network.
    forward = {p: v for p, v in kernels(model).items() if "feedback" not in p}
    plain = backprop_kernels(name, shape)
    assert forward.keys() == plain.keys()
    assert all(np.array_equal(forward[p], plain[p]) for p in plain)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
@pytest.mark.every(2)
def test_small_networks_compute_finite_logits(name):
    images = np.random.default_rng(0).normal(size=(2, *SMALL_IMAGE)).astype("float32")
    logits = np.array(small(name, rule="feedback_alignment")(images, training=True))
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all() and logits.std() > 0


@pytest.mark.every(3)
@pytest.mark.parametrize("name", ["resnet8", "fc", "conv"])
def test_networks_learn_with_fit_and_are_the_same_after_saving(name, tmp_path):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(8, *SMALL_IMAGE)).astype("float32")
    model = small(name, rule={"conv0|dense0": "backprop", ".*": "symmetric_alignment"})
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(images, np.arange(8), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(images), loaded(images))
    rules_of = [[x.rule for x in feedback_layers(m).values()] for m in (model, loaded)]
    assert rules_of[0] == rules_of[1]


@pytest.mark.parametrize("name", ["resnet8", "fc", "conv"])
def test_kernels_follow_from_the_seed_and_are_independent(name):
    first, again = (kernels(small(name, rule="feedback_alignment")) for _ in range(2))
    other = kernels(small(name, rule="feedback_alignment", seed=2))
    assert any("feedback" in path for path in first)
    for path, values in first.items():
        assert np.array_equal(values, again[path])
        assert not np.array_equal(values, other[path])
    # 24 numbers of any two kernels, W and B of one layer included, differ all but surely.
    heads = [tuple((v / v.std()).ravel()[:24].round(3)) for v in first.values()]
    assert len(set(heads)) == len(heads)
    for path, values in first.items():
        if "feedback" in path:
            twin = first[path.replace("feedback_", "")]
            assert abs(np.corrcoef(values.ravel(), twin.ravel())[0, 1]) < 5 / values.size**0.5


def test_without_a_seed_keras_seed_decides():
    keras.utils.set_random_seed(7)
    first = kernels(small(seed=None))
    second = kernels(small(seed=None))
    keras.utils.set_random_seed(7)
    again = kernels(small(seed=None))
    assert np.array_equal(first["conv0/kernel"], again["conv0/kernel"])
    assert not np.array_equal(first["conv0/kernel"], second["conv0/kernel"])


def test_a_mapping_gives_rules_by_layer_name_and_the_first_match_wins():
    rule = {"conv0": "weight_mirror", "block_group[12]_.*|conv0": rules.KolenPollack(decay=0.5)}
    found = {name: layer.rule for name, layer in feedback_layers(small(rule=rule)).items()}
    assert found["conv0"] == rules.get("weight_mirror")
    assert found["block_group1_0_conv0"] == found["block_group2_0_conv2"]
    assert found["block_group1_0_conv0"] == rules.KolenPollack(decay=0.5)
    assert found["block_group3_0_conv1"] == found["dense"] == rules.get("backprop")


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "weight_mirror", "amp": 0.5},
        rules.serialize(rules.WeightMirror(amp=0.5)),
        "weight_mirror(amp=0.5)",
        rules.get("0.5*amp + 0.002*decay"),
        0.5 * primitives.amp + 0.002 * primitives.decay,
    ],
)
def test_a_single_rule_in_any_form_goes_to_all_layers(rule):
    assert {layer.rule for layer in feedback_layers(small(rule=rule)).values()} == {rules.get(rule)}


def test_batch_norm_is_the_papers():
    def norms(name, **options):
        model = small(name, input_shape=(32, 32, 3), **options)
        return [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]

    for name, momentum in (("resnet18", 0.9), ("resnet50", 0.9), ("resnet18v2", 0.997)):
        assert {(n.momentum, n.epsilon) for n in norms(name)} == {(momentum, 1e-5)}
    last = {"resnet18": "conv2", "resnet50": "conv3", "resnet50v2": "none"}
    for name, convolution in last.items():
        for norm in norms(name):
            starts_at_zero = f"_{convolution}_batch" in norm.name
            assert np.array(norm.gamma)[0] == (0 if starts_at_zero else 1)
    assert {n.synchronized for n in norms("resnet20", sync_batch_norm=True)} == {True}


@pytest.mark.parametrize(
    ("name", "layer", "std"),
    [
        ("resnet18", "block_group4_1_conv2", (1 / (9 * 512)) ** 0.5),
        ("resnet18", "dense", 0.01),
        ("resnet18v2", "dense", (2 / (512 + 1000)) ** 0.5),
    ],
)
def test_both_kernels_start_with_the_papers_scale(name, layer, std):
    layer = models.get(name, input_shape=(32, 32, 3), rule="feedback_alignment").get_layer(layer)
    for kernel in (layer.kernel, layer.feedback_kernel):
        assert np.array(kernel).std() == pytest.approx(std, rel=0.02)


def test_strides_sit_where_the_paper_has_them():
    model = models.get("resnet50", input_shape=(64, 64, 3))
    layers = feedback_layers(model)
    strided = {name for name, layer in layers.items() if getattr(layer, "strides", (1,))[0] > 1}
    groups = [f"block_group{g}_0_conv" for g in (2, 3, 4)]
    assert strided == {"conv0"} | {g + "0" for g in groups} | {g + "2" for g in groups}
    assert {layers[name].padding for name in strided} == {"valid"}
    assert {x.padding for n, x in layers.items() if n not in {*strided, "dense"}} == {"same"}
    assert model.get_layer("conv0_pad").padding == ((3, 3), (3, 3))
    assert model.get_layer("final_avg_pool").input.shape == (None, 2, 2, 2048)


@pytest.mark.parametrize("image", [(28, 28, 1), (27, 29, 3)])
def test_small_resnets_shrink_the_image_twice(image):
    model = models.get("resnet20", classes=10, input_shape=image, width=8)
    assert model.get_layer("final_avg_pool").input.shape == (None, 7, (image[1] + 3) // 4, 32)
    assert len(feedback_layers(model)) == 20 + 3  # and three projections


def test_l2_penalises_forward_kernels_and_the_resnets_dense_bias_only():
    for name, l2, bias in (("resnet8", None, True), ("resnet8", 0.5, True), ("fc", None, False)):
        model = small(name, l2=l2, rule="feedback_alignment")
        strength = l2 or {"resnet8": 1e-4, "fc": 1e-6}[name]
        decayed = 0.0
        for layer in feedback_layers(model).values():
            decayed += np.sum(np.array(layer.kernel) ** 2)
            if bias and layer.bias is not None:
                layer.bias.assign(np.ones(layer.bias.shape))
                decayed += np.prod(layer.bias.shape)
        expected = strength * decayed / 2
        np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-5)
    assert not small("conv").losses
    assert not small("resnet8", l2=0).losses


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ({}, [256, 256, 256]),
        ({"widths": 32, "depth": 5}, [32] * 5),
        ({"widths": [40, 30]}, [40, 30]),
        ({"depth": 0}, []),
    ],
)
def test_fc_takes_widths_and_depth(options, widths):
    layers = feedback_layers(small("fc", activation="tanh", **options))
    assert list(layers) == [f"dense{i}" for i in range(len(widths))] + ["dense_output"]
    assert [layer.units for layer in layers.values()] == [*widths, 10]
    activations = [layer.activation for layer in layers.values()]
    assert activations == [keras.activations.tanh] * len(widths) + [keras.activations.linear]


def test_conv_has_three_convolutions_and_a_dense_layer():
    assert list(feedback_layers(small("conv"))) == ["conv0", "conv1", "conv2", "dense"]
    assert small("conv", activation="sigmoid").get_layer("conv2").activation.__name__ == "sigmoid"


MISTAKES = {
    "unknown model": ({"name": "resnet19"}, "Unknown model 'resnet19'.*'resnet18'.*resnet20"),
    "no name": ({"name": ["fc"]}, "Unknown model"),
    "a file": ({"name": "net.keras"}, "Unknown model 'net.keras'.*convert.to_feedback"),
    "unknown option": ({"name": "fc", "width": 3}, "no option 'width'.*'widths'.*depth"),
    "option of another": ({"name": "resnet18", "width": 3}, "no option 'width'.*sync_batch_norm"),
    "the builder's own": ({"name": "resnet18", "architecture": 3}, "no option 'architecture'"),
    "rank": ({"input_shape": (28, 28)}, r"input_shape=\(28, 28\).*height, width, channels"),
    "batch included": ({"input_shape": (None, 28, 28, 1)}, "without the batch"),
    "unknown size": ({"input_shape": (None, None, 3)}, "input_shape="),
    "no shape": ({"input_shape": 28}, "input_shape=28"),
    "too small": ({"name": "resnet50", "input_shape": SMALL_IMAGE}, "too small.*32x32.*resnet20"),
    "too small for conv": ({"name": "conv", "input_shape": (3, 9, 1)}, "too small.*4x4"),
    "one class": ({"classes": 1}, "classes=1 "),
    "half a class": ({"classes": 2.5}, "classes=2.5"),
    "negative l2": ({"l2": -1e-4}, "l2=-0.0001"),
    "unknown rule": ({"rule": "weight_miror"}, "weight_mirror"),
    "unmatched": ({"rule": {"conv": "backprop"}}, "'conv' fits no layer.*'conv0' or 'dense'"),
    "no regex": ({"rule": {"conv(": "backprop"}}, "no regular expression"),
    "no width": ({"width": 0}, "width=0"),
    "widths and depth": ({"name": "fc", "widths": [3, 4], "depth": 3}, "states 2 hidden layers"),
    "no widths": ({"name": "fc", "widths": [3, 0]}, "positive whole numbers"),
    "no depth": ({"name": "fc", "depth": -1}, "depth=-1"),
    "activation": ({"name": "conv", "activation": "rellu"}, "Unknown activation 'rellu'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_sentence(mistake):
    arguments, message = MISTAKES[mistake]
    arguments = {"name": "resnet8", "classes": 10, "input_shape": SMALL_IMAGE, **arguments}
    with pytest.raises(UserError, match=message):
        models.get(**arguments)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(UserError, match="set_image_data_format"):
            small()
    finally:
        keras.config.set_image_data_format("channels_last")
