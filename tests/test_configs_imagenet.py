"""The flagfiles of configs/imagenet and the cost model behind the numbers in their comments."""

import re
from pathlib import Path

import keras
import pytest

from benchmarks import products
from studies import imagenet_cost as study
from studies import imagenet_model as model
from tfcredit import models, optimizers, rules
from tfcredit.data import ImageData
from tfcredit.prepare import command as prepare
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe, parse
from tools import make_imagenet_configs as maker

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "configs" / "imagenet"
NAMES = sorted(path.name for path in FOLDER.glob("*.cfg"))
config = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def imagenet() -> ImageData:
    """What the runner knows of ImageNet, without its files."""
    return ImageData("imagenet", 1000, (224, 224, 3), 1_281_167, 50_000, source=None)


def test_the_files_are_those_that_the_tool_makes():
    made = maker.configs()
    assert len(made) == 42 and sorted(made) == NAMES
    for name, text in made.items():
        assert (FOLDER / name).read_text() == text, "run python -m tools.make_imagenet_configs"


@config
def test_a_config_is_a_recipe_of_its_network_and_rule(name, imagenet):
    recipe, given = parse([f"--flagfile={FOLDER / name}"])
    assert f"{recipe.model}_{recipe.rule}.cfg" == name
    assert recipe.model in models.names() and recipe.dataset == "imagenet"
    assert given <= {"dataset", "model", "rule", "decay", "self"}
    plan = Plan.of(recipe, imagenet)
    assert (plan.recipe.batch_size, plan.recipe.epochs, plan.steps_per_epoch) == (256, 90, 5004)
    assert plan.total_steps == 450_360  # as the published checkpoints say
    assert plan.rule.name == recipe.rule
    if recipe.rule == "symmetric_alignment":
        assert plan.rule.coefficients == {"decay": 0.002, "self": 0.002}
    assert isinstance(plan.optimizer(), keras.optimizers.Optimizer)


def test_the_learning_rate_is_the_papers(imagenet):
    recipe, _ = parse([f"--flagfile={FOLDER / 'resnet50_backprop.cfg'}"])
    rate = Plan.of(recipe, imagenet).rates.learning_rate
    rates = [float(rate(epoch * 5004 + 1)) for epoch in (5, 29, 31, 61, 81)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.0001], rel=1e-4)


@config
def test_a_config_opens_with_what_a_reader_asks(name):
    text = (FOLDER / name).read_text()
    comments = re.sub(r"\n#  +", " ", text).splitlines()
    for start in ("# Reproduces: Kunin", "# Paper's top-1: not known here.", "# Result: not run"):
        assert any(line.startswith(start) for line in comments)
    cost = model.cost(model.read_counts()[name.split("_")[0]], name[:-4].split("_", 1)[1])
    assert f"# Cost: {cost.run_flops / 1e18:.2f} EFLOP, predicted" in text
    command = re.search(r"# Command: python run_imagenet.py (.*)\n", text)[1].split()
    assert command == [f"--flagfile=configs/imagenet/{name}", "--data_dir=DIR"]
    parse([f"--flagfile={FOLDER / name}", "--data_dir=DIR"])


def test_a_config_adds_only_what_is_no_default():
    assert maker.FLAGS == {"symmetric_alignment": ("--decay=0.002", "--self=0.002")}
    assert rules.get("symmetric_alignment").coefficients == {"decay": 0.1, "self": 0.1}
    assert Recipe().decay is None


def test_counts_are_those_of_the_network():
    counts = study.count("resnet18")
    assert counts == model.read_counts()["resnet18"]
    # torchvision states 11,689,512 parameters and 1.81 GMAC for its ResNet-18, which has no
    # projection in the first group: 64 x 64 weights, 64 x 64 x 56 x 56 multiply-adds, 128 of norm.
    assert counts.trainable == 11_689_512 + 64 * 64 + 128
    assert counts.macs == pytest.approx(1.814e9 + 64 * 64 * 56 * 56, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("network", list(model.SIZES)[1:])
def test_counts_of_the_deeper_networks(network):
    assert study.count(network) == model.read_counts()[network]


@pytest.mark.parametrize(
    ("rule", "added"),
    [
        ("backprop", 0),
        ("feedback_alignment", 0),
        ("symmetric_alignment", 0),
        ("kolen_pollack", 0),
        ("weight_mirror", 1),
        ("info_alignment", 2),
        ("activation_alignment", 2),
        ("0.1*amp + 0.1*null + 0.1*sparse", 3),
    ],
)
def test_products_that_a_rule_adds(rule, added):
    assert products.added(rules.get(rule)) == added


def test_flops_are_near_the_closed_form_bounds():
    for counts in model.read_counts().values():
        base = model.cost(counts, "backprop").flops
        # The bounds 4/3 and 5/3 leave out that backprop sends no error below the first layer.
        for rule, bound in (("weight_mirror", 4 / 3), ("info_alignment", 5 / 3)):
            assert bound <= model.cost(counts, rule).flops / base <= bound + 0.02


@pytest.mark.parametrize("rule", model.RULES)
def test_checkpoint_size_is_that_of_all_variables(rule):
    network = models.get("resnet18", input_shape=(32, 32, 3), rule=rule, seed=0)
    optimizer = optimizers.get("momentum", 0.1)
    if network.get_layer("dense").rule.learns and rule != "kolen_pollack":
        feedback = optimizers.get(*rules.get(rule).feedback_optimizer)
        optimizer = optimizers.PartitionedOptimizer(forward=optimizer, feedback=feedback)
    optimizer.build(network.trainable_variables)
    stored = sum(v.value.dtype.size * v.value.shape.num_elements() for v in network.weights)
    stored += sum(v.value.dtype.size * v.value.shape.num_elements() for v in optimizer.variables)
    predicted = model.cost(model.read_counts()["resnet18"], rule).checkpoint
    assert predicted == pytest.approx(stored, rel=1e-4)


def test_the_page_holds_the_tables():
    page = (ROOT / "docs" / "imagenet.md").read_text()
    for make, _ in study.STUDY.tables:
        assert make([]) in page, "run `python -m studies imagenet_cost --update`"


def test_commands_of_the_page_are_understood():
    page = (ROOT / "docs" / "imagenet.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^    python run_imagenet\.py (.*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        parse(command.replace("configs/", f"{ROOT}/configs/").split())
    prepares = re.findall(r"tfcredit prepare-imagenet(.*)", page)
    flags = set(re.findall(r"--(\w+)", " ".join(prepares)))
    assert (
        {"source", "verify"}
        <= flags
        <= set(vars(prepare._parse(["--output=DIR", "--verify"]))) | {"check"}
    )  # sha256sum's


def test_files_that_the_page_mentions_exist():
    page = (ROOT / "docs" / "imagenet.md").read_text()
    paths = set(re.findall(r"(?:configs|examples|studies)/[\w./]*\w", page))
    assert paths and all(
        (ROOT / path.replace("NETWORK_RULE", "resnet18_backprop")).exists() for path in paths
    )


def test_the_model_agrees_with_a_run_of_others():
    """Flax' README: ResNet-50 in 4.4 h on a TPU v3-8."""
    hours = model.cost(model.read_counts()["resnet50"], "backprop").hours("TPU v3-8")
    assert hours == pytest.approx(4.4, rel=0.15)
