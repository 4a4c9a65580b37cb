"""Figures: a pixel of an image stays a square of pixels, a file is whole or absent, and what cannot be drawn is named."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from tinygen import files, plot
from tinygen.plot.charts import _smoothed
from tinygen.plot.images import MARGIN


def images(N=6, H=4, W=3, C=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (N, H, W, C)) / 255


def records(steps=200, every=10):
    rng = np.random.default_rng(0)
    lines = [{"step": n, "time": 0.1 * n, "loss": 1 / n + 0.01 * rng.standard_normal()} for n in range(1, steps + 1)]
    return [line | ({"validation": 1 / line["step"]} if line["step"] % every == 0 else {}) for line in lines]


def tile(page, n, columns, H, W, scale, gap):
    top, left = n // columns * (H * scale + gap), n % columns * (W * scale + gap)
    return page[top : top + H * scale, left : left + W * scale]


@settings(max_examples=15, deadline=None)
@given(N=st.integers(1, 7), columns=st.integers(1, 4), C=st.sampled_from([1, 3]), scale=st.integers(1, 5), ink=st.booleans())
def test_every_pixel_is_a_square_of_its_grey_level_or_colour(tmp_path_factory, N, columns, C, scale, ink):
    path, x = tmp_path_factory.mktemp("grid") / "grid.png", images(N, C=C)
    plot.image_grid(x, path, columns=columns, scale=scale, ink=ink)
    page = np.round(imread(path)[MARGIN:-MARGIN, MARGIN:-MARGIN, :3] * 255)
    gap, rows = max(2, scale), -(-N // columns)
    assert page.shape[:2] == (rows * (4 * scale + gap) - gap, columns * (3 * scale + gap) - gap)
    drawn = np.zeros(page.shape[:2], bool)
    for n in range(N):
        shown = 1 - x[n] if ink and C == 1 else x[n]
        expected = np.kron(np.round(shown * 255), np.ones((scale, scale, 1))) * np.ones(3)
        assert np.abs(tile(page, n, columns, 4, 3, scale, gap) - expected).max() <= 1
        tile(drawn, n, columns, 4, 3, scale, gap)[:] = True
    assert (page[~drawn] == 255).all()


def test_a_grid_is_about_square_and_small_images_are_enlarged(tmp_path):
    plot.image_grid(images(9, 8, 8), tmp_path / "grid.png")
    assert imread(tmp_path / "grid.png").shape[:2] == (3 * 56 + 2 * 7 + 16,) * 2
    plot.image_grid(images(9, 28, 28), tmp_path / "grid.png")
    assert imread(tmp_path / "grid.png").shape[:2] == (3 * 56 + 2 * 2 + 16,) * 2


def test_title_and_row_labels_find_room_beside_the_images(tmp_path):
    plot.image_grid(images(4), tmp_path / "bare.png", columns=2, scale=14)
    plot.image_grid(images(4), tmp_path / "full.png", columns=2, scale=14, title="A title", row_labels=["data", "a model"])
    bare, full = (imread(tmp_path / name)[..., :3] for name in ("bare.png", "full.png"))
    height, width = (n - 2 * MARGIN for n in bare.shape[:2])
    corner = full[-MARGIN - height : -MARGIN]
    left = full.shape[1] - MARGIN - width
    np.testing.assert_array_equal(corner[:, left : left + width], bare[MARGIN:-MARGIN, MARGIN:-MARGIN])
    assert (corner[:, :left].min() < 0.5) and (corner[:, :4] == 1).all()  # the labels are there, and not cut
    title = full[: -MARGIN - height]
    assert title.min() < 0.5 and (title[:2] == 1).all() and (title[:, -4:] == 1).all()


@pytest.mark.parametrize(
    ("x", "more", "message"),
    [
        (np.zeros((4, 8, 8)), {}, r"images must be \(N, H, W, C\) with C 1 or 3, and not empty; got \(4, 8, 8\)"),
        (np.zeros((4, 8, 8, 2)), {}, r"got \(4, 8, 8, 2\)"),
        (np.zeros((0, 8, 8, 1)), {}, "not empty"),
        (
            np.full((1, 2, 2, 1), 255, np.uint8),
            {},
            r"values must lie in \[0, 1\]; got \[255, 255\]: divide 8-bit images by 255",
        ),
        (np.full((1, 2, 2, 1), -0.1), {}, r"got \[-0.1, -0.1\].* \.clip\(0, 1\)"),
        (np.full((1, 2, 2, 1), np.nan), {}, r"got \[nan, nan\]"),
        (np.zeros((4, 8, 8, 1)), {"columns": 2, "row_labels": ["a"]}, "1 row labels for 2 rows"),
    ],
)
def test_what_is_no_image_is_refused_and_leaves_no_file(tmp_path, x, more, message):
    with pytest.raises(ValueError, match=message):
        plot.image_grid(x, tmp_path / "grid.png", **more)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are written."""
    seen, savefig = [], Figure.savefig

    def spy(figure, *args, **kwargs):
        seen.extend(figure.axes)
        return savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return seen


