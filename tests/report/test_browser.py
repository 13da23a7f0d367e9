"""A report in a real browser: it shows its charts in light and in dark, without a complaint."""

import dataclasses
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.browsing import BROWSER, FLAGS, chromium, needs_browser, needs_driver
from tfcredit import cli
from tfcredit.analysis.plots import COLOURS
from tfcredit.report import page as pages
from tfcredit.report.reading import StoredRun
from tfcredit.training.recipe import Recipe

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "report.html"
    assert cli.main(["report", str(trained), f"--output={output}"]) == 0
    return output


def look(page, width, scheme="light"):
    """The pixels `[height, width, 3]` of a page, and what the browser's console says of it."""
    picture = page.with_name(f"{scheme}{width}.png")
    flags = [*FLAGS, f"--user-data-dir={page.parent / 'profile'}"]
    flags += ["--enable-logging=stderr", f"--screenshot={picture}", f"--window-size={width},2000"]
    flags += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    command = [BROWSER, *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return pixels, re.findall(r"CONSOLE.*", done.stderr)


def area(pixels, colour):
    """The number of pixels of about a colour, `#rrggbb`."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(-1) <= 3).sum())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_charts(page, width, scheme):
    pixels, console = look(page, width, scheme)
    assert console == []
    assert pixels.shape[1] == width
    brightness = pixels.mean(-1)
    assert np.median(brightness) > 250 if scheme == "light" else np.median(brightness) < 30
    # Words and axes are there, in the other extreme.
    assert (brightness < 60 if scheme == "light" else brightness > 200).sum() > 2000
    assert all(area(pixels, COLOURS[rule]) > 600 for rule in ("calibrated_mirror", "backprop"))


def test_without_charts_there_is_less_to_see(page):
    bare = page.with_name("bare.html")
    bare.write_text(re.sub(r"<svg.*?</svg>", "", page.read_text(), flags=re.DOTALL))
    pixels, _ = look(bare, 400)
    assert all(0 < area(pixels, COLOURS[rule]) < 500 for rule in ("calibrated_mirror", "backprop"))


def test_the_browser_complains_of_a_script_in_a_page(page):
    changed = page.with_name("changed.html")
    changed.write_text(page.read_text().replace("</body>", "<script>alert(1)</script></body>"))
    _, console = look(changed, 400)
    assert len(console) == 1 and "Content Security Policy" in console[0]


def stored(rule, seed):
    """A run with long names and many numbers, one of which diverged."""
    ended = (rule, seed) != ("info_alignment", 0)
    recipe = Recipe(rule=rule, seed=seed, model="/home/someone/far/away/networks.py:a_network")
    rows = [{"step": n, "test_top1": n / 9, "test_loss": 1 / n, "top1": n / 8} for n in (1, 2, 3)]
    angles = [
        {"step": n, "layer": f"stem/block{k}/depthwise_convolution", "angle": 90.0 - 9 * n}
        for n in (1, 2, 3)
        for k in range(9)
    ]
    return StoredRun(
        f"runs/{rule[:60].replace(' ', '-')}/seed{seed}",
        dataclasses.replace(recipe, batch_size=len(rule)),
        "finished" if ended else "diverged",
        {"top1": 0.512, "top5": 0.934, "mean_angle": 41.0, "step": 3, "seconds": 12345.6},
        rows,
        angles,
        [{"step": n, "mean_angle": 90.0 - 9 * n} for n in (1, 2, 3)],
        [],
        [] if ended else [f"not finite: {', '.join(f'alignment_loss/{n}' for n in range(20))}."],
    )


OUTSIDE = """(() => {
  const scrolls = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
  const inside = e => e !== document.body && (scrolls(e) || inside(e.parentElement));
  const right = document.documentElement.clientWidth + 1;
  return all("body *").filter(e => !inside(e.parentElement)
    && e.getBoundingClientRect().right > right).map(e => e.outerHTML.slice(0, 80));
})()"""
"""JavaScript: what reaches beyond the window and is in nothing that scrolls."""


@needs_driver
def test_nothing_reaches_beyond_a_narrow_window(tmp_path):
    rules = [
        "backprop",
        "conv.*|stem/block1: weight_mirror(amp=0.01); dense: usf",
        "info_alignment",
    ]
    rules += [f"0.002*amp + {'9' * 90}*null"]
    runs = [stored(rule, seed) for rule in rules for seed in range(2)]
    file = tmp_path / "report.html"
    file.write_text(pages.page(runs))
    with chromium() as browser:
        for width in (1280, 400, 320):
            screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            browser.driver.get(file.as_uri())
            assert browser.ask("window.innerWidth") == width
            assert browser.ask("document.documentElement.scrollWidth") == width
            assert browser.ask(OUTSIDE) == []
        # A wide table scrolls in its place, and a rule's name stays on a line.
        assert browser.ask("all('.wide').some(e => e.scrollWidth > e.clientWidth)")
        first = "all('.wide')[0].querySelectorAll('td:first-child')"
        heights = browser.ask(f"[...{first}].map(e => e.offsetHeight)")
        assert heights[0] == heights[2] < heights[1]
