"""The accessor of a sweep's Dataset: maps, curves, exponents and boundaries."""

import sys

import numpy as np
import pytest

xarray = pytest.importorskip("xarray")
pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import LogNorm, TwoSlopeNorm  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from scipy import special, stats  # noqa: E402

import varprop as vp  # noqa: E402
import varprop._sweep.accessor  # noqa: E402
from varprop._sweep.boundary import crossing  # noqa: E402
from varprop._sweep.scaling import slopes  # noqa: E402

STATISTICS = ["mean", "std", "low", "high"]


def made(grid, values, name="log10_var", **attributes):
    """Return a Dataset of numbers: means of shape (*grid, layer), or with statistics last."""
    values = np.asarray(values, float)
    if values.ndim == len(grid) + 1:
        values = np.stack([values, 0.1 + 0 * values, values - 0.2, values + 0.2], axis=-1)
    layers = values.shape[-2]
    signal, _, field = name.rpartition(".")
    about = {"long_name": f"the {name}", "signal": signal or "activations", "field": field}
    coordinates = {
        **{name: list(points) for name, points in grid.items()},
        "layer": np.arange(1, layers + 1),
        "layer_name": ("layer", [f"dense{i + 1}" for i in range(layers)]),
        "statistic": STATISTICS,
    }
    variable = ((*grid, "layer", "statistic"), values, about)
    attributes = {"trials": 10, "level": 0.95, "activations": "", **attributes}
    return xarray.Dataset({name: variable}, coordinates, attributes)


def simulated(build, grid, name, trials, seed=0):
    """Return the Dataset of runs over a grid of one dimension."""
    ((dimension, points),) = grid.items()
    runs = [vp.simulate(build(point), 5, trials=trials, seed=seed) for point in points]
    values = [getattr(run.activations.per_trial, name) for run in runs]
    ends = [run.activations.interval(name) for run in runs]
    numbers = [
        np.stack([value.mean(axis=0), value.std(axis=0, ddof=1), *end], axis=-1)
        for value, end in zip(values, ends, strict=True)
    ]
    return made({dimension: points}, np.stack(numbers), name, trials=trials)


def phases(**changes):
    """Return a Dataset over sigma_w and sigma_b whose values tell where they are from."""
    weights, biases = [1.0, 2.0, 1.5], [0.0, 0.5, 1.0, 1.5]
    values = np.add.outer(np.array(weights), 10 * np.array(biases))[..., None] * [0.5, 1.0]
    attributes = {"activations": "tanh", **changes}
    return made({"sigma_w": weights, "sigma_b": biases}, values, **attributes)


def drawn(figure):
    """Return the axes of the map or curves, and the heading."""
    return figure.axes[0], figure.get_suptitle()


# --- maps ---------------------------------------------------------------------------------------


def test_the_map_is_the_last_layer_in_ascending_order():
    axes, heading = drawn(phases().varprop.phase_diagram())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("sigma_w", "sigma_b")
    expected = np.add.outer([0.0, 5.0, 10.0, 15.0], [1.0, 1.5, 2.0])
    np.testing.assert_array_equal(axes.collections[0].get_array(), expected)
    np.testing.assert_allclose(axes.get_xlim(), (0.75, 2.25))
    np.testing.assert_allclose(axes.get_ylim(), (-0.25, 1.75))
    assert heading == (
        "the log10_var, last layer, mean of 10 trials\nline: edge of chaos of tanh, χ₁ = 1"
    )


def test_another_layer_and_statistic_and_the_other_way_round():
    figure = Figure(figsize=(12, 5)).subfigures(1, 2)[0]
    picture = phases().varprop.phase_diagram(
        "sigma_b", "sigma_w", "log10_var", layer="dense1", statistic="high", figure=figure
    )
    assert picture is figure
    axes, heading = drawn(figure)
    expected = 0.5 * np.add.outer([1.0, 1.5, 2.0], [0.0, 5.0, 10.0, 15.0]) + 0.2
    np.testing.assert_allclose(axes.collections[0].get_array(), expected)
    assert heading.startswith("the log10_var, layer 1 (dense1), high of 10 trials\n")


