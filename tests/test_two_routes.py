"""The studies of the paper's claims: small runs of all, statistics and verdicts on made-up rows."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from studies import BASELINE
from studies.__main__ import main
from studies.table import read
from studies.two_routes import (
    defaults,
    depth,
    factor_mirror,
    ladder,
    mirror,
    noise,
    nonlocal_rules,
    page,
    sensitivity,
    transfer,
)
from studies.two_routes.claim import FAILS, HOLDS, OPEN, gaps, interval
from studies.two_routes.command import CLAIMS
from studies.two_routes.scales import SCALES
from studies.two_routes.trials import Table, trial
from tfcredit import layers, models, testing
from tfcredit.training import recipe
from tfcredit.training.rule_flags import rule_of

ROOT = Path(__file__).resolve().parents[1]
LAPTOP = SCALES["laptop"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "studies", "two_routes", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [("robustness",), tuple(CLAIMS)],
    ids=["one", "all"],
)
def test_studies_run_small_and_are_not_repeated(names, tmp_path):
    places = (*names, f"--results={tmp_path / 'results'}", f"--runs={tmp_path / 'runs'}")
    first = run("--scale=smoke", *places)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "results" / "smoke"
    page = (folder / "README.md").read_text()
    scale = SCALES["smoke"]
    for name in names:
        asked = CLAIMS[name].trials(scale, lambda other: read(folder / f"{other}.csv"))
        rows = read(folder / f"{name}.csv")
        assert sorted(row["flags"] for row in rows) == sorted(one.key for one in asked)
        assert all(0 <= float(row["top1"]) <= 1 for row in rows if row["finite"] == "True")
        assert f"![{name}]({name}.svg)" in page and (folder / f"{name}.svg").stat().st_size > 5000
    assert read(folder / "robustness.csv")[0]["pgd 8/255"] != ""
    again = run("--scale=smoke", *places)
    assert again.returncode == 0 and "top1" not in again.stdout
    assert (folder / "README.md").read_text() == page


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["dept"], "study 'dept' is unknown: choose of sensitivity,"),
        (
            ["transfer"],
            "the search wm_tpe_ad_ops has 0 of 2 trials at scale smoke: run the study ladder",
        ),
    ],
)
def test_bad_input(arguments, words, tmp_path, capsys):
    assert main(["two_routes", *arguments, f"--results={tmp_path}"]) == 2
    assert words in capsys.readouterr().err


def searched(step, accuracies):
    """Rows of a search that has found these accuracies on the images held out."""
    rows = []
    for accuracy in accuracies:
        row = {"step": step, "part": ladder.SEARCHED, "seed": str(len(rows))}
        row |= {"values": json.dumps(ladder.proposed(step, rows[:3])), "finite": "True"}
        rows.append(row | {"validation_top1": str(accuracy)})
    return rows


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.every(4)
def test_the_flags_of_every_run_are_known(scale):
    factor_mirror.register_rule()
    rows = {
        "sensitivity": [
            {"rule": rule, "number": str(number), "top1": "0.5", "finite": "True"}
            for rule in sensitivity.SPACES
            for number in range(scale.trials)
        ],
        "ladder": [row for step in ladder.STEPS for row in searched(step, [0.5] * scale.searched)],
    }
    keys = set()
    for study in CLAIMS.values():
        for one in study.trials(scale, lambda name: rows.get(name, [])):
            known, _ = recipe.parse(list(one.flags))
            assert known.model in models.names()
            rule_of(known)
            keys.add(one.key)
    assert len(keys) > 40


@pytest.mark.parametrize("name", [name for name in CLAIMS if name != "mirror"])
def test_every_network_has_the_baseline_but_where_factors_are_crossed(name):
    scale = dataclasses.replace(LAPTOP, searched=2 if name == "ladder" else 0)
    rows = [
        {"rule": rule, "number": str(number), "top1": "0.5", "finite": "True"}
        for rule in sensitivity.SPACES
        for number in range(scale.trials)
    ]
    trials = CLAIMS[name].trials(scale, lambda other: rows if other == "sensitivity" else [])
    networks = {one.factors["network"] for one in trials}
    mine = {one.factors["network"] for one in trials if one.factors["rule"] == BASELINE}
    assert networks and mine == networks


def test_the_list_of_commands(capsys, tmp_path):
    flags = ["--scale=imagenet", "--list", f"--results={tmp_path}"]
    assert main(["two_routes", "nonlocal", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 * 5 * 3 and not list(tmp_path.iterdir())
    assert lines[0].startswith("python run_imagenet.py --dataset=imagenet")


def test_the_list_goes_on_behind_a_study_that_needs_results_of_another(capsys, tmp_path):
    flags = ["--scale=desktop", "--list", f"--results={tmp_path}"]
    assert main(["two_routes", *flags]) == 0
    printed = capsys.readouterr()
    assert "not listed: transfer, as the search wm_tpe" in printed.err
    assert len(printed.out.splitlines()) > 300
    assert main(["two_routes", "transfer", *flags]) == 2


def test_the_runs_of_chosen_rules_only(capsys, tmp_path):
    flags = ["--scale=desktop", "--list", f"--results={tmp_path}"]
    assert main(["two_routes", "defaults", *flags, "--rules", "backprop", "tracking_mirror"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rules = [word for line in lines for word in line.split() if word.startswith("--rule=")]
    assert len(rules) == 2 * 7 * 3
    assert set(rules) == {"--rule=backprop", "--rule=tracking_mirror"}


def test_an_interval_is_students():
    found = interval([1.0, 2.0, 4.0])
    # t(0.975, 2) = 4.3027, standard error 0.8819
    assert np.allclose([found.mean, found.low, found.high], [7 / 3, -1.461, 6.128], atol=1e-3)
    assert np.isnan(interval([1.0]).low)


def made_up(network, rule, top1, seed, **more):
    row = {"network": network, "rule": rule, "seed": seed, "top1": top1, "mean_angle": 10.0}
    row |= {"finite": top1 != "", "flags": "", **more}
    return {name: str(value) for name, value in row.items()}


def test_gaps_are_paired_and_a_run_that_diverged_counts_as_chance():
    rows = [made_up("a", "backprop", value, seed) for seed, value in enumerate((0.8, 0.9))]
    rows += [made_up("a", "x", 0.6, 1), made_up("a", "x", "", 0), made_up("b", "x", 0.1, 0)]
    assert np.allclose(gaps(rows, LAPTOP, rule="x"), [30.0, 70.0])


@pytest.mark.parametrize("mirror_values, verdict", [((0.2, 0.78), HOLDS), ((0.78, 0.79), FAILS)])
def test_verdict_on_sensitivity(mirror_values, verdict):
    rows = [made_up("n", "backprop", 0.8, seed) for seed in range(3)]
    rows += [made_up("n", BASELINE, 0.5, seed) for seed in range(3)]
    for rule in sensitivity.SPACES:
        values = mirror_values if rule == "weight_mirror" else (0.78, 0.79)
        rows += [made_up("n", rule, value, n, number=n) for n, value in enumerate(values)]
    assert sensitivity.conclude(rows, LAPTOP).verdict == verdict


def test_a_search_goes_on_from_its_rows_and_ends_with_the_best():
    scale = SCALES["smoke"]
    rows = searched("information_tpe", [0.3, ""])  # the second one diverged
    first, second = (json.loads(row["values"]) for row in rows)
    assert first != second and first == json.loads(searched("information_tpe", [0.9])[0]["values"])
    asked = ladder.trials(scale, lambda name: rows[:1])
    drawn = [one for one in asked if one.factors["part"] == ladder.SEARCHED]
    mine = [one.factors for one in drawn if one.factors["step"] == "information_tpe"]
    assert [json.loads(one["values"]) for one in mine] == [first, second]
    assert len(drawn) == 1 + len(ladder.STEPS)
    assert all("--validation_examples=2000" in one.flags for one in drawn)
    found = ladder.tuned_flags("info_alignment", scale, lambda name: rows)
    assert found == ladder.flags_of("information_tpe", first)
    last = [one for one in ladder.trials(scale, lambda name: rows) if set(found) <= set(one.flags)]
    assert [one.factors["part"] for one in last] == [ladder.SEARCHED, ladder.TUNED]


@pytest.mark.parametrize("loss, verdict", [(0.01, HOLDS), (0.3, FAILS)])
def test_verdict_on_the_ladder(loss, verdict):
    rows, spread = [], np.random.default_rng(0)
    for seed in range(3):
        for step, rule in [("by hand", "backprop"), *ladder._steps()]:
            lost = loss if step == "wm_tpe_ad_ops" else 0.0
            top1 = 0.8 - lost + 0.005 * spread.standard_normal()
            more = {"step": step, "part": ladder.TUNED}
            rows.append(made_up(LAPTOP.network, rule, top1, seed, **more))
    assert ladder.conclude(rows, LAPTOP).verdict == verdict


@pytest.mark.parametrize(
    "losses, verdict", [((0.3, 0.05), HOLDS), ((0.01, 0.05), FAILS), ((None, 0.05), OPEN)]
)
def test_verdict_on_transfer(losses, verdict):
    rows, spread = [], np.random.default_rng(0)
    for network in (LAPTOP.network, *LAPTOP.targets):
        for seed in range(3):
            rows.append(made_up(network, "backprop", 0.8, seed))
            for rule, loss in zip(transfer.COMPARED, (*losses, 0.0), strict=True):
                if loss is None:
                    loss = 0.3 * (-1.0) ** seed
                lost = 0.0 if network == LAPTOP.network else loss
                top1 = 0.75 - lost + 0.01 * spread.standard_normal()
                rows.append(made_up(network, rule, top1, seed))
    assert transfer.conclude(rows, LAPTOP).verdict == verdict


@pytest.mark.parametrize("at_depth, verdict", [(0.4, HOLDS), (0.79, FAILS)])
def test_verdict_on_depth(at_depth, verdict):
    rows, spread = [], np.random.default_rng(0)
    for place, network in enumerate(LAPTOP.depths):
        for seed in range(3):
            rows.append(made_up(network, "backprop", 0.8, seed))
            for rule in depth.LOCAL:
                top1 = (at_depth if place else 0.7) + 0.005 * spread.standard_normal()
                rows.append(made_up(network, rule, top1, seed))
    assert depth.conclude(rows, LAPTOP).verdict == verdict


@pytest.mark.parametrize(
    "values, verdict",
    [((0.8, 0.79, 0.8), HOLDS), ((0.6, 0.6, 0.6), FAILS), ((0.8, 0.8, 0.6), OPEN)],
)
def test_verdict_on_non_local_rules(values, verdict):
    rows, spread = [], np.random.default_rng(0)
    for network in LAPTOP.depths:
        for seed in range(3):
            rows.append(made_up(network, "backprop", 0.8, seed))
            for rule, value in zip(
                ("symmetric_alignment", "activation_alignment"), values[:2], strict=True
            ):
                rows.append(made_up(network, rule, value + 0.005 * spread.standard_normal(), seed))
            rows.append(made_up(network, "kolen_pollack", values[2], seed))
    assert nonlocal_rules.conclude(rows, LAPTOP).verdict == verdict


def test_verdict_on_noise():
    rows, spread = [], np.random.default_rng(0)
    for rule in noise.COMPARED:
        for variance in (0.0, *LAPTOP.variances):
            for seed in range(3):
                top1 = 0.8 - (0.5 * variance if rule == "kolen_pollack" else 0.0)
                top1 += 0.005 * spread.standard_normal()
                rows.append(made_up(LAPTOP.network, rule, top1, seed, variance=variance))
    found = noise.conclude(rows, LAPTOP)
    assert found.verdict == HOLDS
    assert "Of the rules that read W or share its update `kolen_pollack` suffers most" in found.text


def test_effects_of_the_mirrors_factors():
    rows = []
    for one in mirror.trials(LAPTOP, lambda name: []):
        factors = dict(one.factors)
        if factors["rule"] == "backprop":
            continue
        angle = 60.0 - 20.0 * factors["noise"] + 0.1 * factors["seed"] * factors["noise"]
        ratio = 2.0 - 1.5 * factors["calibrated"] + 0.1 * factors["seed"] * factors["calibrated"]
        row = made_up(factors.pop("network"), factors.pop("rule"), 0.5, factors.pop("seed"))
        row |= {name: str(value) for name, value in factors.items()}
        rows.append(row | {"mean_angle": str(angle), "log_ratio": str(ratio)})
    assert np.isclose(mirror.effect(rows, LAPTOP, "noise", "mean_angle").mean, -19.9)
    assert mirror.effect(rows, LAPTOP, "centred", "mean_angle").mean == 0.0
    found = mirror.conclude(rows, LAPTOP)
    assert found.verdict == HOLDS
    assert "Misalignment: `noise`" in found.text and "Instability: `calibrated`" in found.text


@pytest.mark.every(4)
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_the_mirror_of_factors_by_hand(calibrated, centred):
    factor_mirror.register_rule()
    rule = factor_mirror.FactorMirror(calibrated=calibrated, centred=centred)
    report = testing.check_rule(rule)
    assert report.local and report.reads >= {"x", "B"}
    layer = layers.Dense(2, use_bias=False, rule=rule)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    x = np.random.default_rng(0).normal(1.0, 2.0, (5, 3)).astype("float32")
    model.fit(x, np.zeros((5, 2)), batch_size=5, verbose=0)
    seen = x - x.mean(0) if centred else x
    product = seen.T @ (seen @ w) / 5
    expected = factor_mirror.DECAY * b - factor_mirror.AMP * product
    if calibrated:
        expected = factor_mirror.DECAY * (b - product / np.mean(seen**2))
    assert np.allclose(layer.feedback_kernel, b - expected, rtol=1e-4, atol=1e-6)


def test_expected_angle_is_the_one_asked_for_where_samples_are_free():
    # 2000 units need k = 1313, 9 weights 5.25, but two outputs 1226 to tell the lag.
    dense = layers.Dense(2000, rule="calibrated_mirror")
    keras.Sequential([keras.Input((2000,)), dense])
    assert abs(defaults.expected_angle(dense) - 5.0) < 0.05
    conv = layers.Conv2D(2, 3, rule="calibrated_mirror")
    keras.Sequential([keras.Input((29, 29, 1)), conv])
    # tan^2 = g/(2 - g) (fan_in - 1) / k = 0.005025 * 8 / 1226.
    assert abs(defaults.expected_angle(conv) - np.degrees(np.arctan(0.005726))) < 1e-3


def test_rows_of_other_studies_are_used(tmp_path):
    scale = SCALES["smoke"]
    one = trial(scale, "fc", "backprop", ("--rule=backprop",), 0)
    outcomes = {"top1": 0.5, "loss": 1.0, "mean_angle": "", "finite": True, "seconds": 1.0}
    Table("first", "smoke", tmp_path).add(one, outcomes)
    other = Table("second", "smoke", tmp_path)
    assert other.row(one) is None and other.known()[one.key]["top1"] == "0.5"
    assert Table("first", "smoke", tmp_path).row(one)["seed"] == "0"


def test_verdicts_are_of_studies_that_have_been_run_to_their_end(tmp_path):
    claim, outcomes = CLAIMS["depth"], {"loss": 1.0, "mean_angle": 5.0, "finite": True}
    depth_only = {"depth": claim, "noise": CLAIMS["noise"]}
    search = Table("sensitivity", "laptop", tmp_path)
    for one in CLAIMS["sensitivity"].trials(LAPTOP, lambda name: []):
        search.add(one, outcomes | {"top1": 0.7, "seconds": 1.0})
    table = Table("depth", "laptop", tmp_path)
    trials = claim.asked(LAPTOP, tmp_path)
    for one in trials[:-1]:
        table.add(one, outcomes | {"top1": 0.8, "seconds": 1.0})
    lines = page.verdicts(depth_only, tmp_path).splitlines()
    assert lines[0] == "| study | claim | at `laptop` |" and len(lines) == 3
    so_far = f"{len(trials) - 1} of {len(trials)} runs so far"
    assert so_far in lines[2]
    page.write(depth_only, LAPTOP, tmp_path)
    text = (tmp_path / "laptop" / "README.md").read_text()
    assert f"## depth: {so_far}" in text
    assert "| resnet8 | info_alignment | 3 | 80.0 [80.0, 80.0] | 0.0 [0.0, 0.0] |" in text
    assert "| resnet56 | weight_mirror | 2 | 80.0 [80.0, 80.0] | 0.0 [0.0, 0.0] |" in text
    table.add(trials[-1], outcomes | {"top1": 0.8, "seconds": 1.0})
    lines = page.verdicts(depth_only, tmp_path).splitlines()
    assert f"**{OPEN}** ({len(trials)} runs)" in lines[2]