def test_a_noisy_curve_is_faint_with_a_smooth_one_over_it_and_a_sparse_one_has_dots(tmp_path, drawn):
    plot.curves(records(), tmp_path / "deep" / "er" / "curves.png", y_label="loss (nats)")
    assert imread(tmp_path / "deep" / "er" / "curves.png").shape[:2] == (round(3.3 * plot.DPI), round(5.4 * plot.DPI))
    faint, smooth, sparse = drawn[0].lines
    assert faint.get_alpha() < 0.5 and faint.get_color() == smooth.get_color() != sparse.get_color()
    np.testing.assert_array_equal(faint.get_ydata(), [record["loss"] for record in records()])
    assert np.abs(np.diff(smooth.get_ydata())[100:-9]).max() < 0.2 * np.abs(np.diff(faint.get_ydata())[100:-9]).max()
    assert sparse.get_marker() == "o" and list(sparse.get_xdata()) == list(range(10, 201, 10))
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == ["loss", "validation"]
    assert (drawn[0].get_xlabel(), drawn[0].get_ylabel()) == ("step", "loss (nats)")


def test_a_curve_without_noise_is_drawn_as_it_is(tmp_path, drawn):
    records = [{"step": n, "validation": 20 + 80 * 0.97**n} for n in range(400)]
    plot.curves(records, tmp_path / "curves.png")
    (line,) = drawn[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [record["validation"] for record in records])