@pytest.mark.parametrize("swapped", [False, True])
def test_the_line_is_theorys(swapped):
    # Squares of sigma_b and of critical sigma_w for tanh: Schoenholz et al. 2017, to 12 digits.
    known = {0.01: 1.42420529048860, 0.05: 1.76095463960674, 0.2: 2.28515247372019}
    biases = np.sqrt(list(known))
    data = made(
        {"sigma_w": [0.5, 1.0, 2.0], "sigma_b": biases}, np.ones((3, 3, 1)), activations="tanh"
    )
    axes, _ = drawn(data.varprop.phase_diagram(*(("sigma_b", "sigma_w") if swapped else ())))
    (line,) = axes.lines
    weights, along = line.get_data()[::-1] if swapped else line.get_data()
    assert along.min() < biases[0]
    assert along.max() > biases[-1]
    for square, expected in known.items():
        assert weights[along == square**0.5] ** 2 == pytest.approx([expected], rel=1e-11)


def test_the_line_at_one_sigma_b():
    data = phases().isel(sigma_b=[1])
    axes, heading = drawn(data.varprop.phase_diagram(y="layer"))
    assert axes.get_ylabel() == "layer"
    weights, layers = axes.lines[0].get_data()
    assert weights == pytest.approx([1.5496739125081676] * 2)
    assert list(layers) == [0.5, 2.5]
    assert "\nsigma_b = 0.5\n" in heading
    axes, _ = drawn(phases().isel(sigma_b=1, drop=True).varprop.phase_diagram())
    assert not axes.lines  # nothing says what sigma_b is


@pytest.mark.parametrize(
    "data",
    [
        phases(activations=""),
        phases(activations="mine"),
        phases(activations="tanh, relu"),
        phases(activations="relu").isel(sigma_b=[1, 2, 3]),
        phases().assign_coords(sigma_w=[3.0, 5.0, 4.0]),  # it is at 1 to 2.2
        phases(activations="tanh, relu").assign_coords(activation="gelu"),
        phases().assign_coords(sigma_b=["a", "b", "c", "d"]),
        phases().expand_dims(activation=["tanh", "relu"]).isel(sigma_b=[0]),
    ],
)
def test_no_line_without_theory(data):
    x = "activation" if "activation" in data.dims else None
    axes, heading = drawn(data.varprop.phase_diagram(x))
    assert not axes.lines
    assert "edge" not in heading


def test_no_line_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "varprop.theory", None)
    axes, _ = drawn(phases().varprop.phase_diagram())
    assert not axes.lines


def test_no_line_where_none_is_wanted():
    axes, _ = drawn(phases().varprop.phase_diagram(theory=False))
    assert not axes.lines


def test_the_edge_of_relu_is_a_point():
    axes, _ = drawn(phases(activations="relu").varprop.phase_diagram())
    (line,) = axes.lines
    assert line.get_marker() == "o"
    weights, biases = line.get_data()
    known = np.isfinite(weights)
    assert weights[known] == pytest.approx([2**0.5])
    assert biases[known] == [0.0]


def test_a_text_of_the_grid_tells_the_activation():
    data = phases(activations="erf, relu").expand_dims(phi=["erf", "relu"]).sel(phi="erf")
    axes, heading = drawn(data.varprop.phase_diagram())
    weights, biases = axes.lines[0].get_data()
    assert weights[biases == 0.0] ** 2 == pytest.approx([np.pi / 4])  # at q = 0
    assert heading.endswith("\nphi = erf\nline: edge of chaos of erf, χ₁ = 1")


def test_grey_is_said():
    data = phases()
    data["log10_var"][0, 1] = data["log10_var"][2, 0] = np.nan
    assert drawn(data.varprop.phase_diagram())[1].endswith("grey: no value")
    errors = np.full((3, 4), "", dtype="<U20")
    errors[0, 1] = "ValueError: no"
    data["error"] = (("sigma_w", "sigma_b"), errors)
    axes, heading = drawn(data.varprop.phase_diagram())
    assert heading.endswith("grey: 1 point failed, 1 without a value")
    expected = np.zeros((4, 3), bool)
    expected[1, 0] = expected[0, 1] = True  # by sigma_b, and ascending sigma_w
    np.testing.assert_array_equal(axes.collections[0].get_array().mask, expected)
    for part in (
        data.isel(sigma_b=[1, 2]).varprop.phase_diagram(),
        data.isel(sigma_b=[1]).varprop.phase_diagram(y="layer"),
    ):
        assert drawn(part)[1].endswith("grey: 1 point failed")
    other = data.rename(sigma_b="width").isel(width=[0]).varprop.phase_diagram(y="layer")
    assert drawn(other)[1].endswith("grey: no value")


