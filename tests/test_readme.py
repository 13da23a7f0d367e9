"""What README.md and the configs say is so: code runs, flags exist, defaults are as stated."""

import ast
import re
from pathlib import Path

import keras
import pytest

from tfcredit import data, models, rules
from tfcredit.training import assemble
from tfcredit.training.recipe import Recipe, parse

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES += ["docs/measures.md", "docs/new_rule.md", "docs/reference_checkpoints.md"]
PAGES += ["docs/search.md", "docs/stability.md", "docs/tensorboard.md"]
# Those of ImageNet need ImageNet: tests/test_configs_imagenet.py.
CONFIGS = [p for p in sorted((ROOT / "configs").rglob("*.cfg")) if p.parent.name != "imagenet"]
FLAGS = set(vars(Recipe())) | {"help", "flagfile"}
OTHERS_FLAGS = {
    "logdir",
    "screenshots",
    "update",
    "source",
    "output",
    "checkpoint",
    *("space", "trials", "jobs", "study_dir"),
    *("scale", "list"),
}  # of TensorBoard, pytest, the studies, prepare-imagenet, import-reference, search

config = pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])


def table_after(heading):
    """The rows of the first table after a line that starts with `heading`, cell by cell."""
    lines = README[README.index(f"\n{heading}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 5
    names, printed = {}, []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
        printed.append(capsys.readouterr().out.splitlines()[-2:])  # after the progress bar
    angles, table, rule = [lines for lines in printed if lines]
    assert [line.split("_")[0].split()[0] for line in angles] == ["conv2d", "dense"]
    assert [line.split()[2] for line in table] == ["info_alignment", "weight_mirror"]
    assert rule[0] == "products beside the layer's three: 1 hebbian"
    assert len(names["again"].weights) == 6 + 1  # both kernels and bias, and the dense layer's step
    assert any((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("page", PAGES)
def test_flags_that_pages_mention_exist(page):
    mentioned = set(re.findall(r"(?<![\w-])--([a-z]\w*)", (ROOT / page).read_text()))
    assert mentioned - OTHERS_FLAGS <= FLAGS


@pytest.mark.parametrize("page", PAGES)
def test_files_and_targets_that_pages_mention_exist(page):
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|    )make ([a-z-]+)", text)) <= targets
    folders = "tfcredit|tests|configs|studies|tools|examples|docs"
    paths = set(re.findall(rf"[`=( ]((?:{folders})/[\w./]*\w)", text))
    links = set(re.findall(r"\]\((?!http)([^)#]+)", text))
    places = [ROOT / path.replace("NAME", "brsf") for path in paths]
    places += [(ROOT / page).parent / link for link in links]
    assert [place for place in places if not place.exists()] == []


def test_commands_of_the_readme_are_understood():
    commands = re.findall(r"python run_imagenet\.py ([^#`\n]*)", README)
    assert len(commands) >= 2
    for command in commands:
        arguments = command.replace("RUN/flags.txt", str(CONFIGS[0])).split()
        parse(arguments)


def test_the_table_of_rules_is_complete_and_states_the_defaults():
    stated = {}
    for names, *_, updates, defaults in table_after("| rule | primitives"):
        for name in re.findall(r"`(\w+)`", names):
            stated[name] = updates, defaults
    assert set(stated) == set(rules.names()) - {"alignment"}
    for name, (updates, defaults) in stated.items():
        rule = rules.get(name)
        values = {k.rstrip("_"): v for k, v in rule.get_config().items() if k != "variant"}
        pairs = [] if defaults == "-" else [item.split() for item in defaults.split(", ")]
        assert {key: _value(text) for key, text in pairs} == values, name
        if rule.learns and not rule.follows_forward:
            optimizer, rate = rule.feedback_optimizer
            assert updates.lower() == f"{optimizer}, rate {rate}", name


def _value(text):
    """A number, None, or else a word."""
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def test_the_table_of_primitives_is_complete():
    from tfcredit.primitives import PRIMITIVES

    assert {row[0].strip("`") for row in table_after("| primitive | R")} == set(PRIMITIVES)


def test_every_rule_has_a_config():
    stems = {path.stem for path in CONFIGS if path.parent.name == "embedded"}
    assert stems == set(rules.names()) - {"alignment", "usf"}  # usf is sign_symmetry's default


@config
def test_a_config_opens_with_what_it_is_costs_and_gives(path):
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    starts = [line.split(":")[0] for line in comments]
    assert starts[-3:] == ["# Cost", "# Result", "# Command"] and len(comments) >= 4
    assert f"--flagfile={path.relative_to(ROOT)}" in comments[-1]
    assert all(line.startswith("--") for line in lines[len(comments) :])


@config
def test_a_config_states_only_what_differs_from_the_defaults(path):
    recipe, given = parse([f"--flagfile={path}"])
    assert {name for name in given if getattr(recipe, name) == getattr(Recipe(), name)} <= {"rule"}


@config
def test_a_config_makes_a_run(path):
    recipe, given = parse([f"--flagfile={path}"])
    assert {"dataset", "rule"} <= given
    if path.parent.name == "embedded":
        assert recipe.rule == path.stem
    images = data.get(recipe.dataset, augment=False)
    recipe = assemble.complete(recipe, images)
    per_epoch = images.steps_per_epoch(recipe.batch_size)
    assert isinstance(assemble.rule_of(recipe, per_epoch), rules.Rule)
    assert recipe.model in models.names()
    assert isinstance(assemble.optimizer(recipe, per_epoch), keras.optimizers.Optimizer)
