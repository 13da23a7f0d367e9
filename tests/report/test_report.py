"""The command `tfcredit report` on real runs, and on what may be wrong with run directories."""

import fcntl
import html.parser
import json
import re
import shutil
import sys
from xml.etree import ElementTree

import pytest
import tensorflow as tf

from tfcredit import analysis, cli
from tfcredit.analysis.plots import COLOURS
from tfcredit.report import find_runs
from tfcredit.report.groups import grouped
from tfcredit.report.page import page


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of the two runs that a test may damage."""
    folder = tmp_path / "runs"
    shutil.copytree(trained, folder)
    return folder


def report(output, *paths):
    assert cli.main(["report", *map(str, paths), f"--output={output}"]) == 0
    return output.read_text(encoding="utf-8")


class Page(html.parser.HTMLParser):
    """The words, tags and rows of tables of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.rows = [], [], []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self._in_cell = False

    def handle_data(self, data):
        self.words.append(data)
        if self._in_cell:
            self.rows[-1][-1] += data

    def table(self):
        """The table of results: a dict per run."""
        return [
            dict(zip(self.rows[0], row, strict=True))
            for row in self.rows[1:]
            if len(row) == len(self.rows[0])
        ]


def lines(text):
    """The lines with a marker or more than one point in a page's figures, by colour."""
    found = {}
    for start in text.split("<svg")[1:]:
        svg = ElementTree.fromstring("<svg" + start[: start.index("</svg>")] + "</svg>")
        for path in svg.iter("{http://www.w3.org/2000/svg}path"):
            style = path.get("style", "")
            if "fill: none" in style and "stroke: #" in style:
                colour = style.split("stroke: ")[1][:7]
                found.setdefault(colour, []).append(path.get("d").split())
    return found


def test_a_report_tells_results_curves_and_angles(runs, tmp_path, capsys):
    text = report(tmp_path / "report.html", runs)
    assert "2 run(s)" in capsys.readouterr().out
    page = Page(text)
    table = page.table()
    assert [row["run"].split()[1] for row in table] == ["mirror", "plain"]
    for row, name in zip(table, ("mirror", "plain"), strict=True):
        summary = json.loads((runs / name / "summary.json").read_text())
        assert row["rule"] == summary["rule"] and row["model"] == "fc" and row["seed"] == "0"
        assert row["top-1, %"] == f"{100 * summary['top1']:.1f}"
        assert row["top-5, %"] == f"{100 * summary['top5']:.1f}"
        assert row["seconds"] == f"{summary['seconds']:.1f}" and row["state"] == "finished"
        assert f"keras {summary['versions']['keras']}" in "".join(page.words)
        angle = summary["mean_angle"]
        assert row["mean angle, °"] == ("-" if angle is None else f"{angle:.1f}")
    assert [tag for tag, _ in page.tags].count("svg") == 3 + 1  # curves, and a map of the mirror
    for layer in ("dense0", "dense1", "dense2", "dense_output"):
        assert layer in page.words
    drawn = lines(text)
    # Test and training in two charts; the mirror's angle besides.
    assert len(drawn[COLOURS["calibrated_mirror"]]) == 5 and len(drawn[COLOURS["backprop"]]) == 4


def test_a_page_needs_no_network_and_runs_no_script(runs, tmp_path):
    page = Page(report(tmp_path / "report.html", runs))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "img"}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:image/png"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["xlink:href"] for _, a in page.tags if a.get("xlink:href", "").startswith("#")}
    assert {target[1:] for target in targets} <= set(ids)


def test_angles_come_from_the_event_files(runs):
    mirror, plain = find_runs([runs])
    summary = json.loads((runs / "mirror" / "summary.json").read_text())
    assert plain.angles == [] == plain.mean_angles
    assert {r["step"] for r in mirror.angles} == {0, 12, 24}
    last = {r["layer"]: r["angle"] for r in mirror.angles if r["step"] == 24}
    assert last == pytest.approx(summary["angles"], abs=1e-3)
    assert mirror.mean_angles[-1]["mean_angle"] == pytest.approx(summary["mean_angle"], abs=1e-3)
    assert [row["step"] for row in mirror.rows] == [12, 24] and mirror.notes == []