def test_texts_and_geometric_numbers_as_axes():
    data = made({"width": [256, 64, 128], "init": ["b", "a"]}, np.arange(6.0).reshape(3, 2, 1))
    axes, _ = drawn(data.varprop.phase_diagram())
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == pytest.approx((64 / 2**0.5, 256 * 2**0.5))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a"]
    np.testing.assert_array_equal(axes.collections[0].get_array(), [[2, 4, 0], [3, 5, 1]])


def norm(values, name):
    grid = {"a": [1, 2], "b": [1, 2]}
    axes, _ = drawn(made(grid, np.reshape(values, (2, 2, 1)), name).varprop.phase_diagram())
    return axes.collections[0].norm


def test_colours():
    found = norm([-40.0, 0.0, 1.0, 3.0], "gradients.log10_var")
    assert isinstance(found, TwoSlopeNorm)
    assert (found.vmin, found.vcenter, found.vmax) == (-40, 0, 10)
    for name, values, ends in (
        ("correlation", [0.2, 0.3, 0.4, 0.5], (0, 1)),
        ("correlation", [-0.2, 0.3, 0.4, 0.5], (-1, 1)),
        ("log10_var", [1.0, 2.0, 300.0, 400.0], (1, 400)),
        ("log10_var", [1.0, 1.0, 1.0, 1.0], (0.5, 1.5)),
        ("log10_var", [np.nan] * 4, (0, 1)),
    ):
        found = norm(values, name)
        assert (found.vmin, found.vmax) == ends
    assert isinstance(norm([1.0, 2.0, 30.0, 101.0], "var"), LogNorm)


def test_infinite_values_have_the_last_colour():
    data = phases()
    data["log10_var"][0, 0] = -np.inf
    figure = data.varprop.phase_diagram(level=5)
    axes, heading = drawn(figure)
    shown = axes.collections[0].get_array()
    assert shown[0, 0] == shown[0, 1:].min() == 1.5
    assert "grey" not in heading
    assert figure.axes[1]._colorbar.extend == "min"


def test_a_level_is_drawn_where_the_values_have_it():
    weights, biases = np.linspace(0, 2, 5), np.linspace(0, 1, 3)
    values = (weights[:, None] + 0.5 * biases)[..., None] - 1
    data = made({"sigma_w": weights, "sigma_b": biases}, values)
    axes, heading = drawn(data.varprop.phase_diagram(level=0.25, theory=False))
    (path,) = axes.collections[1].get_paths()
    assert len(path.vertices) >= 3
    for w, b in path.vertices:
        assert w + 0.5 * b == pytest.approx(1.25)
    assert heading.endswith("dashed: 0.25")
    axes, heading = drawn(data.varprop.phase_diagram(level=7, theory=False))
    assert len(axes.collections) == 1
    assert "dashed" not in heading


# --- curves -------------------------------------------------------------------------------------


def test_profiles_are_the_numbers():
    data = phases()
    figure = data.varprop.depth_profile(sigma_b=0.5)
    axes, heading = drawn(figure)
    values = data["log10_var"].sel(sigma_b=0.5).sortby("sigma_w")
    for i, line in enumerate(axes.lines):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_array_equal(line.get_ydata(), values[i].sel(statistic="mean"))
        band = axes.collections[i].get_paths()[0].vertices[:, 1]
        assert {band.min(), band.max()} == {values[i, 0, 2].item(), values[i, 1, 3].item()}
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["sigma_w = 1", "sigma_w = 1.5", "sigma_w = 2"]
    assert heading == "the log10_var, mean of 10 trials, bands: 95% intervals\nsigma_b = 0.5"


def test_many_profiles_have_a_colour_bar():
    data = made({"width": 2.0 ** np.arange(12)}, np.ones((12, 3)))
    figure = data.varprop.depth_profile(statistic="std")
    assert len(figure.axes[0].lines) == 12
    assert not figure.axes[0].collections
    assert figure.axes[1].get_ylabel() == "width"
    assert figure.axes[1].get_ylim() == pytest.approx((1, 2048))
    assert not figure.legends


def test_profiles_pass_over_layers_without_the_signal():
    values = np.array([[1.0, np.nan, 3.0], [1.0, np.nan, np.nan]])
    figure = made({"kind": ["a", "b"]}, values, "weight_gradients.var").varprop.depth_profile()
    lines = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[1, 3], [1]]
    drawn(made({}, [1.0, 2e4], "var").varprop.depth_profile())


