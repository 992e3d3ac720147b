"""What can be asked of a sweep's Dataset: ``dataset.varprop``, an accessor of xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from varprop import _spec
from varprop._extras import require
from varprop._statistics import probability
from varprop._sweep import boundary, scaling, view

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import DataArray, Dataset

xarray = require("xarray", "sweep")


class SweepAccessor:
    """Pictures and numbers of a sweep, as ``dataset.varprop``.

    Dimensions of the grid that a method does not use must have one value: choose it with
    xarray's ``dataset.sel(depth=50)``. Layers are given by number from 1, or by name.

    Parameters
    ----------
    dataset : xarray.Dataset
        What :func:`varprop.sweep` returned, or a part of it.

    Raises
    ------
    ValueError
        No variable of the dataset has the dimensions "layer" and "statistic".

    Examples
    --------
    >>> import varprop as vp
    >>> runs = [
    ...     vp.simulate(vp.mlp([50] * 6, weight=f"normal(std={w / 50**0.5})"), 10, trials=20)
    ...     for w in (0.8, 0.9, 1.1, 1.2)
    ... ]
    >>> moments = [[run.activations.per_trial.log10_second_moment.mean(axis=0)] for run in runs]
    >>> dataset = xarray.Dataset(
    ...     {"log10_second_moment": (("sigma_w", "statistic", "layer"), moments)},
    ...     {"sigma_w": [0.8, 0.9, 1.1, 1.2], "statistic": ["mean"], "layer": range(1, 6)},
    ... )
    >>> values = dataset["log10_second_moment"].sel(statistic="mean")
    >>> growth = values.sel(layer=5) - values.sel(layer=1)
    >>> round(float(dataset.varprop.boundary("sigma_w", growth)), 1)
    1.0
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._names = view.quantities(dataset)

    def __repr__(self) -> str:
        return f"<varprop: {', '.join(self._names)} over {self._dataset[self._names[0]].dims}>"

    def _array(self, value: object) -> DataArray:
        """Return the quantity of this name, or the user's own numbers."""
        if isinstance(value, xarray.DataArray):
            given: DataArray = value
            return given
        return view.quantity(self._dataset, value)

    def last(self, value: str | None = None) -> DataArray:
        """Return a quantity at the last layer of each network, which may differ in depth.

        Where a coordinate "last_layer" over the grid says which layer that is, it is believed.
        Otherwise it is the last one at which some quantity of the same signal is known: where
        signals die out, a correlation alone is known of fewer layers than there are.

        Parameters
        ----------
        value : str, optional
            Name of the quantity; by default the first.

        Returns
        -------
        xarray.DataArray
            Over the grid and "statistic"; its coordinate "layer" says which layers.
        """
        return view.last(self._dataset, view.quantity(self._dataset, value))

    def phase_diagram(
        self,
        x: str | None = None,
        y: str | None = None,
        value: str | DataArray | None = None,
        *,
        layer: int | str | None = None,
        statistic: str = "mean",
        theory: bool = True,
        level: float | None = None,
        figure: Figure | None = None,
    ) -> Figure:
        """Draw a map of a quantity over two dimensions, with theory's edge of chaos on it.

        Where a map is over sigma_w and sigma_b (weights of variance sigma_w^2 / fan_in, biases of
        variance sigma_b^2) and the dense layers have one activation, the line of chi_1 = 1 is
        drawn, see :func:`varprop.theory.critical`. It is left out where there is none, and
        without SciPy. Grey is where there is no value; how many points failed is said.

        Needs Matplotlib: ``pip install "varprop[plot]"``.

        Parameters
        ----------
        x, y : str, optional
            Dimensions of the grid, or "layer". By default sigma_w and sigma_b where there are such
            dimensions, otherwise the first two; of a grid of one dimension, it and "layer".
        value : str or DataArray, optional
            Name of the quantity, by default the first; or numbers over the grid, such as a
            difference of two layers.
        layer : int or str, optional
            By default the last of each network; of gradients, which come to it last, the first.
        statistic : {"mean", "std", "low", "high"}
            Over the trials.
        theory : bool
            Whether to draw the edge of chaos.
        level : float, optional
            Where the quantity has this value, a dashed line is drawn.
        figure : matplotlib Figure or SubFigure, optional
            Where to draw; by default a new figure that pyplot does not know.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            A name is unknown, x and y are the same, a layer is asked for of a map over layers, a
            level over texts, or other dimensions have more than one value; it says which.
        """
        array = self._array(value)
        if not isinstance(theory, bool):
            raise TypeError(f"theory must be True or False, got {theory!r}")
        x, y = view.axes(array, x, y)
        if "layer" not in (x, y) and "layer" in array.dims:
            if layer is None and isinstance(value, str):
                layer = view.first(array)
            array = view.layer(self._dataset, array, layer)
        elif layer is not None:
            raise ValueError(
                f"layer must be None where value has none or the map is over layers, got {layer!r}"
            )
        if "statistic" in array.dims:
            array = view.statistic(array, statistic)
        array = view.single(array, (x, y), "phase_diagram")
        if level is not None:
            level = _spec.real("level", level)
            for name in (x, y):
                view.ascending(array, name, "level")
        from varprop.plot import _sweeps

        about = _sweeps.About(self._dataset, statistic, layer)
        line = boundary.line(self._dataset, array, x, y) if theory else None
        return _sweeps.phases(array.transpose(y, x), about, line, level, figure)

    def depth_profile(
        self,
        value: str | None = None,
        *,
        over: str | None = None,
        statistic: str = "mean",
        figure: Figure | None = None,
        **fixed: object,
    ) -> Figure:
        """Draw a quantity layer by layer, a curve for each value of a dimension.

        Few curves have a legend, and bands that are 95% intervals of the means; many a colour bar.
        Of "var", "std" and "second_moment" the intervals are of the typical trial, the geometric
        mean: a few large trials may lift the mean above them.

        Needs Matplotlib: ``pip install "varprop[plot]"``.

        Parameters
        ----------
        value : str, optional
            Name of the quantity; by default the first.
        over : str, optional
            Dimension of the grid; by default the only one with more than one value.
        statistic : {"mean", "std", "low", "high"}
            Over the trials.
        figure : matplotlib Figure or SubFigure, optional
            Where to draw; by default a new figure that pyplot does not know.
        **fixed
            Values of other dimensions: ``sigma_b=0.1``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            A name or a value is unknown, or several dimensions have more than one value.
        """
        array = view.quantity(self._dataset, value)
        names = view.grid(array)
        for name, chosen in fixed.items():
            if name not in names:
                raise _spec.unknown("dimension", name, names)
            array = view.pick(array, name, chosen)
        free = view.grid(array)
        if over is None:
            many = [name for name in free if array.sizes[name] > 1]
            if len(many) > 1:
                raise ValueError(
                    f"over must be one of {', '.join(many)}, which have more than one value; "
                    f"give it, and one value of each other: "
                    f"depth_profile(over={many[0]!r}, {many[1]}={view.example(array, many[1])})"
                )
            over = many[0] if many else next(iter(free), None)
        else:
            over = view.dimension("over", over, free)
        view.statistic(array, statistic)
        array = view.single(array, () if over is None else (over,), "depth_profile")
        from varprop.plot import _sweeps

        about = _sweeps.About(self._dataset, statistic)
        return _sweeps.profiles(array, about, over, figure)

    def boundary(
        self,
        x: str,
        value: str | DataArray,
        level: float = 0.0,
        *,
        layer: int | str | None = None,
    ) -> DataArray:
        """Return where along a dimension a quantity's mean first reaches or crosses a level.

        First is from the smallest x on; between grid points the mean is taken as a straight line,
        so that the boundary is right to the curvature within a cell. Points without a value are
        not bridged.

        Parameters
        ----------
        x : str
            A dimension of numbers: of the grid, or "layer".
        value : str or DataArray
            Name of the quantity; or numbers over the grid, such as a difference of two layers.
        level : float
            In the quantity's units.
        layer : int or str, optional
            By default the last of each network.

        Returns
        -------
        xarray.DataArray
            In units of x, over the other dimensions of the grid; NaN where the level is not
            crossed.

        Raises
        ------
        ValueError
            A name is unknown, or x is not of numbers.
        """
        array = self._array(value)
        level = _spec.real("level", level)
        if "statistic" in array.dims:
            array = view.statistic(array, "mean")
        x = view.dimension("x", x, [str(name) for name in array.dims])
        if x != "layer" and "layer" in array.dims:
            array = view.layer(self._dataset, array, layer)
        elif layer is not None:
            raise ValueError(f"layer must be None where value has none or x is it, got {layer!r}")
        array = view.ascending(array, x, "boundary").transpose(..., x)
        found = boundary.crossing(
            array.coords[x].values.astype(np.float64), array.values.astype(np.float64), level
        )
        where = array.isel({x: 0}, drop=True)
        where = where.drop_vars(set(where.coords) - set(where.dims)).drop_attrs(deep=False)
        # What a difference is of, only its author knows.
        own = array.attrs.get("long_name", array.name)
        named = own if isinstance(value, str) else "the value"
        told = {"long_name": f"{x} at which {named} is {level:g}"}
        return where.copy(data=found).rename(x).assign_attrs(told)

    def scaling_exponent(
        self, dim: str = "width", value: str | None = None, *, level: float = 0.95
    ) -> Dataset:
        """Return how quantities scale with a dimension: slopes of logarithms, with intervals.

        Whether a layer's signals keep their size as the width grows is the coordinate check of
        the maximal update parametrization (Yang et al. 2022, appendix D): "flat" says that an
        exponent of 0 lies within the interval.

        The slope is of log10(mean) by log10(dim), of a quantity that is a logarithm itself
        ("log10_var") of its mean: the exponent of the typical trial.

        Parameters
        ----------
        dim : str
            A dimension of positive numbers, two or more.
        value : str, optional
            Name of a quantity; by default all of them.
        level : float
            Probability that an interval covers, in (0, 1).

        Returns
        -------
        xarray.Dataset
            "slope", "low", "high", "flat", and "misfit", chi square over its degrees of freedom;
            over "quantity" where all are asked for, the other dimensions of the grid, and
            "layer". NaN and not flat where under two means are known and positive.

        Raises
        ------
        ValueError
            A name is unknown, the dimension is not of two or more positive numbers, or the
            dataset's attributes do not say of how many trials it is.

        Notes
        -----
        Weighted least squares. The standard error of a mean is std / sqrt(trials), of its
        logarithm that over mean ln 10. Weights are as unsure as errors from few trials are, and
        where the means are not on a line (chi square is above its degrees of freedom: the widths
        are too small for the law), the interval is wider by the root of their ratio.

        Widths of one sweep share their draws: a wider matrix has the narrower one as its corner.
        That makes the slope between two widths surer than independent errors would, and through
        many neighbouring widths less sure. How much of it is left depends on the layer, so the
        larger variance is taken: of independent errors, or of those of nested means. Intervals
        so cover at least as often as they say, or nearly: of Gaussian means with 10 trials
        between 94 and 99.7% at a level of 95%.
        """
        names = self._names if value is None else [str(view.quantity(self._dataset, value).name)]
        level = probability(level)
        trials = _spec.integer(
            "trials in dataset.attrs", self._dataset.attrs.get("trials"), least=1
        )
        found = xarray.concat(
            [scaling.exponents(self._dataset[name], dim, trials, level) for name in names],
            xarray.Variable("quantity", names),
        )
        result: Dataset = found if value is None else found.isel(quantity=0)
        return result


xarray.register_dataset_accessor("varprop")(SweepAccessor)
