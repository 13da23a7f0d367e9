"""What TensorBoard's dashboards of hyperparameters and custom scalars show of runs."""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from tfcredit import rules
from tfcredit.training import cli
from tfcredit.training.recipe import Recipe
from tfcredit.training.rundir import FREE

RULES = {"mirror": "info_alignment", "plain": "backprop"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run per rule; one was evaluated at its end only."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rule in RULES.items():
        flags = ["--dataset=embedded", "--model=fc", "--batch_size=1000", "--steps=2", "--seed=3"]
        mode = "train" if name == "plain" else "train_and_evaluate"
        flags += [f"--mode={mode}", f"--rule={rule}", f"--run_dir={folder / name}"]
        assert cli.main(["train", *flags]) == 0
    return folder


@pytest.fixture(scope="module")
def events(runs):
    folder = runs / "mirror" / "tensorboard"
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def plugin_data(events, tag):
    content = events.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_a_run_writes_its_flags_as_hyperparameters(events):
    written = plugin_data(events, "_hparams_/session_start_info").session_start_info.hparams
    assert written["rule"].string_value == "info_alignment"
    assert written["model"].string_value == "fc"
    assert written["seed"].number_value == 3 and written["batch_size"].number_value == 1000
    assert written["learning_rate"].number_value == pytest.approx(0.1)
    assert written["feedback_learning_rate"].number_value == pytest.approx(0.005)
    assert written["deterministic"].HasField("bool_value")
    assert not FREE & set(written)


def test_every_flag_of_a_run_has_a_column_and_five_are_shown(events):
    experiment = plugin_data(events, "_hparams_/experiment").experiment
    columns = {info.name: info for info in experiment.hparam_infos}
    assert set(columns) == set(vars(Recipe())) - FREE
    assert len(columns) == len(experiment.hparam_infos)
    shown = {name for name, info in columns.items() if info.differs}
    assert shown == {"rule", "model", "learning_rate", "batch_size", "seed"}
    assert set(columns["rule"].domain_discrete) == set(rules.names())
    assert list(columns["deterministic"].domain_discrete) == [False, True]
    assert list(columns["noise"].domain_discrete) == ["none", "normal", "uniform"]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["test/top1", "angle/mean", "test/loss"]
    assert set(metrics) <= set(events.Tags()["tensors"])


def test_every_chart_of_the_layout_has_scalars(events):
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto
    layout = layout_pb2.Layout.FromString(tf.make_ndarray(tensor).item())
    assert [category.title for category in layout.category] == ["Task", "Credit assignment"]
    for category in layout.category:
        for chart in category.chart:
            for tag in chart.multiline.tag:
                assert any(re.match(tag, written) for written in events.Tags()["tensors"]), tag


def get(address, **body):
    data = json.dumps(body).encode() if body else None
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:
        return json.load(answer)


@pytest.fixture
def board(runs):
    """The address of a TensorBoard that shows the runs."""
    program = "from tensorboard.main import run_main; run_main()"
    flags = [f"--logdir={runs}", "--port=0", "--host=127.0.0.1", "--load_fast=false"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            address = None
            for line in process.stderr:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    address = found[0]
                    break
            assert address is not None
            yield address
        finally:
            process.terminate()


def test_tensorboard_compares_the_rules(board):
    deadline = time.monotonic() + 60
    while len(get(f"{board}/data/runs")) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    request = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"]}
    columns = [{"metric": {"tag": "test/top1", "group": ""}}]
    request |= {"colParams": columns, "startIndex": 0, "sliceSize": 10}
    groups = get(f"{board}/data/plugin/hparams/session_groups", **request)["sessionGroups"]
    assert {group["hparams"]["rule"] for group in groups} == set(RULES.values())
    for group in groups:
        found = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        assert 0 < found["test/top1"] <= 1 and found["test/loss"] > 0
        assert ("angle/mean" in found) == (group["hparams"]["rule"] != "backprop")
    experiment = get(f"{board}/data/plugin/hparams/experiment", experimentName="")
    first = [info["name"] for info in experiment["hparamInfos"][:5]]
    assert first == ["batch_size", "learning_rate", "model", "rule", "seed"]
    layout = get(f"{board}/data/plugin/custom_scalars/layout")
    assert [category["title"] for category in layout["category"]] == ["Task", "Credit assignment"]
