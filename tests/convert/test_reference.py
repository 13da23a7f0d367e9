"""The authors' checkpoints into our networks, and every way in which that can go wrong."""

import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.convert.reference_writer import STEP, authors_values, write_checkpoint
from tests.crossing import crossed
from tests.models.golden_resnet import GOLDEN, NETWORKS, made_up_weights, weights_by_path
from tests.test_cli import full_disk
from tfcredit import convert, models
from tfcredit.cli import main
from tfcredit.convert.reference import is_transposed, our_path
from tfcredit.errors import UserError
from tfcredit.optimizers import PartitionedOptimizer

QUICK = ["resnet18", "resnet50v2"]
IO = GOLDEN / "reference_resnet18_io.npz"


@pytest.fixture(scope="module")
def values():
    return authors_values("resnet18", ["Momentum"])


@pytest.fixture(scope="module")
def written(values, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("reference") / "model.ckpt-450360", values)


@pytest.fixture(scope="module")
def model():
    return network()


def network(name="resnet18", rule="symmetric_alignment", **options):
    size = 299 if name.endswith("v2") else 128
    return models.get(name, input_shape=(size, size, 3), rule=rule, **options)


def assert_loaded(model, values):
    ours = {our_path(name): (name, value) for name, value in values.items()}
    for path, variable in weights_by_path(model).items():
        name, value = ours[path]
        np.testing.assert_array_equal(variable, value.T if is_transposed(name) else value)


def assert_logits(model, numbers):
    logits = np.asarray(model(numbers["x"], training=False))
    error = np.linalg.norm(logits - numbers["logits_inference"])
    assert error <= 1e-4 * np.linalg.norm(numbers["logits_inference"])


@pytest.mark.parametrize("name", crossed(NETWORKS, quick=QUICK.__contains__))
@pytest.mark.every(2)
def test_every_variable_of_every_network_is_loaded(name, tmp_path):
    values = authors_values(name)
    prefix = write_checkpoint(tmp_path / "model.ckpt-7", values, step=7)
    made = network(name)
    report = convert.load_reference_checkpoint(made, prefix)
    assert_loaded(made, values)
    assert (report.network, report.global_step, report.scope) == (name, 7, "")
    assert len(report.matched) == len(values) and not report.missing and not report.left_over


def test_logits_are_the_authors(tmp_path, model):
    ours = made_up_weights("resnet18")
    values = {
        name: ours[our_path(name)].T if is_transposed(name) else ours[our_path(name)]
        for name, _ in NETWORKS["resnet18"]["variables"]
    }
    convert.load_reference_checkpoint(model, write_checkpoint(tmp_path / "model.ckpt-1", values))
    assert_logits(model, np.load(IO))


@pytest.mark.skipif(
    "TFCREDIT_REFERENCE_CHECKPOINT" not in os.environ,
    reason="TFCREDIT_REFERENCE_CHECKPOINT names no checkpoint",
)
def test_a_checkpoint_of_the_authors_own_code(model):
    prefix = os.environ["TFCREDIT_REFERENCE_CHECKPOINT"]
    report = convert.load_reference_checkpoint(model, prefix)
    assert sum(path.endswith("/feedback_kernel") for path in report.matched) == 22
    assert not report.missing and not report.left_over
    numbers = Path(prefix).with_name("io.npz")
    assert_logits(model, np.load(numbers if numbers.exists() else IO))


@pytest.mark.parametrize("scope", [None, "model_0", "model_0/"])
def test_networks_in_scopes(scope, values, model, tmp_path):
    plain = {name: value for name, value in values.items() if "Momentum" not in name}
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", plain, scope="model_0/")
    report = convert.load_reference_checkpoint(model, prefix, scope=scope)
    assert report.scope == "model_0/" and not report.left_over
    assert_loaded(model, plain)


def test_one_of_several_networks(values, model, tmp_path):
    both = {f"model_0/{name}": value for name, value in values.items()}
    both |= {f"model_1/{name}": value + 1 for name, value in values.items()}
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", both)
    with pytest.raises(UserError, match="several networks: give scope, one of 'model_0/', 'model"):
        convert.load_reference_checkpoint(model, prefix)
    with pytest.raises(UserError, match="no network in scope 'model_2'"):
        convert.load_reference_checkpoint(model, prefix, scope="model_2")
    convert.load_reference_checkpoint(model, prefix, scope="model_1")
    assert_loaded(model, {name: value + 1 for name, value in values.items()})


