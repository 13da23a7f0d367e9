"""`--model=FILE.keras` and `--model=FILE.py:FUNCTION`: networks of the user's own in runs."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest

from tests.training.test_own_images import make_tree
from tfcredit import cli, convert
from tfcredit.analysis import feedback_layers
from tfcredit.errors import UserError
from tfcredit.layers import Dense
from tfcredit.training.initial import start_from
from tfcredit.training.own_network import OwnNetwork, is_function, is_own, of_one_tensor
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe
from tfcredit.training.run import Run
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.saved import Saved
from tfcredit.training.state import variables_of
from tfcredit.training.trainer import Trainer

CODE = """
import keras


@keras.saving.register_keras_serializable("own")
class Scaled(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x


def net(classes, input_shape, seed):
    x = keras.Input(input_shape)
    y = Scaled()(x)
    y = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    y = keras.layers.Dropout(0.1, seed=seed)(y)
    return keras.Model(x, keras.layers.Dense(classes, activation="softmax")(y))


def wide(width=7):
    x = keras.Input((8, 8, 3))
    y = keras.layers.Dense(width)(keras.layers.Flatten()(x))
    return keras.Model(x, keras.layers.Softmax()(keras.layers.Dense(2)(y)))


def scaled(classes):
    x = keras.Input((8, 8, 3))
    y = keras.layers.Flatten()(keras.layers.Normalization(name="scaling")(x))
    return keras.Model(x, keras.layers.Dense(classes, name="top")(y))


def unbuilt(classes):
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(classes)])


def raises(classes):
    raise RuntimeError("no luck")


def none():
    pass


def needs(depth):
    pass


class Subclassed(keras.Model):
    def call(self, x, training=None):
        return x


NUMBER = 3
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with code, a network's file and a tree of images of two classes."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "nets.py").write_text(CODE)
    make_tree(folder / "images")
    network().save(folder / "net.keras")
    return folder


def network(classes=2, shape=(8, 8, 3), **last):
    x = keras.Input(shape)
    y = keras.layers.Rescaling(1 / 255)(x)
    y = keras.layers.Conv2D(4, 3, name="conv", kernel_initializer=keras.initializers.HeNormal(3))(y)
    y = keras.layers.BatchNormalization(name="norm")(y)
    y = keras.layers.Dropout(0.5)(keras.layers.Flatten()(y))
    return keras.Model(x, keras.layers.Dense(classes, name="top", **last)(y), name="mine")


def command(files, *flags):
    flags = ["--dataset=folder", f"--data_dir={files / 'images'}", "--batch_size=8", *flags]
    return [*flags, "--steps=3", "--learning_rate=0.01"]


def recipe(files, model, **flags):
    given = {"dataset": "folder", "data_dir": str(files / "images"), "batch_size": 8, "steps": 2}
    return Recipe(model=str(model), **given | flags)


def made(files, model, **flags):
    return Plan.of(recipe(files, model, **flags)).network()


def weights(model):
    found = variables_of("", model)
    return {name.removeprefix("/"): variable.numpy() for name, variable in found.items()}


def test_what_is_taken_for_a_network_of_ones_own():
    functions = ["net.py:make", "a/b c.py:make", "package.module:make"]
    assert all(map(is_function, functions)) and all(map(is_own, ["a/net.keras", "net.py"]))
    names = ["resnet18", "runs/12:30", "runs/a:b", "net.py:", None, "runs/net.keras/x"]
    assert not any(map(is_own, names))