def test_pictures_are_drawn_and_nothing_is_outside():
    data = phases()
    data["log10_var"][0, 0], data["log10_var"][1, 2] = -np.inf, np.nan
    texts = made({"init": ["a" * 30, "$b"], "width": [64, 128, 256]}, np.ones((2, 3, 4)), "var")
    half = Figure(figsize=(12, 5)).subfigures(1, 2)[1]
    for figure in (
        data.varprop.phase_diagram(level=5),
        data.isel(sigma_b=[0]).varprop.phase_diagram(y="layer", figure=half),
        texts.varprop.phase_diagram(),
        texts.varprop.depth_profile(width=64),
        data.varprop.depth_profile(sigma_b=0),
        made({"width": 2.0 ** np.arange(12)}, np.ones((12, 3))).varprop.depth_profile(),
    ):
        canvas = FigureCanvasAgg(figure.figure)
        canvas.draw()
        for artist in (figure._suptitle, *figure.axes, *figure.legends):
            box = artist.get_tightbbox(canvas.get_renderer())
            assert figure.bbox.padded(1).x0 <= box.x0 < box.x1 <= figure.bbox.padded(1).x1
            assert figure.bbox.padded(1).y0 <= box.y0 < box.y1 <= figure.bbox.padded(1).y1


def test_lazy_numbers():
    pytest.importorskip("dask")
    lazy = phases().chunk({"sigma_w": 1})
    axes, _ = drawn(lazy.varprop.phase_diagram(level=5))
    expected = drawn(phases().varprop.phase_diagram())[0].collections[0].get_array()
    np.testing.assert_array_equal(axes.collections[0].get_array(), expected)
    for call in (
        lambda data: data.varprop.boundary("sigma_b", "log10_var", 3.0),
        lambda data: data.varprop.scaling_exponent("sigma_w")["slope"],
    ):
        np.testing.assert_array_equal(call(lazy), call(phases()))


# --- layers -------------------------------------------------------------------------------------


def test_last_is_of_each_network():
    nan = np.nan
    data = made({"depth": [1, 2, 3]}, [[1, nan, nan], [1, 2, nan], [nan] * 3])
    found = data.varprop.last("log10_var").sel(statistic="mean")
    np.testing.assert_array_equal(found, [1, 2, nan])
    assert found.attrs["long_name"] == "the log10_var"
    # The correlation of zeros is not known, their second moment is.
    data["correlation"] = data["log10_var"].where(data["layer"] < 2)
    np.testing.assert_array_equal(
        data.varprop.last("correlation").sel(statistic="mean"), [1, nan, nan]
    )
    # Of a signal that the last layer never has, the last that has it.
    gradients = made({"depth": [1, 2]}, [[1, nan, nan], [1, 2, nan]], "weight_gradients.var")
    told = gradients.assign_coords(last_layer=("depth", [1, 3]))
    np.testing.assert_array_equal(told.varprop.last().sel(statistic="mean"), [1, 2])
    dead = told.isel(layer=[0, 1]).assign_coords(last_layer=("depth", [2, 2]))
    np.testing.assert_array_equal(dead.varprop.last().sel(statistic="mean"), [nan, 2])


# --- boundaries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1, 1, -1, 3], 1.5),  # the first
        ([-1, 0, 1, 2], 2),
        ([0, 1, -1, 2], 1),
        ([3, 2, 1, -3], 5),
        ([-1, -0.5, 0, -1], 4),  # touched
        ([1, 2, 3, 4], np.nan),
        ([-1, np.nan, 1, -1], 6),  # not across the one that is missing
        ([np.nan] * 4, np.nan),
        ([-np.inf, 1, 2, 3], 2),
        ([-2, np.inf, 2, 3], 1),
        ([-np.inf, np.inf, 2, 3], 1.5),
    ],
)
def test_crossings(values, expected):
    x = np.array([1.0, 2.0, 4.0, 8.0])
    np.testing.assert_allclose(crossing(x, np.array(values, float), 0.0), expected)