def test_a_folder_with_its_list_of_checkpoints(written, values, model, tmp_path):
    for part in Path(written).parent.iterdir():
        shutil.copy(part, tmp_path)
    with pytest.raises(UserError, match=r"without a usable file 'checkpoint'.*450360\."):
        convert.load_reference_checkpoint(model, tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-450360"\n')
    convert.load_reference_checkpoint(model, tmp_path)
    assert_loaded(model, values)


def test_backprop_leaves_the_feedback_kernels(written, values):
    made = network(rule="backprop")
    report = convert.load_reference_checkpoint(made, written)
    assert_loaded(made, values)
    assert not report.missing
    slots = sum(name.endswith("Momentum") for name in values)
    assert f"left over in the checkpoint: {slots} Momentum, 22 backward_kernel" in str(report)


def test_feedback_kernels_that_are_not_there_are_missing(values, model, tmp_path):
    forward = {name: value for name, value in values.items() if "backward" not in name}
    before = model.get_layer("conv0").feedback_kernel.numpy()
    report = convert.load_reference_checkpoint(
        model, write_checkpoint(tmp_path / "model.ckpt-3", forward)
    )
    assert len(report.missing) == 22 and report.missing[0] == "conv0/feedback_kernel"
    np.testing.assert_array_equal(model.get_layer("conv0").feedback_kernel, before)
    assert "missing from the checkpoint: 22" in str(report)


def test_momentum_continues(written, values):
    made = network()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([STEP - 1], [0.5, 0.125])
    optimizer = keras.optimizers.SGD(schedule, 0.9)
    report = convert.load_reference_checkpoint(made, written, optimizer=optimizer)
    assert int(optimizer.iterations) == STEP and not report.missing and not report.left_over
    slots = {variable.path: variable for variable in optimizer.variables}
    assert len(report.slots) == len(made.trainable_variables)
    for path, name in report.slots.items():
        value = values[name].T if is_transposed(name) else values[name]
        np.testing.assert_allclose(slots[path], -0.125 * value, rtol=1e-6)


def test_adams_slots(tmp_path):
    values = authors_values("resnet18", ["Adam", "Adam_1"])
    made, optimizer = network(), keras.optimizers.Adam()
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", values)
    report = convert.load_reference_checkpoint(made, prefix, optimizer=optimizer)
    slots = {variable.path: variable for variable in optimizer.variables}
    assert len(report.slots) == 2 * len(made.trainable_variables) and not report.left_over
    for path, name in report.slots.items():
        value = values[name].T if is_transposed(name) else values[name]
        np.testing.assert_array_equal(slots[path], value)
        assert path.endswith("velocity" if name.endswith("Adam_1") else "momentum")


def test_slots_of_both_optimizers_of_a_pair(values, tmp_path):
    """Momentum of all that is trained, but moments of Adam of the feedback kernels."""
    of_adam = authors_values("resnet18", ["Adam", "Adam_1"])
    values = {name: value for name, value in values.items() if "backward" not in name}
    values |= {name: value for name, value in of_adam.items() if "backward" in name}
    made = network()
    optimizer = PartitionedOptimizer(keras.optimizers.SGD(0.25, 0.9), keras.optimizers.Adam())
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", values, step=3)
    report = convert.load_reference_checkpoint(made, prefix, optimizer=optimizer)
    slots = {variable.path: variable for variable in optimizer.variables}
    assert [int(each.iterations) for each in (optimizer, *optimizer.inner_optimizers)] == [3, 3, 3]
    feedback = [variable for variable in made.trainable_variables if "feedback" in variable.name]
    assert len(feedback) == 22 and not report.missing and not report.left_over
    assert len(report.slots) == len(made.trainable_variables) + len(feedback)
    for path, name in report.slots.items():
        value = values[name].T if is_transposed(name) else values[name]
        *_, word, slot = name.split("/")
        assert (word == "backward_kernel") == path.startswith("adam") == (slot != "Momentum")
        np.testing.assert_array_equal(slots[path], -0.25 * value if slot == "Momentum" else value)


def test_slots_that_are_not_there_are_missing(model, written):
    report = convert.load_reference_checkpoint(model, written, optimizer=keras.optimizers.Adam())
    assert len(report.missing) == 2 * len(model.trainable_variables)
    assert not report.slots


def refusal(model, prefix, match, **options):
    before = [value.copy() for value in model.get_weights()]
    with pytest.raises(UserError, match=match):
        convert.load_reference_checkpoint(model, prefix, **options)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_network_is_refused(written):
    refusal(network("resnet34"), written, r"holds a resnet18 .*models.get\('resnet18'\)")


def test_another_kind_of_model_is_refused(written):
    small = models.get("conv", 10, (28, 28, 1))
    refusal(small, written, "no reference residual network")


def test_another_shape_is_refused(written):
    refusal(network(classes=10), written, r"dense/forward_kernel .* \(512, 1000\).*\(512, 10\)")


def test_an_incomplete_network_is_refused(values, model, tmp_path):
    some = {name: value for name, value in values.items() if "conv0/batch_norm" not in name}
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", some)
    refusal(model, prefix, "lacks .* of the model's variables, such as")


def test_a_strange_checkpoint_is_refused(model, tmp_path):
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", {"weights": np.ones(3, "float32")})
    refusal(model, prefix, "no variable dense/forward_kernel")


@pytest.mark.parametrize("part, kept", [("index", 40), ("data-00000-of-00001", 9_000_000)])
def test_truncated_files_are_refused(part, kept, written, model, tmp_path):
    for each in Path(written).parent.iterdir():
        shutil.copy(each, tmp_path)
    file = tmp_path / f"model.ckpt-450360.{part}"
    file.write_bytes(file.read_bytes()[:kept])
    refusal(model, tmp_path / "model.ckpt-450360", "is damaged or incomplete")


def test_missing_files_are_refused(written, model, tmp_path):
    refusal(model, tmp_path / "model.ckpt-1", r"model.ckpt-1.index is missing: give the prefix")
    refusal(model, f"{written}.index", "is one file of a checkpoint: give the prefix")
    shutil.copy(f"{written}.index", tmp_path)
    refusal(model, tmp_path / "model.ckpt-450360", "is damaged or incomplete")


DIGITS = "9" * 5000
KERNEL = np.ones((1, 1, 2, 2), "float32")
HEAD = {"dense/forward_kernel": np.ones((2, 3), "float32")}
BLOCK = {"block_group1_0/conv1/forward_kernel": KERNEL}
# what a checkpoint holds -> words of the refusal
STRANGE = {
    "a long group": (HEAD | {f"block_group{DIGITS}_0/conv1/forward_kernel": KERNEL}, "no residual"),
    "a long block": (HEAD | {f"block_group1_{DIGITS}/conv1/forward_kernel": KERNEL}, "no residual"),
    "a long number": (HEAD | {f"block_group1_0/conv{DIGITS}/forward_kernel": KERNEL}, "no resid"),
    "a scalar head": ({"dense/forward_kernel": np.float32(1)} | BLOCK, "shape ()"),
    "a head of rank 1": ({"dense/forward_kernel": np.ones(3, "float32")} | BLOCK, "shape (3,)"),
    "no classes": ({"dense/forward_kernel": np.ones((2, 0), "float32")} | BLOCK, "shape (2, 0)"),
    "a scalar stem": (HEAD | BLOCK | {"conv0/forward_kernel": np.float32(1)}, "shape ()"),
    "a stem of rank 1": (HEAD | BLOCK | {"conv0/forward_kernel": KERNEL[0, 0, 0]}, "shape (2,)"),
    "an unknown depth": (HEAD | BLOCK | {"conv0/forward_kernel": KERNEL}, "resnet3"),
}


@pytest.mark.parametrize(("values", "words"), STRANGE.values(), ids=STRANGE)
def test_names_and_shapes_of_no_network_are_refused(values, words, tmp_path, capsys):
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", values)
    assert main(["import-reference", f"--checkpoint={prefix}", f"--output={prefix}.keras"]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and len(told) < 1000


@pytest.mark.parametrize("step", [np.array([1, 2]), np.float32(3), np.array("three")])
def test_a_step_that_is_no_number_is_refused(step, values, model, tmp_path):
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", values | {"global_step": step}, step=None)
    refusal(model, prefix, "global_step .* one whole number was expected")


def test_kernels_of_text_are_refused(values, model, tmp_path):
    text = values | {"conv0/forward_kernel": np.full((7, 7, 3, 64), "a")}
    refusal(model, write_checkpoint(tmp_path / "model.ckpt-3", text), "real numbers were expected")


@pytest.mark.parametrize("name", ["checkpoint", "{}.index", "{}.data-00000-of-00001"])
def test_named_pipes_are_not_waited_for(name, written, tmp_path, capsys):
    for each in Path(written).parent.iterdir():
        (tmp_path / each.name).symlink_to(each)
    name = name.format(Path(written).name)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    given = tmp_path if name == "checkpoint" else tmp_path / Path(written).name
    flags = [f"--checkpoint={given}", f"--output={tmp_path / 'made.keras'}"]
    assert main(["import-reference", *flags]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert ("is no regular file" in told) or ("without a usable file 'checkpoint'" in told)


@pytest.mark.parametrize("folder", ["lr=[0.1]", "a*b?", "#% \\x"])
def test_a_folder_of_any_name(folder, written, tmp_path):
    folder = tmp_path / folder
    folder.mkdir()
    for each in Path(written).parent.iterdir():
        name = each.name.replace("model.ckpt", "model[1]")
        (folder / name).symlink_to(each)
    prefix = folder / Path(written).name.replace("model.ckpt", "model[1]")
    assert convert.reference_network(prefix)["name"] == "resnet18"
    with pytest.raises(UserError, match="without a usable file 'checkpoint'") as told:
        convert.reference_network(folder)
    assert str(prefix) in str(told.value)
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{prefix.name}"\n')
    assert convert.reference_network(folder)["name"] == "resnet18"


def test_an_unknown_optimizer_is_refused(written, model):
    optimizer = keras.optimizers.Lion()
    refusal(model, written, "slots of Lion have no counterpart", optimizer=optimizer)


@pytest.mark.slow
def test_training_goes_on(written):
    """What is loaded is what the next step starts from."""
    made = network(classes=1000)
    optimizer = keras.optimizers.SGD(1e-8, 0.9)
    convert.load_reference_checkpoint(made, written, optimizer=optimizer)
    made.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = made.get_layer("dense").kernel.numpy()
    made.train_on_batch(tf.zeros((2, 128, 128, 3)), np.zeros(2))
    assert int(optimizer.iterations) == STEP + 1
    assert not np.array_equal(made.get_layer("dense").kernel, before)


def test_the_command(values, tmp_path, capsys):
    small = {
        name: value[..., :7] if name.startswith("dense") else value
        for name, value in values.items()
        if "Momentum" not in name
    }
    small["dense/backward_kernel"] = values["dense/backward_kernel"][:7]
    prefix = write_checkpoint(tmp_path / "model.ckpt-5", small, scope="model_0/", step=5)
    output = tmp_path / "made.keras"
    flags = [f"--checkpoint={prefix}", f"--output={output}", "--rule=symmetric_alignment"]
    assert main(["import-reference", *flags]) == 0
    printed = capsys.readouterr().out
    assert re.search("block_group1_0_conv1 +kernel, feedback_kernel", printed)
    assert "resnet18, step 5, scope model_0/" in printed
    loaded = models.load(output)
    assert loaded.input_shape == (None, 224, 224, 3) and loaded.output_shape == (None, 7)
    assert_loaded(loaded, small)
    assert main(["import-reference", *flags]) == 2
    assert "exists: choose a new file" in capsys.readouterr().err
    flags[1] = f"--output={tmp_path / 'other.keras'}"
    assert main(["import-reference", *flags, "--model=resnet34"]) == 2
    assert "holds a resnet18" in capsys.readouterr().err
    assert main(["import-reference", *flags, "--rule=mirrors"]) == 2
    assert "mirrors" in capsys.readouterr().err
    flags[1] = f"--output={tmp_path / 'no' / 'folder.keras'}"
    assert main(["import-reference", *flags]) == 2
    assert "can't be written" in capsys.readouterr().err
    assert main(["import-reference", "--output=a.h5", flags[0]]) == 2
    assert "must end in .keras" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("*keras*")) == ["made.keras"]


def test_the_commands_output_is_whole_or_not_there(written, values, tmp_path, capsys):
    output = tmp_path / "made.keras"
    flags = ["import-reference", f"--checkpoint={written}", f"--output={output}"]
    with full_disk(9_000_000):
        assert main(flags) == 2
    error = capsys.readouterr().err
    assert "can't be written" in error and "Traceback" not in error
    assert not any(tmp_path.iterdir())
    (tmp_path / ".partial-made.keras").write_bytes(b"PK")  # what a killed process leaves
    assert main(flags) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["made.keras"]
    assert_loaded(models.load(output), values)
