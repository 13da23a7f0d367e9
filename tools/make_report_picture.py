"""Makes docs/report.png: a report of four rules, as a browser shows it.

    python tools/make_report_picture.py

Trains the fully connected network under each rule, calls `tfcredit report`, and photographs the
top of the page. Needs the extra `plots` and a Chromium (Debian's package `chromium`); the runs take
a minute or two.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

from PIL import Image  # matplotlib needs it

PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "report.png"
RULES = ["backprop", "calibrated_mirror", "feedback_alignment", "info_alignment"]
FLAGS = ["--dataset=embedded", "--model=fc", "--epochs=6", "--learning_rate=0.02"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def tfcredit(*arguments: str) -> None:
    """Call the command line; its output is shown if it fails."""
    command = [sys.executable, "-c", "from tfcredit.cli import main; exit(main())"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tfcredit {' '.join(arguments)} failed:\n{done.stderr}")


def photograph(page: pathlib.Path, picture: pathlib.Path) -> None:
    """Write what a browser shows of a page, 1340 x 1400 pixels, light.

    Args:
        page: An HTML file.
        picture: The PNG file.

    Raises:
        SystemExit: There is no browser.
    """
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        raise SystemExit(f"None of {', '.join(BROWSERS)} is here: apt-get install chromium.")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    flags += ["--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
    flags += [f"--user-data-dir={page.parent / 'profile'}", "--window-size=1340,1400"]
    flags += ["--blink-settings=preferredColorScheme=1", f"--screenshot={picture.resolve()}"]
    subprocess.run([browser, *flags, page.as_uri()], check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)  # less than half the bytes


def main() -> None:
    """Train, report, photograph."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=PICTURE)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for rule in RULES:
            tfcredit("train", *FLAGS, f"--rule={rule}", f"--run_dir={folder}/runs/fc-{rule}")
        page = pathlib.Path(folder, "report.html")
        tfcredit("report", f"{folder}/runs", f"--output={page}")
        photograph(page, flags.output)


if __name__ == "__main__":
    main()
