"""What a user opens runs with: TensorBoard's server, and Chromium, driven by Selenium."""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
DRIVER = shutil.which("chromedriver")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--hide-scrollbars"),
]
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is there")
needs_driver = pytest.mark.skipif(
    None in (BROWSER, DRIVER, importlib.util.find_spec("selenium")),
    reason="needs Chromium, chromedriver and Selenium (apt-get install chromium chromium-driver)",
)
DEEP = """
const inside = (e, selector) => (e.shadowRoot ? all(selector, e.shadowRoot) : []);
const all = (selector, root = document) => [
  ...inside(root, selector),
  ...[...root.querySelectorAll("*")].flatMap(
    e => [...(e.matches(selector) ? [e] : []), ...inside(e, selector)]),
];
const own = e => [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data);
const words = e => all(":not(style)", e).map(i => own(i).join("").trim()).filter(Boolean);
const points = e => all("path", e).map(path => (path.getAttribute("d") ?? "").split("L").length);
"""
"""JavaScript: below an element, in shadow trees too, the elements of a CSS selector, the words, and
the number of points of every path."""


@contextlib.contextmanager
def tensorboard(folder, *flags: str) -> Iterator[str]:
    """A TensorBoard of a folder; its address."""
    program = "from tensorboard.main import run_main; run_main()"
    command = [sys.executable, "-c", program, f"--logdir={folder}", "--port=0", "--host=127.0.0.1"]
    with subprocess.Popen(
        [*command, *flags], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        try:
            found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
            yield next(filter(None, found))[0]
        finally:
            process.terminate()


class Page:
    """A browser's window.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver):
        self.driver = driver

    def open(self, address: str, size: tuple[int, int]) -> None:
        """Load a page anew, in a window of (width, height) pixels."""
        self.driver.set_window_size(*size)
        self.driver.get("about:blank")  # else a new fragment would change the old page
        self.driver.get(address)

    def ask(self, expression: str):
        """The value of a JavaScript expression in which `all(selector)` finds elements."""
        return self.driver.execute_script(f"{DEEP} return {expression};")

    def until(self, expression: str, condition=bool, seconds: float = 60):
        """The value of an expression as soon as the condition holds of it."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        found = None

        def holds(_):
            nonlocal found
            found = self.ask(expression)
            return condition(found)

        try:
            WebDriverWait(self.driver, seconds, 0.2).until(holds)
        except TimeoutException:
            raise AssertionError(f"still after {seconds} s: {expression} is {found}") from None
        return found

    def errors(self) -> list[str]:
        """What the console has called an error since the last question; warnings are none."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Page]:
    """A headless Chromium with an empty profile."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for flag in [*FLAGS, f"--user-data-dir={profile}", *flags]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        try:
            yield Page(driver)
        finally:
            driver.quit()