def test_smoothing_follows_its_formula_and_leaves_a_straight_line_where_it_is():
    line = np.arange(400.0)
    smooth = _smoothed(line, 0.9)
    np.testing.assert_allclose(smooth, line, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(_smoothed(np.full(5, 3.0), 0.9), 3)
    of_three, of_five = (1 / 2 + 2 + 6 / 2) / 2, (1 / 4 + 2 / 2 + 6 + 3 / 2 + 9 / 4) / 2.5
    by_hand = [1, of_three, of_five, (6 / 2 + 3 + 9 / 2) / 2, 9]
    np.testing.assert_allclose(_smoothed(np.array([1.0, 2.0, 6.0, 3.0, 9.0]), 0.5), by_hand)


def test_what_curves_are_compared_with_is_a_dashed_line_behind_them(tmp_path, drawn):
    plot.curves(records(20), tmp_path / "a.png", metrics="loss", levels={"the best there is": 0.25, "a guess": 0.5})
    best, guess, curve = sorted(drawn[0].lines, key=lambda line: line.zorder)
    assert list(best.get_ydata()) == [0.25, 0.25] and list(guess.get_ydata()) == [0.5, 0.5]
    assert len({best.get_linestyle(), guess.get_linestyle(), curve.get_linestyle()}) == 3
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == ["loss", "the best there is", "a guess"]


def test_runs_are_compared_under_their_names(tmp_path, drawn):
    plot.curves({"VAE": records(20), "flow": records(20)}, tmp_path / "a.png", metrics="loss", title="Two", log_y=True)
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == ["VAE", "flow"]
    assert drawn[0].get_yscale() == "log" and drawn[0].get_title() == "Two"


@pytest.mark.parametrize(
    "values, scale", [((0.88, 0.85), "linear"), ((3.1, 1.0), "log"), ((1.0, -0.5), "log"), ((0.0, 0.0), "linear")]
)
def test_a_logarithmic_scale_needs_values_that_span_it(tmp_path, drawn, values, scale):
    log = [{"step": step, "loss": value} for step, value in enumerate(values, start=1)]
    plot.curves(log, tmp_path / "a.png", log_y=True)
    assert drawn[0].get_yscale() == scale


@pytest.mark.parametrize("top, beside", [(0.5, False), (0.97, True)])
def test_a_legend_makes_way_for_a_curve(tmp_path, drawn, top, beside):
    heights = {"falling": [1.0, 0.3, 0.2, 0.1, 0.0], "high": [0.5, 0.5, 0.5, top, top]}
    log = [{"step": 100 * n + 50, **{name: 7 + 20 * values[n] for name, values in heights.items()}} for n in range(5)]
    plot.curves(log, tmp_path / "a.png")
    axes = drawn[0]
    left = axes.get_legend().get_window_extent().x0
    assert (left > axes.get_window_extent().x1) == beside


def test_steps_are_whole_numbers_and_names_have_no_underscores(tmp_path, drawn):
    log = [{"step": step, "two_moons": 1.0 / step, "rings": 2.0} for step in (1, 2, 3)]
    plot.curves(log, tmp_path / "a.png")
    assert all(tick == round(tick) for tick in drawn[0].get_xticks())
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == ["two moons", "rings"]


def test_a_value_that_was_not_finite_is_left_out(tmp_path, drawn):
    plot.curves([{"step": 1, "bound": None}, {"step": 2, "bound": 3.0}, {"step": 3, "bound": 4.0}], tmp_path / "a.png")
    assert list(drawn[0].lines[0].get_xdata()) == [2, 3] and drawn[0].get_ylabel() == "bound"


def test_curves_without_points_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no record has the metric 'los'; there are \['loss', 'validation'\]"):
        plot.curves(records(), tmp_path / "a.png", metrics="los")
    with pytest.raises(ValueError, match="the log has no metrics"):
        plot.curves([], tmp_path / "a.png")


def test_points_keep_their_places_and_take_the_colours_of_their_labels(tmp_path, drawn):
    points, labels = np.random.default_rng(0).standard_normal((50, 2)), np.arange(50) % 3 + 4
    plot.scatter(points, labels, tmp_path / "map.png", names=["four", "five", "six"], title="Latent codes")
    cloud = drawn[0].collections[0]
    order = [int(np.abs(points - point).sum(axis=1).argmin()) for point in cloud.get_offsets()]
    assert sorted(order) == list(range(50))
    from matplotlib.colors import to_rgb

    for i, colour in zip(order, cloud.get_facecolors()):
        np.testing.assert_allclose(colour[:3], to_rgb(plot.PALETTE[labels[i] - 4]))
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == ["four", "five", "six"]


def test_points_without_labels_need_no_legend(tmp_path, drawn):
    plot.scatter(np.zeros((3, 2)), None, tmp_path / "map.png", axis_labels=("a", "b"))
    assert drawn[0].get_legend() is None and drawn[0].get_xlabel() == "a"
    assert imread(tmp_path / "map.png").shape[:2] == (4 * plot.DPI, 4 * plot.DPI)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((5, 3)), np.zeros(5, int), r"points must be \(N, 2\) with N labels; got \(5, 3\) with 5 labels"),
        (np.zeros((5, 2)), np.zeros(4, int), r"got \(5, 2\) with 4 labels"),
        (np.zeros((20, 2)), np.arange(20), "20 colours are asked for, and the palette keeps 10 apart"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path, points, labels, message):
    with pytest.raises(ValueError, match=message):
        plot.scatter(points, labels, tmp_path / "map.png")