def test_boundary_over_the_other_dimensions():
    weights, biases, depths = np.array([3.0, 1.0, 2.0]), np.array([0.0, 0.25]), [10, 20]
    values = weights[:, None, None] + biases[:, None] + 0.01 * np.array(depths)
    values = np.stack([0 * values, values], axis=-1)
    data = made({"sigma_w": weights, "sigma_b": biases, "depth": depths}, values)
    found = data.varprop.boundary("sigma_w", "log10_var", 2.5)
    assert found.dims == ("sigma_b", "depth")
    np.testing.assert_allclose(found, [[2.4, 2.3], [2.15, 2.05]])
    assert found.attrs["long_name"] == "sigma_w at which the log10_var is 2.5"
    assert np.isnan(data.varprop.boundary("sigma_w", "log10_var", 2.5, layer=1)).all()
    difference = data["log10_var"].sel(layer=2) - 2.5
    here = data.varprop.boundary("sigma_w", difference)
    np.testing.assert_array_equal(here, found)
    assert here.attrs == {"long_name": "sigma_w at which the value is 0"}
    assert set(here.coords) == {"sigma_b", "depth"}
    named = difference.sel(depth=10, statistic="mean").assign_attrs(long_name="growth")
    axes = data.varprop.phase_diagram(value=named).axes
    assert axes[1].get_ylabel() == "growth"
    order = np.argsort(weights)
    np.testing.assert_array_equal(axes[0].collections[0].get_array(), named.T.values[:, order])
    half = data.varprop.boundary("layer", "log10_var", 0.5).sel(sigma_w=2, sigma_b=0, depth=10)
    assert float(half) == pytest.approx(1 + 0.5 / 2.1)


def test_linear_networks_grow_from_where_they_should():
    # In layers of n units log |x|^2 grows by psi(n / 2) + ln(2 / n) + 2 ln(sigma_w), with variance
    # psi'(n / 2). Of 400 trials of 19 layers the standard error of the boundary is 0.0008.
    sizes = [0.98, 1.0, 1.02]

    def build(sigma_w):
        return vp.mlp([100] * 21, weight=f"normal(std={sigma_w / 10})")

    data = simulated(build, {"sigma_w": sizes}, "log10_second_moment", 400)
    values = data["log10_second_moment"]
    growth = values.sel(layer=20) - values.sel(layer=1)
    found = float(data.varprop.boundary("sigma_w", growth))
    expected = np.exp(-(special.digamma(50) + np.log(2 / 100)) / 2)
    assert found == pytest.approx(expected, abs=0.004)  # 5 standard errors: 6e-7


# --- exponents ----------------------------------------------------------------------------------

WIDTHS = 16.0 * 2 ** np.arange(8)


def test_slopes_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(1)
    x, values = np.log10(WIDTHS[:5]), rng.standard_normal((5, 4))
    errors = rng.uniform(0.5, 2, (5, 4))
    errors[2, 1] = values[4, 2] = np.nan
    found = slopes(WIDTHS[:5], values, errors, 50, 0.95)
    for i in range(4):
        known = np.isfinite(values[:, i] + errors[:, i])
        y, w = values[known, i], 1 / errors[known, i]
        line, residuals, *_ = np.polyfit(x[known], y, 1, w=w, full=True)
        assert found.slope[i] == pytest.approx(line[0])
        assert found.misfit[i] == pytest.approx(residuals[0] / (known.sum() - 2))


def test_two_widths():
    errors = np.array([[0.3], [0.1]])
    found = slopes(WIDTHS[[0, 4]], np.array([[1.0], [2.0]]), errors, 8, 0.9)
    lever = np.log10(16)
    assert found.slope == pytest.approx([1 / lever])
    freedom = 7 * 0.1**2 / (0.09**2 + 0.01**2)  # Welch's
    half = stats.t.ppf(0.95, np.floor(freedom)) * 0.1**0.5 / lever
    assert found.high - found.slope == pytest.approx([half])
    assert np.isnan(found.misfit).all()


def test_one_trial_has_errors_from_the_distances_to_the_line():
    rng = np.random.default_rng(2)
    y, unknown = rng.standard_normal((5, 1)), np.full((5, 1), np.nan)
    found = slopes(WIDTHS[:5], y, unknown, 1, 0.95)
    line = stats.linregress(np.log10(WIDTHS[:5]), y[:, 0])
    assert found.slope == pytest.approx([line.slope])
    assert found.high - found.slope == pytest.approx([stats.t.ppf(0.975, 3) * line.stderr])
    two = slopes(WIDTHS[:2], y[:2], unknown[:2], 1, 0.95)
    assert np.isfinite(two.slope)
    assert np.isnan(two.low)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("count", "trials"), [(2, 5), (2, 50), (3, 10), (5, 5), (8, 30)])
