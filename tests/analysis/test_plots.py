"""Figures: what they show, gaps, and that they can be read on light and dark."""

import io

import numpy as np
import pytest

from tfcredit.errors import UserError

pytest.importorskip("matplotlib", reason="an extra, `plots`")
from tfcredit.analysis import plots

PAGES = {"light": (1.0, 1.0, 1.0), "dark": (0.07, 0.07, 0.07)}


def records(bad=None):
    found = [
        {"step": step, "layer": f"layer{i}", "rule": "brsf", "angle": 90.0 - step / 10 - i}
        for step in (0, 100, 250, 400)
        for i in range(5)
    ]
    if bad is not None:
        found[7]["angle"] = bad
    return [*found, {"step": 0, "layer": "layer0", "index": 0, "singular_value": 1.0}]


def image(figure):
    png = io.BytesIO()
    figure.savefig(png, format="png")
    from PIL import Image

    return np.asarray(Image.open(png))


def words(figure):
    return figure.axes[0].get_title(loc="left")


def luminance(colour):
    colour = np.asarray(colour[:3])
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    """That of the Web Content Accessibility Guidelines: 3 and more for graphics."""
    light, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_curves_show_the_values():
    figure = plots.curves(records())
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == [f"layer{i}" for i in range(5)]
    np.testing.assert_array_equal(lines[2].get_xdata(), [0, 100, 250, 400])
    np.testing.assert_allclose(lines[2].get_ydata(), [88.0, 78.0, 63.0, 48.0])
    assert figure.axes[0].get_ylabel() == "angle (degrees)" and not words(figure)


def test_the_heat_map_shows_the_values():
    figure = plots.heat_map(records())
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().shape == (5, 4)
    assert mesh.get_array()[1, 3] == pytest.approx(49.0) and mesh.get_clim() == (0.0, 180.0)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"layer{i}" for i in range(5)]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # the first layer is on top


def test_long_names_stay_beside_the_curves_and_inside_the_figure():
    rule = "conv.*|stem/.*: weight_mirror(amp=0.01, decay=0.02); block[34]_.*: calibrated_mirror"
    rules = [rule, "x" * 90, *(f"weight_mirror(amp={n}, decay=0.005)" for n in range(12))]
    given = [record | {"rule": one} for one in rules for record in compared()]
    figures = [plots.compare(given, ["top1"])]
    layers = [record | {"layer": f"{'inside/' * 9}{record['layer']}"} for record in records()]
    figures += [plots.curves(layers), plots.heat_map(layers)]
    for figure in figures:
        figure.draw_without_rendering()
        panels = [axes.get_window_extent() for axes in figure.axes]
        assert max(panel.width for panel in panels) > 0.25 * figure.bbox.width
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.y0 >= 0 and box.x1 <= figure.bbox.x1
            assert all(box.x0 >= panel.x1 for panel in panels)
    labels = [label.get_text() for label in figures[2].axes[0].get_yticklabels()]
    assert labels == [f"{'inside/' * 9}layer{i}" for i in range(5)]
    assert min(x.get_window_extent().x0 for x in figures[2].axes[0].get_yticklabels()) >= 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("draw", [plots.curves, plots.heat_map])
def test_what_is_not_finite_is_a_gap_with_a_note(draw, bad):
    figure = draw(records(bad))
    assert "not defined or not finite" in words(figure)
    assert image(figure)[..., 3].any()
    if draw is plots.heat_map:
        assert figure.axes[0].collections[0].get_array().mask.sum() == 1
    else:
        assert np.isnan(figure.axes[0].get_lines()[2].get_ydata()).sum() == 1


@pytest.mark.parametrize("draw", [plots.curves, plots.heat_map])
def test_nothing_but_nan_and_a_single_time(draw):
    single = [{"step": 3, "layer": "a", "angle": float("nan")}]
    assert image(draw(single))[..., 3].any()


@pytest.mark.parametrize("page", PAGES)
def test_colours_stand_out_from_the_page(page):
    colours = [plots.GREY, *(plots.DEPTH(depth) for depth in np.linspace(0, 1, 11))]
    from matplotlib.colors import to_rgb

    assert min(contrast(to_rgb(colour), PAGES[page]) for colour in colours) >= 3.0