def test_ten_labels_have_ten_colours():
    assert len(set(plot.PALETTE)) == 10


def test_a_figure_replaces_the_old_one_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    plot.image_grid(images(), path)
    before = path.read_bytes()

    def crash(*_):
        raise OSError("stopped here")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="stopped here"):
        patch.setattr(files.os, "replace", crash)
        plot.image_grid(images(9), path)
    assert path.read_bytes() == before
    plot.image_grid(images(9), path)
    assert path.read_bytes() != before and [p.name for p in tmp_path.iterdir()] == ["grid.png"]


def test_a_film_shows_its_frames_in_order_and_rests_on_the_last(tmp_path):
    def shift(i):
        return np.roll(np.eye(4)[None, :, :, None], i, axis=2)

    with plot.film(tmp_path / "film.gif", seconds=0.1, rest=2) as frame:
        for i in range(3):
            plot.image_grid(shift(i), frame())
            plot.image_grid(shift(i), tmp_path / f"{i}.png")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3 and film.info["loop"] == 0
        for i, duration in enumerate([100, 100, 2000]):
            film.seek(i)
            assert film.info["duration"] == duration
            still = np.asarray(Image.open(tmp_path / f"{i}.png").convert("RGB"), int)
            assert abs(np.asarray(film.convert("RGB"), int) - still).max() <= 8
    assert not list(tmp_path.glob("*.partial"))


def test_a_film_without_frames_or_with_frames_of_two_sizes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing was drawn"), plot.film(tmp_path / "film.gif"):
        pass
    with pytest.raises(ValueError, match="2 sizes"), plot.film(tmp_path / "film.gif") as frame:
        plot.image_grid(images(), frame())
        plot.image_grid(images(9), frame())
    assert not list(tmp_path.iterdir())


def test_other_formats_are_chosen_by_the_suffix(tmp_path):
    plot.scatter(np.zeros((3, 2)), None, tmp_path / "map.pdf")
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")