def test_intervals_cover(count, trials, nested):
    # Of 4000 lines. At a coverage of 0.93 fewer than 0.91 would cover with probability 1e-6; at
    # 0.998 all but four would with 0.1. Nested, each width's numbers go on where the last ended.
    rng = np.random.default_rng(3)
    sizes = WIDTHS[:count]
    shape = (count, trials, 4000)
    if nested:
        steps = np.sqrt(np.diff(sizes, prepend=0.0))[:, None, None]
        noise = np.cumsum(steps * rng.standard_normal(shape), axis=0) / sizes[:, None, None]
    else:
        noise = rng.standard_normal(shape) / np.sqrt(sizes)[:, None, None]
    values = 0.5 * np.log10(sizes)[:, None, None] + noise
    errors = values.std(axis=1, ddof=1) / trials**0.5
    found = slopes(sizes, values.mean(axis=1), errors, trials, 0.95)
    covered = ((found.low <= 0.5) & (found.high >= 0.5)).mean()
    assert 0.93 <= covered < 1


def test_curvature_widens_the_interval():
    x = np.log10(WIDTHS[:5])[:, None]
    errors = np.full((5, 1), 0.01)
    straight = slopes(WIDTHS[:5], x, errors, 20, 0.95)
    bent = slopes(WIDTHS[:5], x + 0.3 * (x - x.mean()) ** 2, errors, 20, 0.95)
    assert straight.misfit == pytest.approx([0.0])
    assert bent.misfit > 10
    widths = [found.high - found.low for found in (straight, bent)]
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(bent.misfit))


def test_exponents_of_power_laws():
    exponents = np.array([[0.0, -1.0, 0.5], [1.0, 2.0, 0.0]])  # by sigma_w and layer
    widths = [64.0, 16.0, 256.0]
    logarithms = 3 + np.log10(widths)[:, None, None] * exponents
    grid = {"width": widths, "sigma_w": [1, 2]}
    data = made(grid, logarithms)
    plain = np.stack([10**logarithms, 1e-3 * 10**logarithms], axis=-1)
    plain = np.concatenate([plain, np.full_like(plain, np.nan)], axis=-1)
    data["gradients.var"] = made(grid, plain, "gradients.var")["gradients.var"]
    found = data.varprop.scaling_exponent()
    assert found["slope"].dims == ("quantity", "sigma_w", "layer")
    assert list(found["quantity"].values) == ["log10_var", "gradients.var"]
    for one in found["slope"]:
        np.testing.assert_allclose(one, exponents, atol=1e-12)
    np.testing.assert_array_equal(found["flat"][1], exponents == 0)
    named = data.varprop.scaling_exponent("width", "log10_var", level=0.5)
    assert named["slope"].dims == ("sigma_w", "layer")
    assert (named["high"] < found["high"][0]).all()
    # The delta method: 0.1% of the mean is 0.001 / ln 10 decades, over the root of 10 trials.
    two = data.isel(width=[0, 1]).varprop.scaling_exponent("width", "gradients.var")
    error = 2**0.5 * 0.001 / np.log(10) / 10**0.5 / np.log10(4)
    half = stats.t.ppf(0.975, 18) * error
    np.testing.assert_allclose(two["high"] - two["slope"], half, rtol=1e-9)


def test_what_is_unknown_is_not_flat():
    data = made({"width": [1, 10, 100]}, [[1.0, 1, 1], [1, np.nan, 1], [1, np.nan, np.nan]])
    found = data.varprop.scaling_exponent()
    assert found["flat"].values.tolist() == [[True, False, True]]
    assert np.isnan(found["slope"].values).tolist() == [[False, True, False]]
    negative = made({"width": [1, 10, 100]}, [[-1.0], [1.0], [0.0]], "mean")
    assert np.isnan(negative.varprop.scaling_exponent()["slope"]).all()