def test_angles_of_errors_come_from_the_measures(runs, tmp_path):
    records = [
        {"step": step, "layer": layer, "rule": "calibrated_mirror", "error_angle": float(step)}
        for step in (0, 24)
        for layer in ("dense0", "1")
    ]
    kernels = {"step": 0, "layer": "dense0", "rule": "calibrated_mirror", "angle": 90.0}
    analysis.write_csv([kernels, *records], runs / "mirror" / "measures.csv")
    run = find_runs([runs / "mirror"])[0]
    assert run.error_angles == records and run.notes == []
    page = Page(report(tmp_path / "report.html", runs))
    assert [tag for tag, _ in page.tags].count("svg") == 3 + 1 + 1
    assert "Angle of the errors and those of backprop, layer by layer" in page.words
    (runs / "mirror" / "measures.csv").write_text("step,layer,error_angle\nx,y,z\n")
    text = report(tmp_path / "report.html", runs)
    assert "measures.csv is damaged" in text and "Angle of the errors" not in text


def test_runs_are_found_once_and_named_below_what_they_share(runs):
    found = find_runs([runs / "plain", runs, runs / "mirror" / ".." / "plain"])
    assert [run.name for run in found] == ["plain", "mirror"]
    assert [run.name for run in find_runs([runs / "plain"])] == ["plain"]


def test_flags_that_differ_are_told(runs, tmp_path):
    flags = runs / "plain" / "flags.txt"
    flags.write_text(flags.read_text().replace("--batch_size=1000", "--batch_size=500"))
    page = Page(report(tmp_path / "report.html", runs))
    assert ["run", "batch_size"] in page.rows
    assert [row[1] for row in page.rows[-2:]] == ["1000", "500"]


@pytest.fixture
def seeds(runs):
    """Four runs: two rules with the seeds 0 and 1, of which the mirror's second diverged."""
    for name in ("mirror", "plain"):
        (runs / name).rename(runs / f"{name}0")
        shutil.copytree(runs / f"{name}0", runs / f"{name}1")
        for file in ("flags.txt", "summary.json"):
            path = runs / f"{name}1" / file
            path.write_text(path.read_text().replace("--seed=0", "--seed=1"))
    (runs / "mirror1" / "summary.json").unlink()
    (runs / "mirror1" / "diverged.txt").write_text("at step 13")
    metrics = runs / "mirror1" / "metrics.csv"
    head, *rows = metrics.read_text().splitlines()
    place = head.split(",").index("test_loss")
    cells = [row.split(",") for row in rows]
    cells[-1][place] = "1e30"
    metrics.write_text("\n".join([head, *map(",".join, cells)]) + "\n")
    return runs


def test_runs_that_differ_in_their_seed_are_one_row_and_one_line(seeds, tmp_path):
    text = report(tmp_path / "report.html", seeds)
    page = Page(text)
    rows = {row["rule"].split()[-1]: row for row in page.table()}
    assert set(rows) == {"calibrated_mirror", "backprop"}
    top1 = json.loads((seeds / "mirror0" / "summary.json").read_text())["top1"]
    plain = json.loads((seeds / "plain0" / "summary.json").read_text())["top1"]
    mirror, backprop = rows["calibrated_mirror"], rows["backprop"]
    assert (mirror["runs"], mirror["diverged"]) == ("1", "1")
    assert (backprop["runs"], backprop["gap, points"]) == ("2", "-")
    assert mirror["test top-1, %"] == f"{100 * top1:.1f}"
    assert float(mirror["gap, points"]) == pytest.approx(100 * (plain - top1), abs=0.06)
    states = [row[8] for row in page.rows if len(row) == 11 and row[0] != "run"]
    assert sorted(states) == ["diverged", "finished", "finished", "finished"]
    # The dotted line of the run that diverged leaves the picture.
    assert not re.search(r"\b1e30\b", text) and "Dotted lines up to a cross" in text
    assert [tag for tag, _ in page.tags].count("svg") == 3 + 1