def test_nothing_global_is_touched():
    """No matplotlib until a figure is drawn; then no pyplot, no backend chosen, and the style gone again."""
    code = (
        "import sys, tempfile, numpy as np; from tinygen import plot; assert 'matplotlib' not in sys.modules;"
        "plot.image_grid(np.zeros((1, 2, 2, 1)), tempfile.mkdtemp() + '/a.png', title='t');"
        "import matplotlib; assert 'matplotlib.pyplot' not in sys.modules;"
        "assert matplotlib.rcParams['font.family'] != ['STIXGeneral']; print('clean')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "clean", run.stderr


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_points_of_a_plane_are_the_centres_of_its_cells_in_rows_from_bottom_to_top(n):
    points, area = plot.plane((-1, 3, 10, 12), n)
    assert points.shape == (n * n, 2) and area * n * n == pytest.approx(8)
    rows = points.reshape(n, n, 2)
    np.testing.assert_allclose(points.mean(axis=0), [1, 11])
    np.testing.assert_allclose(np.diff(rows[:, :, 0], axis=1), 4 / n)
    np.testing.assert_allclose(np.diff(rows[:, :, 1], axis=0), 2 / n)
    assert rows[0, 0, 0] == pytest.approx(-1 + 2 / n)


def test_a_density_lies_where_it_is_dense_and_a_row_shares_the_scale_of_its_first_map(tmp_path, drawn):
    extent, n = (-4, 4, -4, 4), 20
    points, _ = plot.plane(extent, n)
    upper_right = np.exp(-((points - 2) ** 2).sum(axis=1)).reshape(n, n)
    maps = np.stack([upper_right, 5 * upper_right, 3 * upper_right])
    plot.density(maps, tmp_path / "a.png", extent, titles=("truth", "flow"), columns=2, row_labels=("one", "two"))
    page = imread(tmp_path / "a.png")[..., :3].sum(axis=2)
    height, width = page.shape
    panel = page[: height // 2, : width // 2]
    row, column = (panel[40:-40, 40:-40] < 0.8).nonzero()  # the dark blue
    assert row.mean() < panel.shape[0] / 2 - 40 < column.mean()
    pictures = [axes.images[0] for axes in drawn]
    assert [picture.norm.vmax for picture in pictures] == [upper_right.max(), upper_right.max(), 3 * upper_right.max()]
    assert [axes.get_title() for axes in drawn] == ["truth", "flow", ""]
    assert [axes.get_ylabel() for axes in drawn] == ["one", "", "two"]


def test_lines_of_a_grid_run_straight_to_its_borders_and_are_drawn_as_they_were_warped(tmp_path, drawn):
    lines = plot.lines_of_grid((-1, 1, 2, 6), lines=3, n=5)
    assert lines.shape == (2, 3, 5, 2)
    np.testing.assert_array_equal(lines[0, :, :, 1], np.repeat([[2], [4], [6]], 5, axis=1))
    np.testing.assert_array_equal(lines[0, 1, :, 0], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(lines[1, :, :, 0], np.repeat([[-1], [0], [1]], 5, axis=1))
    np.testing.assert_array_equal(lines[1, 2, :, 1], [2, 3, 4, 5, 6])
    warped, points = np.stack([lines, lines**2]), np.zeros((2, 4, 2))
    plot.warped_grid(warped, tmp_path / "a.png", (-3, 3, 0, 9), titles=("before", "after"), points=points, row_labels=["x"])
    assert [axes.get_ylabel() for axes in drawn] == ["x", ""]
    level, upright = drawn[1].collections[1:]
    np.testing.assert_allclose(np.stack(level.get_segments()), lines[0] ** 2)
    np.testing.assert_allclose(np.stack(upright.get_segments()), lines[1] ** 2)
    assert (level.get_color() != upright.get_color()).any() and drawn[1].get_xlim() == (-3, 3) and drawn[1].get_ylim() == (0, 9)


def test_clouds_lie_over_what_is_under_them_and_a_way_begins_with_a_dot(tmp_path, drawn):
    points, under = np.random.default_rng(0).normal(size=(2, 2, 5, 2))
    plot.clouds(points, tmp_path / "a.png", (-3, 3, -2, 2), titles=("one", "two"), under=under)
    for axes, above, below in zip(drawn, points, under):
        offsets = [np.asarray(collection.get_offsets()) for collection in axes.collections]
        np.testing.assert_allclose(offsets, [below, above])
        assert axes.get_xlim() == (-3, 3) and axes.get_ylim() == (-2, 2)
    plot.clouds([points[0]], tmp_path / "b.png", (-3, 3, -2, 2), joined=True)
    (line,), (dot,) = drawn[2].lines, drawn[2].collections
    np.testing.assert_allclose(line.get_xydata(), points[0])
    np.testing.assert_allclose(dot.get_offsets(), points[0][:1])
    plot.clouds(points, tmp_path / "c.png", (-3, 3, -2, 2), under=under, joined=True, axis_labels=("x", "y"), marks=("a", "b"))
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in drawn[3:]] == [("x", "y"), ("x", "")]
    assert len(drawn[3].get_xticks()) > 2 and not len(drawn[2].get_xticks())
    (legend,) = drawn[3].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    greys = [tuple(handle.get_facecolor()[0]) for handle in legend.legend_handles]
    assert greys == [tuple(dots.get_facecolor()[0]) for dots in drawn[3].collections]


def test_a_landscape_is_darkest_in_its_valley_and_a_way_runs_from_a_ring_to_a_dot(tmp_path, drawn):
    extent, n = (-4, 4, -2, 6), 40
    points, _ = plot.plane(extent, n)
    energy = 7 + ((points - (2, 4)) ** 2).sum(axis=1).reshape(n, n)
    ways, ends = np.random.default_rng(0).normal(size=(2, 5, 2)), np.array([(-2.0, 0.0), (1.0, 1.0)])
    plot.landscape(energy, tmp_path / "a.png", extent, [], np.zeros((0, 2)))
    page = imread(tmp_path / "a.png")[..., :3].sum(axis=2)
    row, column = (page[60:-60, 60:-60] < 1.0).nonzero()  # the valley, above and to the right of the middle
    assert row.mean() + 60 < page.shape[0] / 2 and column.mean() + 60 > page.shape[1] / 2

    plot.landscape(energy, tmp_path / "b.png", extent, ways, ends, title="energy", depth=4.0)
    filled, lines, dots = drawn[1].collections
    np.testing.assert_allclose(filled.levels[[0, -1]], [0, 4])  # measured from the bottom of the valley
    np.testing.assert_allclose(np.diff(lines.levels), 0.5)
    np.testing.assert_allclose(dots.get_offsets(), ends)
    for way, (line, ring, dot) in zip(ways, np.reshape(drawn[1].lines, (2, 3))):
        np.testing.assert_allclose(line.get_xydata(), way)
        np.testing.assert_allclose([*ring.get_xydata(), *dot.get_xydata()], way[[0, -1]])
        assert ring.get_markerfacecolor() == "white" != dot.get_markerfacecolor() == line.get_color()
    assert drawn[1].get_xlim() == (-4, 4) and drawn[1].get_ylim() == (-2, 6) and drawn[1].get_title() == "energy"
    (legend,) = drawn[1].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a way begins", "and ends", "other points", "low energy"]


def test_what_is_no_landscape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"landscape: values must be \(n, n\); got \(400,\): reshape"):
        plot.landscape(np.zeros(400), tmp_path / "a.png", (0, 1, 0, 1), [], np.zeros((0, 2)))
    assert not list(tmp_path.iterdir())


def test_parallel_scales_have_their_better_ends_on_top_and_lines_stop_where_there_is_nothing(tmp_path, drawn):
    values = [[2.0, 1.0, 0.1], [np.nan, 100.0, 0.5], [3.0, 10.0, 0.9]]
    axes = [("bits", "low", False), ("ms", "low", True), ("recall", "high", False)]
    plot.parallel(values, tmp_path / "a.svg", ["VAE", "GAN", "flow"], axes)
    lines = {line.get_label(): line.get_ydata() for line in drawn[0].lines}
    np.testing.assert_allclose(lines["VAE"], [1, 1, 0])  # less is better on the first two scales, more on the third
    np.testing.assert_allclose(lines["GAN"], [np.nan, 0, 0.5])
    np.testing.assert_allclose(lines["flow"], [0, 0.5, 1])  # 10 is half way from 1 to 100 on a logarithmic scale
    rings = [line.get_xydata() for line in drawn[0].lines if line.get_markerfacecolor() == "white" and len(line.get_xydata())]
    assert len(rings) == 1 and rings[0].shape == (1, 2)
    assert rings[0][0, 0] == pytest.approx(0, abs=0.1) and rings[0][0, 1] < 0  # the GAN's, under the first scale
    texts = {text.get_text(): text.get_position() for text in drawn[0].texts}
    assert texts["2"][1] > 1 > 0 > texts["3"][1] and texts["1"][1] > 1 > 0 > texts["100"][1]
    assert (tmp_path / "a.svg").read_text().lstrip().startswith("<?xml")


def test_on_a_scale_where_all_are_alike_all_are_best(tmp_path, drawn):
    plot.parallel([[1.0], [1.0]], tmp_path / "a.png", ["VAE", "GAN"], [("evaluations", "low", True)])
    assert [line.get_ydata().tolist() for line in drawn[0].lines if line.get_label() in ("VAE", "GAN")] == [[1], [1]]


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[np.nan], [np.nan]], [1.0, 2.0]])
def test_what_does_not_fit_its_scales_is_refused(tmp_path, values):
    with pytest.raises(ValueError, match="parallel: 2 names and 1 axes with a value each, but values are"):
        plot.parallel(values, tmp_path / "a.png", ["VAE", "GAN"], [("ms", "low", True)])
    assert not list(tmp_path.iterdir())


