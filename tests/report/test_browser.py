"""A report in a real browser: it shows its charts in light and in dark, without a complaint."""

import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.browsing import BROWSER, FLAGS, needs_browser
from tfcredit import cli
from tfcredit.analysis.plots import COLOURS

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