def test_exponents_of_runs():
    # Of linear layers E x^2 is the inputs', if std^2 = 1 / fan_in, at every width; if std = 1 it
    # is fan_in times that. At the level 0.9999 one interval of the nine fails with 1e-3.
    def build(weight, activation="linear"):
        return lambda width: vp.mlp([20] + [width] * 3, activation, weight)

    grid = {"width": [32, 64, 128, 256]}
    for weight, expected in (("lecun_normal", [0, 0, 0]), ("normal(std=1)", [0, 1, 2])):
        data = simulated(build(weight), grid, "second_moment", 200)
        found = data.varprop.scaling_exponent(level=0.9999).isel(quantity=0)
        assert (found["low"] <= expected).all()
        assert (found["high"] >= expected).all()
        assert (found["high"] - found["low"] < 0.3).all()
        assert found["flat"].values.tolist() == [size == 0 for size in expected]
    data = simulated(build("lecun_normal", "tanh"), grid, "log10_second_moment", 50)
    found = data.varprop.scaling_exponent()
    assert (abs(found["slope"]) < 0.03).all()


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d: d.drop_vars("log10_var").varprop,
            r"^dataset must be of varprop\.sweep, .* none",
        ),
        (
            lambda d: d.varprop.last("log_var"),
            r"^unknown value 'log_var': did you mean 'log10_var'",
        ),
        (lambda d: d.varprop.phase_diagram("sigma"), r"^unknown dimension x = 'sigma'"),
        (lambda d: d.varprop.phase_diagram("depth", "depth"), r"^x and y must be different"),
        (
            lambda d: d.varprop.phase_diagram(),
            (
                r"^phase_diagram leaves depth with more than one value: depth = 5, 10\. "
                r"Select one, as in dataset\.sel\(depth=10\)\.varprop\.phase_diagram\(\.\.\.\), "
                r"or by position with dataset\.isel\(depth=-1\)$"
            ),
        ),
        (lambda d: d.varprop.phase_diagram(layer=3), r"^layer must be one of 1, 2, got 3$"),
        (lambda d: d.varprop.phase_diagram(layer="dens1"), r"^unknown layer 'dens1'"),
        (
            lambda d: d.drop_vars("layer_name").varprop.phase_diagram(layer="dense1"),
            r"^layer must be a number where layers differ in name, got 'dense1'$",
        ),
        (lambda d: d.varprop.phase_diagram(statistic="var"), r"^unknown statistic 'var'"),
        (
            lambda d: d.varprop.phase_diagram(y="layer", layer=1),
            r"^layer must be None where value has none or the map",
        ),
        (
            lambda d: (
                d.assign_coords(sigma_w=["a", "b"]).sel(depth=5).varprop.phase_diagram(level=0)
            ),
            r"^level needs numbers along 'sigma_w', got a, b$",
        ),
        (lambda d: d.varprop.depth_profile(), r"^over must be one of sigma_w, sigma_b, depth, "),
        (lambda d: d.varprop.depth_profile(depth=7), r"^depth must be one of 5, 10, got 7$"),
        (lambda d: d.varprop.depth_profile(dept=5), r"^unknown dimension 'dept': did you mean"),
        (
            lambda d: d.varprop.depth_profile(over="depth"),
            r"^depth_profile leaves sigma_w, sigma_b",
        ),
        (lambda d: d.varprop.boundary("width", "log10_var"), r"^unknown dimension x = 'width'"),
        (lambda d: d.varprop.boundary("depth", d["log10_var"][..., 0, 0], layer=1), r"^layer must"),
        (lambda d: d.varprop.scaling_exponent(), r"^unknown dimension dim = 'width': "),
        (lambda d: d[{"depth": [0]}].varprop.scaling_exponent("depth"), r"^dim must have two or"),
        (lambda d: d.varprop.scaling_exponent("sigma_b"), r"^dim must have two .* sigma_b = 0, 1$"),
        (lambda d: d.varprop.scaling_exponent("depth", level=1), r"^level must be between 0 and 1"),
    ],
)
def test_errors(call, message):
    grid = {"sigma_w": [1.0, 2.0], "sigma_b": [0.0, 1.0], "depth": [5, 10]}
    with pytest.raises(ValueError, match=message):
        call(made(grid, np.ones((2, 2, 2, 2))))


def test_types():
    data = phases()
    with pytest.raises(TypeError, match=r"^value must be the name of a quantity, got 3$"):
        data.varprop.boundary("sigma_w", 3)
    with pytest.raises(TypeError, match=r"^theory must be True or False, got 1$"):
        data.varprop.phase_diagram(theory=1)
    del data.attrs["trials"]
    with pytest.raises(TypeError, match=r"^trials in dataset\.attrs must be an integer, got None$"):
        data.varprop.scaling_exponent("sigma_w")