def test_what_is_no_cloud_is_refused(tmp_path):
    for panels, under in (([np.zeros((3, 3))], None), ([], None), ([np.zeros((3, 2))], [])):
        with pytest.raises(ValueError, match=r"clouds: panels must be arrays \(n, 2\), with as many under them; got"):
            plot.clouds(panels, tmp_path / "a.png", (0, 1, 0, 1), under=under)
    assert not list(tmp_path.iterdir())


def test_what_places_hold_is_drawn_with_a_row_for_each_place_and_darker_where_there_is_more(tmp_path, drawn):
    shares = np.zeros((10, 4))
    shares[:, 3], shares[:5, 0], shares[5:, 1] = 0.5, 0.25, 0.25
    plot.occupation([shares, shares], tmp_path / "a.png", range(0, 100, 10), ("one", "two"), y_label="mode", largest=0.5)
    left, right = drawn
    np.testing.assert_array_equal(left.images[0].get_array(), shares.T)
    assert left.images[0].origin == "lower" and left.images[0].norm.vmax == 0.5
    assert tuple(left.images[0].get_extent()) == (0, 90, -0.5, 3.5)
    assert (left.get_title(), right.get_title()) == ("one", "two") and (left.get_ylabel(), right.get_ylabel()) == ("mode", "")


