"""The job itself: own images, network and rule in one command, killed half-way and continued."""

import csv
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from tests.browsing import BROWSER
from tests.conftest import ROOT
from tests.report.test_browser import area, look
from tfcredit.analysis.plots import COLOURS

RULE = """
from tfcredit import rules


@rules.register("pulled")
class Pulled(rules.Rule):
    feedback_optimizer = ("sgd", 0.5)

    def __init__(self, strength=0.1):
        self.strength = strength

    def gradient(self, state, dy, dw):
        return self.strength * (state.feedback_kernel - state.kernel)

    def get_config(self):
        return {"strength": self.strength}
"""
RULES = ["backprop", "pulled(strength=0.5)", "feedback_alignment"]
COLUMNS = ("images_per_second",)
"""What two computations of the same may differ in."""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with 96 JPEGs of three classes, a network's file and a rule's."""
    folder = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(0)
    for number in range(96):
        path = folder / "photos" / ("high", "low", "none")[number % 3] / f"{number}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (20, 24, 3))
        half = {0: slice(0, 10), 1: slice(10, 20), 2: slice(0, 0)}[number % 3]  # of the height:
        pixels[half] += 100  # augmentation flips left and right
        Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG")
    x = keras.Input((16, 16, 3))
    y = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(x)
    y = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="second")(y)
    y = keras.layers.Dense(3, activation="softmax", name="top")(keras.layers.Flatten()(y))
    keras.Model(x, y).save(folder / "net.keras")
    (folder / "mine.py").write_text(RULE)
    return folder


def start(own, folder):
    """One command, in a process of its own."""
    flags = [f"--rules={','.join(RULES)}", "--seeds=2", "--jobs=2", f"--compare_dir={folder}"]
    flags += [f"--model={own / 'net.keras'}", f"--import={own / 'mine.py'}", "--dataset=folder"]
    flags += [f"--data_dir={own / 'photos'}", "--validation_examples=24", "--batch_size=8"]
    flags += ["--epochs=8", "--learning_rate=0.5", "--deterministic", "--checkpoint_every_steps=4"]
    return subprocess.Popen(
        [sys.executable, "-m", "tfcredit", "compare", *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-3000:]
    return output


def table(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in COLUMNS} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(own):
    """The folder of the comparison that nothing disturbed, and what was printed."""
    return own / "whole", finish(start(own, own / "whole"))


@pytest.mark.slow
def test_table_figure_and_page(whole):
    folder, printed = whole
    rows = table(folder / "compare.csv")
    assert [row["rule"] for row in rows] == RULES and {row["runs"] for row in rows} == {"2"}
    assert float(rows[0]["top1"]) > 0.6  # of three classes, by backprop
    assert float(rows[1]["mean_angle"]) < 30 < float(rows[2]["mean_angle"])
    assert all(rule in (folder / "compare.md").read_text() for rule in RULES)
    assert f"Page:   {folder / 'report.html'}" in printed
    with Image.open(folder / "compare.png") as image:
        assert image.size[0] > 600


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is there")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(whole, scheme):
    pixels, console = look(whole[0] / "report.html", 1280, scheme)
    assert console == [] and area(pixels, COLOURS["backprop"]) > 300
    brightness = np.median(pixels.mean(-1))
    assert brightness > 250 if scheme == "light" else brightness < 30


@pytest.mark.slow
def test_killed_half_way_and_continued_to_the_same_numbers(own, whole):
    folder = own / "killed"
    for place in ("pulled-strength-0.5/seed0/metrics.csv", "backprop/seed1/metrics.csv"):
        process = start(own, folder)
        deadline = time.time() + 300
        while not (folder / "runs" / place).exists():
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.02)
        process.kill()
        process.communicate()  # waits for its children too, which hold the pipe
    finish(start(own, folder))
    assert table(folder / "curves.csv") == table(whole[0] / "curves.csv")
    logs = "".join(path.read_text() for path in folder.glob("runs/*/*.log"))
    assert "Continuing at step" in logs
