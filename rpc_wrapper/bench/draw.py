"""Draw charts with matplotlib, which is the extra ``charts``; the same values give the same bytes of SVG."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpc_wrapper.bench.chart import Chart, Point
from rpc_wrapper.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")
COLOURS = ("#2f6f9f", "#d1793b", "#4f9a63", "#8c6bb1", "#b5434b", "#7a7a7a", "#c2a13a", "#3aa6a6")  # told apart in grey
INK, GRID = "#333333", "#e3e3e3"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "rpc-wrapper",  # else every drawing has ids of its own
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
WIDTH, HEIGHT = 6.4, 3.2  # inches
BARS_WIDTH = 0.8  # of the room of a group


def check(file_format: str, otherwise: str) -> None:
    """Raise ConfigError unless charts of this format can be drawn; to be asked before anything is measured.

    ``otherwise`` tells people how to do without.
    """
    if file_format not in FORMATS:
        raise ConfigError(f"--charts {file_format!r} is no format of charts: use {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(f"charts need matplotlib: pip install 'rpc-wrapper[charts]', or {otherwise}") from None


def draw(charts: Sequence[Chart], path: Path) -> None:
    """Write charts under one another into one file, whose suffix says the format; empty ones are left out."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [chart for chart in charts if not chart.is_empty]
    if not drawn:
        return
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(drawn)), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(len(drawn), 1, squeeze=False)
        for chart, [axes] in zip(drawn, rows, strict=True):
            _draw_one(chart, axes)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata, dpi=144)


def _draw_one(chart: Chart, axes: "Axes") -> None:
    axes.set_title(chart.title, loc="left", fontweight="bold")
    axes.set_ylabel(chart.unit)
    axes.set_xlabel(chart.axis)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID)
    if chart.numbers is not None and len(chart.positions) > 1:
        _draw_lines(chart, chart.numbers, axes)
    else:
        _draw_bars(chart, axes)
    axes.set_ylim(bottom=0)
    if len(chart.series) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_lines(chart: Chart, positions: Sequence[float], axes: "Axes") -> None:
    for (name, points), colour in zip(chart.series.items(), cycle(COLOURS), strict=False):
        known = [(at, point) for at, point in zip(positions, points, strict=True) if point]
        values = [point.value for _, point in known]
        errors = _errors([point for _, point in known])
        at = [at for at, _ in known]
        axes.errorbar(at, values, errors, label=name, color=colour, marker="o", markersize=4, capsize=2)
    axes.set_xticks(positions, chart.positions)


def _draw_bars(chart: Chart, axes: "Axes") -> None:
    width = BARS_WIDTH / len(chart.series)
    for number, ((name, points), colour) in enumerate(zip(chart.series.items(), cycle(COLOURS), strict=False)):
        known = [(at, point) for at, point in enumerate(points) if point]
        left = [at - BARS_WIDTH / 2 + (number + 0.5) * width for at, _ in known]
        values = [point.value for _, point in known]
        errors = _errors([point for _, point in known])
        axes.bar(left, values, width * 0.92, yerr=errors, label=name, color=colour, ecolor=INK, capsize=2)
    crowded = sum(map(len, chart.positions)) > 60
    axes.set_xticks(range(len(chart.positions)), chart.positions, rotation=30 if crowded else 0)
    if crowded:
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")


def _errors(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.value - point.low for point in points], [point.high - point.value for point in points]