def test_dots_stand_beside_their_names_from_top_to_bottom_with_a_bar_at_the_mean(tmp_path, drawn):
    values = np.array([[1.0, 3.0], [5.0, 5.0], [0.0, 1.0]])
    plot.dots([values, 2 * values], tmp_path / "a.png", ("x", "y", "z"), ("one", "two"), "nats")
    for axes, factor in zip(drawn, (1, 2)):
        *runs, bar = axes.lines
        np.testing.assert_array_equal([run.get_xdata() for run in runs], factor * values.T)
        np.testing.assert_array_equal(bar.get_xdata(), factor * np.array([2, 5, 0.5]))
        assert all(list(line.get_ydata()) == [2, 1, 0] for line in axes.lines) and axes.get_xlim()[0] <= 0
    assert [text.get_text() for text in drawn[0].get_yticklabels()] == ["x", "y", "z"] and list(drawn[0].get_yticks()) == [
        2,
        1,
        0,
    ]


def test_what_models_make_of_a_density_stands_beside_curves_whose_scales_are_those_of_the_whole_run(tmp_path, drawn):
    line, plane = np.array([[1.0, 3.0, 1.0], [2.0, 2.0, 1.0]]), np.zeros((2, 3, 3))
    plane[0, 1, 1], plane[1, 0, 2] = 0.5, 1.0
    curves = {"a": np.array([0.5, 0.02, 0.003]), "b": np.array([0.2, -0.1, np.nan])}
    for now in (1, 3):
        plot.approach([(line, curves), (plane, curves)], tmp_path / f"{now}.png", ("truth", "model"), [1, 50, 100], now, "nats")
    frames = drawn[:6], drawn[6:]
    for now, (truth, model, upper, _, map_of_model, lower) in zip((1, 3), frames):
        np.testing.assert_array_equal(model.patches[0].get_data().values, line[0])
        np.testing.assert_array_equal(model.patches[1].get_data().values, line[1])
        assert len(truth.patches) == 1 and truth.get_ylim() == model.get_ylim()
        np.testing.assert_array_equal(map_of_model.images[0].get_array(), plane[1])
        assert map_of_model.images[0].norm.vmax == 0.5 and map_of_model.images[0].origin == "lower"
        assert (truth.get_title(), model.get_title(), upper.get_title()) == ("truth", "model", "nats")
        assert upper.get_ylim() == lower.get_ylim() == (0.001, 1) and upper.get_xlim() == (-3, 103)
        np.testing.assert_array_equal(lower.lines[0].get_ydata(), curves["a"][:now])
    assert imread(tmp_path / "1.png").shape == imread(tmp_path / "3.png").shape