@pytest.mark.parametrize("draw", [plots.curves, plots.heat_map])
def test_no_background_unless_asked(draw):
    assert image(draw(records()))[0, -1, 3] == 0
    assert tuple(image(draw(records(), transparent=False))[0, -1]) == (255, 255, 255, 255)


def test_an_unknown_measure_is_told():
    with pytest.raises(UserError, match="'angel': give .* one of angle, index, singular_value"):
        plots.curves(records(), "angel")
    with pytest.raises(UserError, match="one of the measures"):
        plots.heat_map([])


def compared(**changes):
    """Two rules with two seeds each, of which one may have other values."""
    found = []
    for rule, level in (("backprop", 0.5), ("mine(a=1)", 0.25)):
        for seed in (0, 1):
            for step in (0, 10, 20):
                top1 = None if step == 0 else level + step / 100 + seed / 50
                found.append({"rule": rule, "seed": seed, "step": step, "top1": top1})
                if (rule, seed) == ("mine(a=1)", 1):
                    found[-1] |= changes
    return found


def test_a_comparison_shows_means_and_ranges_of_seeds():
    figure = plots.compare(compared(), ["top1"])
    (axes,) = figure.axes
    first, second = axes.get_lines()
    assert [line.get_label() for line in (first, second)] == ["backprop", "mine(a=1)"]
    assert first.get_color() == plots.COLOURS["backprop"] != second.get_color()
    assert list(first.get_xdata()) == [10, 20]
    assert list(first.get_ydata()) == pytest.approx([61.0, 71.0])  # per cent
    edges = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx((60.0, 72.0))


def test_a_seed_that_diverged_counts_in_no_mean_and_flattens_nothing():
    top = plots.compare(compared(), ["top1"]).axes[0].get_ylim()[1]
    (axes,) = plots.compare(compared(top1=1e9, diverged=1), ["top1"]).axes
    _, mean, dotted, cross = axes.get_lines()
    assert list(mean.get_ydata()) == pytest.approx([35.0, 45.0])
    assert dotted.get_linestyle() == ":" and cross.get_marker() == "x"
    assert axes.get_ylim()[1] <= top and len(axes.collections) == 1  # no band of a single seed


def test_a_curve_that_runs_away_does_not_flatten_the_others():
    figure = plots.compare(compared(top1=1e9), ["top1"])
    assert figure.axes[0].get_ylim()[1] < 1000 and words(figure) == "cut off above"
    assert words(plots.compare(compared(), ["top1"])) == ""


def test_a_comparison_names_what_it_misses():
    with pytest.raises(UserError, match="'angle'.*tfcredit.compare.*top1"):
        plots.compare(compared(), ["angle"])


def test_a_rule_has_the_same_colour_wherever_it_stands():
    names = ["info_alignment", "own", "backprop", "weight_mirror(amp=0.1)"]
    looks = plots.looks(names)
    assert len(set(looks)) == len(names)
    assert looks[0][0] == plots.COLOURS["info_alignment"]
    assert looks[3][0] == plots.COLOURS["weight_mirror"]
    assert plots.looks([*reversed(names)]) == [*reversed(looks)]
    # Curves of one rule can be told apart: 20 trials of a search.
    assert len(set(plots.looks(["backprop"] * 20))) == 20
    assert plots.looks(["backprop"] * 20)[0][0] == plots.COLOURS["backprop"]


def test_colours_of_rules_stand_out_on_both_pages():
    for colour in plots.COLOURS.values():
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert all(contrast(rgb, page) >= 3 for page in PAGES.values()), colour


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_comparison_says_which_images_it_is_of(part):
    start = {"rule": "backprop", "seed": 0, "step": 0, "part": "test", "top1": None}
    figure = plots.compare([start, {**start, "step": 5, "part": part, "top1": 0.5}], ["top1"])
    assert figure.axes[0].get_ylabel() == f"{part} top-1, %"
