"""What README.md and the configs say is so: code and commands run, tables are the scripts' own."""

import importlib
import re
import tomllib

import keras
import pytest

from tests.pages import ROOT, code, commands, prose, table
from tfcredit import data, models, rules
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe, parse

README = ROOT / "README.md"
# Those of ImageNet need ImageNet: tests/test_configs_imagenet.py.
CONFIGS = [p for p in sorted((ROOT / "configs").rglob("*.cfg")) if p.parent.name != "imagenet"]

config = pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])


def test_it_is_short():
    lines = README.read_text().splitlines()
    words = [word for word in README.read_text().split() if re.search(r"\w", word)]
    outside = [word for line in prose(README) for word in line.split()]
    assert len(lines) <= 200 and len(words) <= 1200 and len(outside) <= 1000
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


def test_its_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = code(README, "python")
    assert len(blocks) == 3
    names, printed = {}, []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
        printed.append(capsys.readouterr().out.splitlines()[-2:])  # after the progress bar
    angles, layers, rule = printed
    assert [line.split("_")[0].split()[0] for line in angles] == ["conv2d", "dense"]
    assert [line.split()[2] for line in layers] == ["info_alignment", "weight_mirror"]
    assert rule[0] == "products beside the layer's three: 1 hebbian"


def test_its_quick_commands_run(tmp_path, monkeypatch, capsys):
    """The others need ImageNet, a network to install from or minutes: tests/test_pages.py."""
    pytest.importorskip("matplotlib", reason="an extra, `plots`")
    monkeypatch.chdir(tmp_path)
    module, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][
        "tfcredit"
    ].split(":")
    main = getattr(importlib.import_module(module), function)
    quick = [line.split()[1:] for line in commands(README) if line.startswith("tfcredit ")]
    quick = [words for words in quick if words[0] in ("train", "report")]
    assert len(quick) == 2 and [main(words) for words in quick] == [0, 0]
    assert "calibrated_mirror" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "runs").iterdir())) == 1 and "top-1" in capsys.readouterr().out


def test_the_demo_is_the_one_that_make_runs():
    text = (ROOT / "Makefile").read_text()
    (command,) = re.findall(r"^demo:.*\n.*python run_imagenet.py (.*)$", text, re.MULTILINE)
    recipe, _ = parse(command.replace("=configs", f"={ROOT}/configs").split())
    assert recipe.rule == "info_alignment" and recipe.dataset == "embedded"


def test_the_table_of_rules_names_all_and_no_other():
    cells = [row[-1] for row in table(README, "| family | idea")]
    names = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted(set(rules.names()) - {"alignment"}) and len(names) > 20


def test_costs_are_those_of_the_pages():
    times = table(ROOT / "docs" / "performance.md", "| network | rule")
    mine = [row for row in times if row[0] == "`resnet18@224`" and "`info_alignment" in row[1]]
    ratios = [float(row[3]) for row in mine]
    text = " ".join(prose(README))
    for ratio in (ratios[0], ratios[-1]):
        assert f"{ratio:.2f} times" in text


def test_verdicts_are_those_of_the_studies():
    rows = table(ROOT / "docs/two_routes.md", "| study | claim | at `laptop`")
    verdicts = [row[2].split("**")[1] for row in rows]
    counts = [verdicts.count(one) for one in ("holds", "does not hold", "can't be told here")]
    assert sum(counts) == len(verdicts) == 8
    says = "{} hold, {} does not, and {} cannot be told there".format(*counts)
    assert says in " ".join(prose(README))


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


@pytest.mark.every(5)
@config
def test_a_config_makes_a_run(path):
    recipe, given = parse([f"--flagfile={path}"])
    assert {"dataset", "rule"} <= given
    if path.parent.name == "embedded":
        assert recipe.rule == path.stem
    images = data.get(recipe.dataset, augment=False)
    plan = Plan.of(recipe, images)
    assert isinstance(plan.rates.scheduled(plan.rule), rules.Rule)
    assert plan.recipe.model in models.names()
    assert isinstance(plan.optimizer(), keras.optimizers.Optimizer)