def test_a_band_reaches_from_the_least_run_to_the_most_around_their_mean(tmp_path, drawn):
    values = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 0.0]])
    plot.bands([1, 10, 100], {"runs": values}, tmp_path / "a.png", "n", "error", log_x=True)
    (axes,) = drawn
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2, 2, 3])
    corners = axes.collections[0].get_paths()[0].vertices
    assert all([x, y] in corners.tolist() for x, *ends in ([1, 1, 3], [10, 2, 2], [100, 0, 6]) for y in ends)
    assert axes.get_xscale() == "log" and (axes.get_xlabel(), axes.get_ylabel()) == ("n", "error")


def test_a_tree_grows_to_the_right_and_a_node_stands_in_the_middle_of_its_branches(tmp_path, drawn):
    branches = {"root\nnote": {"a": {"x": {}, "y": {}}, "b": {"z": {}}}}
    plot.tree(branches, tmp_path / "a.png", links=[("y", "b", "a link")])
    places = {text.get_text(): text.get_position() for text in drawn[0].texts}
    assert places["x"][1] > places["y"][1] > places["z"][1] and places["x"][0] > places["a"][0] > places["root"][0]
    assert places["a"][1] == pytest.approx((places["x"][1] + places["y"][1]) / 2) and places["b"][1] == places["z"][1]
    curves = [patch for patch in drawn[0].patches if not patch.get_fill() or patch.get_facecolor()[3] == 0]
    assert len(curves) == 5 + 1  # edges, and the link
    assert {"note", "a link"} <= set(places)
    with pytest.raises(ValueError, match="tree: links lead to c, and there are a, b, root, x, y, z"):
        plot.tree(branches, tmp_path / "b.png", links=[("x", "c", "")])


def test_a_timeline_runs_down_and_puts_events_of_one_year_on_one_line(tmp_path, drawn):
    events = {"one": [(2016, "late", "B"), (2001, "early", "A")], "two": [(2016, "first", "C"), (2016, "second", "D")]}
    plot.timeline(events, tmp_path / "a.png")
    places = {text.get_text(): text.get_position() for text in drawn[0].texts}
    assert places["2001"][1] == places["early"][1] > places["2016"][1] == places["late"][1] == places["first"][1]
    assert places["first"][1] > places["second"][1] and places["early"][0] == places["late"][0] < places["first"][0]
    assert {"A", "B", "C", "D", "one", "two"} <= set(places)
    heights = [places[str(year)][1] for year in range(2001, 2017)]
    np.testing.assert_allclose(np.diff(heights), (heights[-1] - heights[0]) / 15)  # years are to scale, also empty ones


def test_what_does_not_fit_its_names_or_places_is_refused_and_leaves_no_file(tmp_path):
    path = tmp_path / "a.png"
    for draw, message in (
        (lambda: plot.occupation([np.zeros((3, 2))], path, [0, 1]), r"occupation: panels must be \(times, k\), with 2 times"),
        (lambda: plot.dots([np.zeros((3, 2))], path, ("x", "y")), r"dots: panels must be \(kinds, runs\), with 2 kinds"),
        (
            lambda: plot.bands([1, 2], {"a": np.zeros((2, 3))}, path),
            r"bands: values must be \(runs, 2\), .*; got \{'a': \(2, 3\)",
        ),
        (
            lambda: plot.approach([(np.zeros((2, 3)), {"a": [1.0]})], path, ("one", "two"), [1, 2]),
            r"approach: panels must be 2 arrays .*, and curves \(2,\); got \[\(1,\)\]",
        ),
        (lambda: plot.timeline({"one": []}, path), "timeline: every column needs an event"),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
    assert not list(tmp_path.iterdir())


def test_what_is_no_map_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"density: panels must be \(K, n, n\); got \(400,\)"):
        plot.density(np.zeros(400), tmp_path / "a.png", (0, 1, 0, 1))
    with pytest.raises(ValueError, match=r"warped_grid: panels must be \(K, 2, lines, n, 2\), .*; got \(2, 3, 5, 2\)"):
        plot.warped_grid(plot.lines_of_grid((0, 1, 0, 1), 3, 5), tmp_path / "a.png", (0, 1, 0, 1))
    assert not list(tmp_path.iterdir())