def test_groups_of_one_rule_are_named_by_what_differs(seeds):
    for name in ("mirror0", "mirror1"):
        flags = seeds / name / "flags.txt"
        text = flags.read_text().replace("--rule=calibrated_mirror", "--rule=backprop")
        flags.write_text(text.replace("--batch_size=1000", "--batch_size=500"))
    names = [group.name for group in grouped(find_runs([seeds]))]
    assert all(name.startswith("backprop (") for name in names)
    assert "batch_size=500" in names[0] and "batch_size=1000" in names[1]


def test_different_data_sets_are_warned_of(runs, tmp_path):
    assert "different data sets" not in report(tmp_path / "report.html", runs)
    flags = runs / "plain" / "flags.txt"
    flags.write_text(flags.read_text().replace("--dataset=embedded", "--dataset=<b>cifar10"))
    text = report(tmp_path / "report.html", runs)
    assert "different data sets (&lt;b&gt;cifar10, embedded)" in text


def test_a_run_without_summary_is_told(runs, tmp_path):
    (runs / "mirror" / "summary.json").unlink()
    row = Page(report(tmp_path / "report.html", runs)).table()[0]
    assert row["state"] == "not finished" and row["step"] == "24" and row["seconds"] == "-"
    assert float(row["top-1, %"]) > 0 and float(row["mean angle, °"]) < 45
    with (runs / "mirror" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = report(tmp_path / "report.html", runs)
    assert Page(text).table()[0]["state"] == "in progress"
    assert "mirror: in progress: no summary.json" in text


def test_a_run_that_has_just_begun_is_told(runs, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(runs / "mirror" / "flags.txt", begun)
    text = report(tmp_path / "report.html", begun)
    assert "begun: no epoch has been written." in text
    assert text.count("No run has such numbers.") == 3 and "<svg" not in text


# what becomes of the table -> steps that are left, words of the note
DAMAGES = {
    "cut in a row": (lambda text: text[:-9], [12], "in the middle of a row"),
    "cut in the first row": (lambda text: text[:300], [], "in the middle of a row"),
    "cut in the head": (lambda text: text[:20], [], "in the middle of a row"),
    "empty": (lambda text: "", [], "no epoch has been written"),
    "a damaged row": (lambda text: text.replace("\n1,12,", "\n1,x12,"), [24], "1 damaged row"),
    "not a table": (lambda text: "\0\1\n\2\n", [], "1 damaged row"),
}


@pytest.mark.parametrize(("damage", "steps", "note"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_table_is_read_as_far_as_it_goes(runs, tmp_path, damage, steps, note):
    path = runs / "mirror" / "metrics.csv"
    path.write_bytes(damage(path.read_bytes().decode()).encode())
    run = find_runs([runs / "mirror"])[0]
    assert [row["step"] for row in run.rows] == steps
    assert any(note in sentence for sentence in run.notes)
    assert note in report(tmp_path / "report.html", runs)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_is_a_gap_and_noted(runs, tmp_path, value):
    path = runs / "mirror" / "metrics.csv"
    head, first, last = path.read_text().splitlines()
    names, numbers = head.split(","), first.split(",")
    numbers[names.index("test_top1")] = value
    rows = [",".join(numbers), last, last.replace("2,24,", "3,36,"), last.replace("2,24,", "4,48,")]
    path.write_text("\n".join([head, *rows]) + "\n")
    text = report(tmp_path / "report.html", runs / "mirror")
    assert "not finite, so left out of curves: test_top1." in text
    test, training = lines(text)[COLOURS["calibrated_mirror"]][:2]
    assert (test.count("L"), training.count("L")) == (2, 3)
    summary = json.loads((runs / "mirror" / "summary.json").read_text())
    (runs / "mirror" / "summary.json").write_text(json.dumps({**summary, "top1": float(value)}))
    page = Page(report(tmp_path / "report.html", runs / "mirror"))
    assert page.table()[0]["top-1, %"] == "not finite"


def test_names_and_flags_that_hold_html_are_text(runs, tmp_path):
    name = "<script>alert(1)<b>&amp;\"'"
    (runs / "mirror").rename(runs / name)
    summary = json.loads((runs / name / "summary.json").read_text())
    summary |= {"versions": {"<i>": "</td>"}, "seconds": "<u>"}
    (runs / name / "summary.json").write_text(json.dumps(summary))
    page = Page(report(tmp_path / "report.html", runs))
    assert not {tag for tag, _ in page.tags} & {"script", "b", "i", "u"}
    row = page.table()[0]
    assert row["run"].endswith(name) and row["seconds"] == "-"
    assert "<i> </td>" in "".join(page.words)


def test_names_of_layers_are_text(runs, tmp_path):
    with tf.summary.create_file_writer(str(runs / "mirror" / "tensorboard")).as_default(24):
        tf.summary.scalar('angle/</text><img id="$x$">', 90.0)
    page = Page(report(tmp_path / "report.html", runs / "mirror"))
    assert "img" not in {tag for tag, _ in page.tags}
    assert '</text><img id="$x$">' in "".join(page.words)


def _no_run(runs):
    shutil.rmtree(runs / "mirror")
    shutil.rmtree(runs / "plain")


MISTAKES = {
    "no run": (_no_run, "report.html", ["holds no run", "--run_dir"]),
    "no folder": (lambda runs: shutil.rmtree(runs), "report.html", ["holds no run"]),
    "damaged summary": (
        lambda runs: (runs / "plain" / "summary.json").write_text('{"top1": 0.'),
        "report.html",
        ["plain/summary.json is damaged", "delete"],
    ),
    "damaged flags": (
        lambda runs: (runs / "plain" / "flags.txt").write_text("--batch_size=many\n"),
        "report.html",
        ["plain/flags.txt", "many"],
    ),
    "no folder for the output": (lambda runs: None, "none/report.html", ["none/report.html"]),
    "output is a folder": (lambda runs: (runs / "a.html").mkdir(), "runs/a.html", ["a.html"]),
    "output is no page": (lambda runs: None, "report.pdf", ["report.pdf", ".html"]),
}


@pytest.mark.parametrize(("prepare", "output", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_in_a_sentence(runs, tmp_path, capsys, prepare, output, words):
    prepare(runs)
    before = sorted(tmp_path.rglob("*"))
    # A run that was found below a folder is left out instead: test_foreign.
    path = runs / "plain" if "plain/" in words[0] else runs
    assert cli.main(["report", str(path), f"--output={tmp_path / output}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tfcredit report: ") and told.count("\n") == 1
    assert all(word in told for word in words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flags", [[], ["--output=a.html"], ["runs"], ["runs", "--outptu=a.html"]])
def test_wrong_flags_are_told(capsys, flags):
    assert cli.main(["report", *flags]) == 2
    assert "--help" in capsys.readouterr().err


def test_a_missing_matplotlib_is_told(runs, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tfcredit.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["report", str(runs), f"--output={tmp_path / 'report.html'}"]) == 2
    assert "pip install 'tfcredit[plots]'" in capsys.readouterr().err


def test_an_older_report_is_replaced(runs, tmp_path):
    output = tmp_path / "report.html"
    output.write_text("old")
    assert "old" not in report(output, runs)[:3]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == ["report.html"]


def test_a_comparison_of_single_runs_has_its_table(trained):
    runs = find_runs([trained])
    assert not any("Gap: " in word for word in Page(page(runs)).words)
    shown = Page(page(runs, compared=True))
    assert any("Gap: " in word for word in shown.words)
    assert shown.rows[0][:3] == ["rule", "runs", "test top-1, %"]
    assert [row[1] for row in shown.rows[1:3]] == ["1", "1"]