@pytest.mark.slow
def test_a_run_of_a_file_goes_on_and_is_evaluated(files, tmp_path, capsys):
    flags = command(files, f"--model={files / 'net.keras'}", "--rule=kolen_pollack")
    flags += [f"--run_dir={tmp_path / 'run'}", "--augment=false", "--preprocessing=raw"]
    assert cli.train_main(flags) == 0
    told = capsys.readouterr().out
    assert "weights drawn by --seed; converted: 2 of 2 layers with kernels." in told
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["angles"]) == {"conv", "top"}
    flagfile = (tmp_path / "run" / "flags.txt").read_text()
    assert f"--model={files / 'net.keras'}\n--model_digest=" in flagfile
    stored = RunDirectory(tmp_path / "run").stored()
    assert Plan.of(stored).recipe == stored  # the same network, by the same digest
    assert cli.train_main([*flags, "--resume=must"]) == 0
    output, checkpoint = tmp_path / "found.json", tmp_path / "run" / "checkpoints" / "ckpt-3"
    assert cli.main(["evaluate", f"--model={checkpoint}", f"--output={output}"]) == 0
    found = json.loads(output.read_text())
    assert found["loss"] == pytest.approx(summary["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_function_in_a_comparison(files, tmp_path, capsys):
    flags = command(files, f"--model={files / 'nets.py'}:net", "--image_size=9")
    flags += ["--rules=backprop,kolen_pollack", "--seeds=1", f"--compare_dir={tmp_path / 'all'}"]
    assert cli.main(["compare", *flags]) == 0
    top1 = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(top1) == 3
    stated = json.loads((tmp_path / "all" / "compare.json").read_text())["flags"]
    runs = list((tmp_path / "all" / "runs").glob("*/seed0/flags.txt"))
    (digest,) = [flag for flag in stated if flag.startswith("--model_digest=")]
    assert len(runs) == 2 and all(digest in path.read_text() for path in runs)
    # The network of a run loads where its layers are known, with logits for its softmax.
    evaluate = ["evaluate", f"--model={runs[0].parent}"]
    assert cli.main([*evaluate, f"--import={files / 'nets.py'}"]) == 0


@pytest.mark.parametrize("rule", ["backprop", "info_alignment"])
def test_weights_of_a_file_are_drawn_by_the_seed(files, rule):
    first, same = (weights(made(files, files / "net.keras", rule=rule, seed=1)) for _ in range(2))
    other = weights(made(files, files / "net.keras", rule=rule, seed=2))
    file = weights(keras.saving.load_model(files / "net.keras"))
    for path, value in first.items():
        assert np.array_equal(value, same[path])
        if "kernel" in path or "seed_generator_state" in path:
            assert not np.array_equal(value, other[path])
            assert path not in file or not np.array_equal(value, file[path])


def test_rules_differ_in_nothing_else(files):
    plain, fed_back = (
        weights(made(files, files / "net.keras", rule=rule))
        for rule in ("backprop", "info_alignment")
    )
    extra = {path for path in fed_back if path not in plain}
    assert extra == {"conv/feedback_kernel", "top/feedback_kernel"}
    assert all(np.array_equal(value, fed_back[path]) for path, value in plain.items())
    layers = made(files, files / "net.keras", rule="backprop").layers
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}


def test_what_training_leaves_alone_stays(files, tmp_path):
    norm = keras.layers.Normalization(name="scaling")
    norm.adapt(np.random.default_rng(0).normal(3, 2, (50, 8, 8, 3)))
    x = keras.Input((8, 8, 3))
    frozen = keras.layers.Conv2D(4, 3, name="frozen", trainable=False)
    y = keras.layers.Dense(2, name="top")(keras.layers.Flatten()(frozen(norm(x))))
    saved = keras.Model(x, y)
    saved.save(tmp_path / "net.keras")
    found = made(files, tmp_path / "net.keras", rule="feedback_alignment")
    kept = weights(saved)
    for path, value in weights(found).items():
        if path in kept:
            assert np.array_equal(value, kept[path]) == (path not in ["top/kernel"])
    pictures = np.random.default_rng(1).normal(3, 2, (4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        found.get_layer("scaling")(pictures), norm(pictures), rtol=1e-6, atol=1e-6
    )
    assert not found.get_layer("frozen").trainable


@pytest.fixture
def adapted(tmp_path):
    """A file of the network `scaled` that was adapted, pictures, and what its first layer gives."""
    pictures = np.random.default_rng(1).normal(90, 60, (50, 8, 8, 3)).astype("float32")
    norm = keras.layers.Normalization(name="scaling")
    norm.adapt(pictures)
    layers = [norm, keras.layers.Flatten(), keras.layers.Dense(2, name="top")]
    keras.Sequential([keras.Input((8, 8, 3)), *layers]).save(tmp_path / "adapted.keras")
    return tmp_path / "adapted.keras", pictures, norm(pictures)


def test_statistics_that_come_with_weights_are_computed_with(files, adapted):
    """Keras' layer takes no notice of variables that are assigned."""
    file, pictures, expected = adapted
    found = made(files, f"{files / 'nets.py'}:scaled", image_size=8)
    start_from(found, file, False, lambda: None)
    scaled = found.get_layer("scaling")(pictures)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_statistics_of_a_run_are_computed_with_as_it_goes_on(files, adapted, tmp_path):
    file, pictures, expected = adapted
    run = tmp_path / "run"
    flags = command(files, f"--model={files / 'nets.py'}:scaled", "--preprocessing=raw")
    assert cli.train_main([*flags, f"--run_dir={run}", f"--initial_weights={file}"]) == 0
    scaled = Saved.at(run).network().get_layer("scaling")(pictures)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-6)
    trained = json.loads((run / "summary.json").read_text())["loss"]
    (again,) = Run(Recipe(run_dir=str(run), mode="evaluate")).evaluate()
    assert again["loss"] == pytest.approx(trained, rel=1e-5)


def test_weights_of_a_function_are_its_own(files):
    model = f"{files / 'nets.py'}:net"
    first, same, other = (
        weights(made(files, model, seed=seed, image_size=8)) for seed in (0, 0, 1)
    )
    assert all(np.array_equal(value, same[path]) for path, value in first.items())
    assert not np.array_equal(first["conv2d/kernel"], other["conv2d/kernel"])
    digests = {Plan.of(recipe(files, model, seed=seed)).own.digest for seed in (0, 1)}
    assert len(digests) == 1


def test_a_softmax_is_left_to_the_loss(files, tmp_path):
    file = tmp_path / "softmax.keras"
    plain = network(activation="softmax")
    plain.save(file)
    own = OwnNetwork.of(Recipe(model=str(file)))
    pictures = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(keras.ops.softmax(own.plain(pictures)), plain(pictures), rtol=1e-5)
    saved(flatten, dense(2), keras.layers.Softmax)(tmp_path)
    for model in (f"{files / 'nets.py'}:wide", file, tmp_path / "x.keras"):  # that need logits
        found = made(files, model, rule="direct_feedback_alignment")
        assert found.output_shape == (None, 2)
        assert "softmax" not in json.dumps(found.get_config(), default=str).lower()


@pytest.mark.parametrize("wrapped", [lambda y: [y], lambda y: {"logits": y}], ids=["list", "name"])
def test_an_output_in_a_list_or_by_a_name(wrapped, files, tmp_path):
    plain = network()
    given = keras.Model(plain.inputs, wrapped(plain.outputs[0]))
    given.save(tmp_path / "x.keras")
    pictures = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    found = of_one_tensor(keras.saving.load_model(tmp_path / "x.keras"))(pictures)
    np.testing.assert_allclose(found, plain(pictures), rtol=1e-5)
    fed_back = made(files, tmp_path / "x.keras", rule="kolen_pollack")
    assert fed_back(pictures).shape == (5, 2) and feedback_layers(fed_back)


def test_losses_that_layers_add_count(files, tmp_path):
    saved(flatten, lambda: keras.layers.ActivityRegularization(l2=0.01), dense(2))(tmp_path)
    plan = Plan.of(recipe(files, tmp_path / "x.keras", rule="kolen_pollack"))
    network = plan.network()
    network.compile(plan.optimizer())
    pictures = keras.random.normal((4, 8, 8, 3), seed=0)
    terms = Trainer(network).objective(pictures, np.array([0, 1, 1, 0]))
    added = 0.01 * np.square(pictures).sum() / 4  # Keras takes the mean over the batch
    assert float(terms["loss"] - terms["task"] - terms["alignment"]) == pytest.approx(added, 1e-4)


def test_flags_that_a_function_takes(files):
    found = made(files, f"{files / 'nets.py'}:wide", width=5, rule="backprop")
    assert found.get_layer("dense").units == 5
    plan = Plan.of(recipe(files, f"{files / 'nets.py'}:wide"))
    assert plan.images.input_shape == (8, 8, 3)  # the network's own size
    assert made(files, f"{files / 'nets.py'}:unbuilt", image_size=9).input_shape[1:] == (9, 9, 3)


def test_rules_by_layer_and_precision(files):
    rule = "conv: weight_mirror(amp=0.01); top: backprop"
    found = made(files, files / "net.keras", rule=rule, precision="bfloat16")
    table = convert.table(found)
    assert "weight_mirror(amp=0.01)" in table and "Dense   backprop" in table
    assert {layer.compute_dtype for layer in found.layers[1:]} == {"bfloat16"}
    assert isinstance(found.get_layer("top"), Dense)


def lambdas(folder):
    layers = [keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(2)]).save(folder / "x.keras")


