"""What TensorBoard shows of runs: what they write, what its server and its pages make of it.

    python -m pytest -n0 tests/training/test_tensorboard.py --screenshots=docs

makes the pictures in docs/ again.
"""

import io
import json
import re
import time
import urllib.request

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from tests.browsing import chromium, needs_driver, tensorboard
from tfcredit import cli, rules
from tfcredit.training import tensorboard as dashboards
from tfcredit.training.flags import of_scope
from tfcredit.training.recipe import Recipe

RULES = ["info_alignment", "calibrated_mirror", "backprop"]
SMALL = ["--dataset=embedded", "--model=fc", "--batch_size=500", "--epochs=4", "--seed=3"]
SMALL += ["--learning_rate=0.003", "--measures", "--measure_every_steps=8", "--histograms"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run per rule; one was evaluated at its end only."""
    folder = tmp_path_factory.mktemp("runs")
    for rule in RULES:
        mode = "train" if rule == "info_alignment" else "train_and_evaluate"
        flags = [*SMALL, f"--mode={mode}", f"--rule={rule}", f"--run_dir={folder / rule}"]
        assert cli.main(["train", *flags]) == 0
    return folder


@pytest.fixture(scope="module")
def events(runs):
    folder = runs / "info_alignment" / "tensorboard"
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def plugin_data(events, tag):
    content = events.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_a_run_writes_its_flags_as_hyperparameters(events):
    written = plugin_data(events, "_hparams_/session_start_info").session_start_info.hparams
    assert written["rule"].string_value == "info_alignment"
    assert written["model"].string_value == "fc"
    assert written["seed"].number_value == 3 and written["batch_size"].number_value == 500
    assert written["learning_rate"].number_value == pytest.approx(0.003)
    assert written["feedback_learning_rate"].number_value == pytest.approx(0.005)
    assert written["deterministic"].HasField("bool_value")
    assert set(written) <= set(of_scope(Recipe, "run"))


def test_every_flag_of_a_run_has_a_column_and_five_are_shown(events):
    experiment = plugin_data(events, "_hparams_/experiment").experiment
    columns = {info.name: info for info in experiment.hparam_infos}
    assert set(columns) == set(of_scope(Recipe, "run"))
    assert len(columns) == len(experiment.hparam_infos)
    shown = {name for name, info in columns.items() if info.differs}
    assert shown == {"rule", "model", "learning_rate", "batch_size", "seed"}
    assert set(columns["rule"].domain_discrete) == set(rules.names())
    assert list(columns["deterministic"].domain_discrete) == [False, True]
    assert list(columns["noise"].domain_discrete) == ["none", "normal", "uniform"]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["test/top1", "angle/mean", "test/loss"]
    assert set(metrics) <= set(events.Tags()["tensors"])


CATEGORIES = {
    "Task": ["top-1", "loss", "learning rates"],
    "Credit assignment": [
        *("mean angle of W and B, degrees", "angle of W and B, degrees", "|B| / |W|", "R"),
    ],
    "Errors against backprop": [
        *("mean angle of errors, degrees", "angle of errors, degrees"),
        *("mean angle of gradients, degrees", "angle of gradients, degrees"),
        "|error| / |backprop's|",
    ],
}


def test_every_chart_of_the_layout_has_scalars(events):
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto
    layout = layout_pb2.Layout.FromString(tf.make_ndarray(tensor).item())
    found = {
        category.title: [chart.title for chart in category.chart] for category in layout.category
    }
    assert found == CATEGORIES
    for category in layout.category:
        for chart in category.chart:
            for tag in chart.multiline.tag:
                matches = [name for name in events.Tags()["tensors"] if re.match(tag, name)]
                assert matches, tag
                assert len(matches) == 1 or not any("mean" in name for name in matches)


def test_without_measures_no_chart_waits_for_them(tmp_path):
    dashboards.write_start(tmp_path, Recipe())
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto
    layout = layout_pb2.Layout.FromString(tf.make_ndarray(tensor).item())
    assert [category.title for category in layout.category] == [*CATEGORIES][:2]


def get(address, **body):
    data = json.dumps(body).encode() if body else None
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def board(runs):
    """The address of a TensorBoard that has read the runs."""
    with tensorboard(runs) as address:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            scalars = get(f"{address}/data/plugin/scalars/tags")
            images = get(f"{address}/data/plugin/images/tags")
            if len(images) == len(RULES) == sum("test/top1" in tags for tags in scalars.values()):
                break
            time.sleep(0.2)
        yield address


def test_tensorboard_compares_the_rules(board):
    request = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"]}
    columns = [{"metric": {"tag": "test/top1", "group": ""}}]
    request |= {"colParams": columns, "startIndex": 0, "sliceSize": 10}
    groups = get(f"{board}/data/plugin/hparams/session_groups", **request)["sessionGroups"]
    assert {group["hparams"]["rule"] for group in groups} == set(RULES)
    for group in groups:
        found = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        assert 0 < found["test/top1"] <= 1 and found["test/loss"] > 0
        assert ("angle/mean" in found) == (group["hparams"]["rule"] != "backprop")
    experiment = get(f"{board}/data/plugin/hparams/experiment", experimentName="")
    first = [info["name"] for info in experiment["hparamInfos"][:5]]
    assert first == ["batch_size", "learning_rate", "model", "rule", "seed"]
    layout = get(f"{board}/data/plugin/custom_scalars/layout")
    assert [category["title"] for category in layout["category"]] == [*CATEGORIES]


@pytest.fixture
def keep(request):
    """A function that keeps a picture of a page for the documentation, if asked to."""
    folder = request.config.getoption("--screenshots")

    def keep(page, name):
        if folder is not None:
            from PIL import Image

            with Image.open(io.BytesIO(page.driver.get_screenshot_as_png())) as image:
                few = image.convert("RGB").quantize(96)  # colours: a third of the size
                few.save(f"{folder}/tensorboard_{name}.png", optimize=True)

    return keep


@needs_driver
def test_a_browser_shows_every_dashboard(board, runs, keep):
    results = {rule: json.loads((runs / rule / "summary.json").read_text()) for rule in RULES}
    with chromium() as page:
        shows_time_series(page, board, results)
        keep(page, "time_series")
        shows_custom_scalars(page, board)
        keep(page, "custom_scalars")
        shows_hyperparameters(page, board, results)
        keep(page, "hparams")
        shows_images(page, board)
        keep(page, "images")
        shows_histograms(page, board)
        keep(page, "histograms")
        assert page.errors() == []  # none is TensorBoard's own: there is no exception
        page.ask("console.error('and errors are seen')")
        assert len(page.errors()) == 1


def shows_time_series(page, board, results):
    """A card per tag, with a line per run and the last values."""
    # As pictures of vectors, not of WebGL, lines can be looked at.
    query = "?smoothing=0&forceSVG=true&tagFilter=^test/top1|^(error_)%3Fangle/mean#timeseries"
    page.open(f"{board}/{query}", (1400, 900))
    page.until("all('scalar-card').length", lambda count: count == 3)
    lines = "all('scalar-card').map(card => points(all('line-chart', card)[0]).filter(n => n > 3))"
    page.until(lines, lambda found: [len(drawn) for drawn in found] == [2, 3, 2])
    assert all(n == 13 for n in page.ask(lines)[0])  # steps 0, 8, ... 96
    page.ask("all('[aria-label=\"Toggle settings side pane\"]')[0].click()")
    cards = page.ask("all('scalar-card').map(words)")
    for rule, result in results.items():
        angle, _, top1 = [dict(zip(card, card[1:], strict=False)) for card in cards]
        assert float(top1[f"{rule}/tensorboard"]) == pytest.approx(result["top1"], abs=1e-4)
        if rule != "backprop":
            shown = float(angle[f"{rule}/tensorboard"])
            assert shown == pytest.approx(result["mean_angle"], abs=1e-3)


def shows_custom_scalars(page, board):
    """A chart with its title and lines for each in the layout."""
    page.open(f"{board}/#custom_scalars&_smoothingWeight=0", (1500, 1150))
    cards = "all('tf-custom-scalar-multi-line-chart-card')"
    page.until(f"{cards}.length", lambda count: count == sum(map(len, CATEGORIES.values())))
    titles = page.ask(f"{cards}.map(card => words(card)[0])")
    assert titles == sum(CATEGORIES.values(), [])
    lines = f"{cards}.map(card => points(all('vz-line-chart2', card)[0]).filter(n => n > 2).length)"
    page.until(lines, all)


def shows_hyperparameters(page, board, results):
    """A row per run, with its rule and results."""
    page.open(f"{board}/#hparams", (1400, 560))
    cells = "all('vaadin-grid-cell-content').map(cell => cell.innerText.trim()).filter(Boolean)"
    found = page.until(cells, lambda found: set(RULES) <= set(found))
    heads = ["batch_size", "learning_rate", "model", "rule", "seed", "top-1"]
    assert found[2 : 2 + len(heads)] == heads
    for rule, result in results.items():
        row = found[found.index(rule) :]
        assert float(row[2]) == pytest.approx(result["top1"], abs=1e-4)
    # What is the same in all runs needs no column.
    boxes = "all('paper-checkbox').filter(box => SAME.includes(own(box).join('').trim()))"
    boxes = boxes.replace("SAME", "['batch_size', 'learning_rate', 'seed']")
    page.ask(f"{boxes}.forEach(box => box.click())")
    assert page.until(cells, lambda found: "seed" not in found)[2:5] == ["model", "rule", "top-1"]


def shows_images(page, board):
    """Heat maps that have arrived."""
    page.open(f"{board}/#images", (1400, 900))
    widths = "all('tf-image-loader').map(card => all('img', card).map(image => image.naturalWidth))"
    page.until(widths, lambda found: len(found) >= 5 and all(width == [768] for width in found))
    assert {"angle", "error_angle"} <= set(page.ask("words(all('tf-image-dashboard')[0])"))


def shows_histograms(page, board):
    """Both kernels of the layers, an outline per epoch and the start."""
    page.open(f"{board}/#histograms", (1400, 900))
    outlines = "all('vz-histogram-timeseries').map(e => points(e).filter(n => n > 9).length)"
    page.until(outlines, lambda found: found and min(found) >= 5)