def unknown(folder):
    class Own(keras.layers.Dense):
        pass

    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), Own(2)]
    keras.Sequential(layers).save(folder / "x.keras")


def two_inputs(folder):
    x, more = keras.Input((8, 8, 3)), keras.Input((3,))
    both = keras.layers.Concatenate()([keras.layers.Flatten()(x), more])
    keras.Model([x, more], keras.layers.Dense(2)(both)).save(folder / "x.keras")


def saved(*layers, shape=(8, 8, 3)):
    def save(folder):
        keras.Sequential([keras.Input(shape), *[layer() for layer in layers]]).save(
            folder / "x.keras"
        )

    return save


def of_keras_2(folder):
    saved(flatten, dense(2))(folder)
    with zipfile.ZipFile(folder / "x.keras") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["metadata.json"] = b'{"keras_version": "2.15.0"}'
    content["config.json"] = content["config.json"].replace(b"Sequential", b"Functional_")
    with zipfile.ZipFile(folder / "x.keras", "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def flatten():
    return keras.layers.Flatten()


def dense(units, **options):
    return lambda: keras.layers.Dense(units, **options)


# what makes x.keras, or the function in nets.py -> words of the refusal
MISTAKES = {
    "no class output": (saved(lambda: keras.layers.Conv2D(2, 3)), ["is no classifier", "(None, 6"]),
    "one output": (saved(flatten, dense(1)), ["is no classifier", "[(None, 1)]"]),
    "two inputs": (two_inputs, ["takes 2 inputs, but images alone"]),
    "other classes": (saved(flatten, dense(5)), ["tells 5 classes apart", "images have 2"]),
    "other shape": (saved(flatten, dense(2), shape=(8, 8, 1)), ["(8, 8, 1)", "(8, 8, 3)"]),
    "flat": (saved(dense(2), shape=(192,)), ["shape (192,)", "keras.Input"]),
    "sigmoid": (saved(flatten, dense(2, activation="sigmoid")), ["activation sigmoid", "softmax"]),
    "a loss of its own": (
        saved(flatten, dense(2, activity_regularizer="l2")),
        ["activity_regularizer", "ActivityRegularization"],
    ),
    "unknown layers": (unknown, ["can't be loaded", "--import"]),
    "lambda": (lambdas, ["can't be loaded", "--import"]),
    "of Keras 2": (of_keras_2, ["was written by Keras 2.15.0", "save_weights('old.h5')"]),
    "no file": (lambda folder: None, ["x.keras is missing"]),
    "no archive": (lambda folder: (folder / "x.keras").write_text("a"), ["is damaged"]),
    "raises": ("raises", ["nets.py:raises raises RuntimeError at line", "(no luck): mend it"]),
    "no model": ("none", ["gives None of the type NoneType", "keras.Model was expected"]),
    "needs": ("needs", ["raises TypeError", "depth"]),
    "subclassed": ("Subclassed", ["gives a Subclassed", "keras.Input(shape)"]),
    "no function": ("nett", ["has no function 'nett'", "did you mean 'net'", "wide"]),
    "a number": ("NUMBER", ["has no function 'NUMBER'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_before_any_file(mistake, files, tmp_path, capsys):
    make, words = MISTAKES[mistake]
    model = f"{files / 'nets.py'}:{make}" if isinstance(make, str) else tmp_path / "x.keras"
    if not isinstance(make, str):
        make(tmp_path)
    run = tmp_path / "run"
    assert cli.train_main(command(files, f"--model={model}", f"--run_dir={run}")) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(word in told for word in words), told
    assert not run.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model=FOLDER/net.keras", "--width=3"], ["--width=3", "contradict"]),
        (["--model=FOLDER/nets.py:net", "--l2=0.1"], ["--l2=0.1", "does not take it"]),
        (["--model=FOLDER/nets.py"], ["names no function", "nets.py:FUNCTION"]),
        (["--model=FOLDER/none.py:net"], ["none.py:net is no file"]),
        (["--model=no_such_module:net"], ["no module that Python finds"]),
        (["--model=FOLDER/net.h5"], ["is no .keras file: save what keras.saving.load_model"]),
        (["--model=FOLDER/net.keras", "--image_size=9"], ["(8, 8, 3)", "(9, 9, 3)"]),
        (["--model=FOLDER/net.keras", "--rule=none.*: backprop"], ["'none.*' fits no layer"]),
    ],
)
def test_wrong_flags(flags, words, files, tmp_path, capsys):
    flags = [flag.replace("FOLDER", str(files)) for flag in flags]
    assert cli.train_main(command(files, f"--run_dir={tmp_path / 'run'}", *flags)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(word in told for word in words), told


class Leaky(keras.layers.Layer):
    """A cell of somebody's own."""

    state_size = output_size = 3

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

    def call(self, inputs, states, training=None):
        after = 0.5 * states[0] + keras.ops.matmul(inputs, self.kernel)
        return after, [after]


def test_a_layer_that_stays_as_it_is_may_have_an_activity_regularizer():
    def checked(cell):
        x = keras.Input((4, 3))
        y = keras.layers.RNN(cell, activity_regularizer="l2", name="rnn")(x)
        network = keras.Model(x, keras.layers.Dense(2)(y))
        OwnNetwork("net", network, False, "").check(Recipe(model="net"), 2, (4, 3))

    checked(Leaky())
    x = keras.Input(batch_shape=(8, 4, 3))
    network = keras.Model(x, keras.layers.Dense(2)(keras.layers.GRU(3, stateful=True)(x)))
    with pytest.raises(UserError, match="'gru.*' of --model=net is stateful, but each batch"):
        OwnNetwork("net", network, False, "").check(Recipe(model="net"), 2, (4, 3))
    with pytest.raises(UserError, match="'rnn' of --model=net has an activity_regularizer"):
        checked(keras.layers.LSTMCell(3))


def test_a_network_that_has_changed_is_told(files, tmp_path, capsys):
    file, run = tmp_path / "net.keras", tmp_path / "run"
    network().save(file)
    flags = command(files, f"--model={file}", "--rule=backprop", f"--run_dir={run}")
    assert cli.train_main(flags) == 0
    saved(flatten, dense(2))(tmp_path)
    (tmp_path / "x.keras").replace(file)
    capsys.readouterr()
    assert cli.train_main([*flags, "--resume=auto"]) == 2
    told = capsys.readouterr().err
    assert "holds a run with another network than --model gives now" in told
    assert cli.train_main([f"--run_dir={run}", "--mode=evaluate"]) == 2
    assert "gives another network (--model_digest=" in capsys.readouterr().err


def test_a_function_that_is_evaluated(files, tmp_path):
    flags = ["--dataset=folder", f"--data_dir={files / 'images'}", "--image_size=8"]
    flags += [f"--output={tmp_path / 'found.json'}"]
    assert cli.main(["evaluate", f"--model={files / 'nets.py'}:wide", *flags]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["examples"] == 10


def test_a_module_that_is_imported_already_is_not_run_again(files, monkeypatch):
    monkeypatch.syspath_prepend(files)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    import nets

    found = OwnNetwork.of(Recipe(model="nets:wide"), 2, (8, 8, 3))
    assert sys.modules["nets"] is nets and found.plain.output_shape == (None, 2)
    with pytest.raises(UserError, match="has no function 'wid'; did you mean 'wide'"):
        OwnNetwork.of(Recipe(model="nets:wid"), 2, (8, 8, 3))
