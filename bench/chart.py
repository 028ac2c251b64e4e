"""Curves as SVG files, drawn by matplotlib, which only the benchmarks need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plot:
    """Lines on logarithmic axes; a straight one that climbs one decade a decade is linear."""

    name: str  # of its file
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def draw(plots: list[Plot], folder: Path) -> list[Path]:
    """The files written; none where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is missing: no plots")
        return []
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pile-agent", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    return [_draw(plot, folder / f"{plot.name}.svg") for plot in plots]


def _draw(plot: Plot, file: Path) -> Path:
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    for name, points in plot.lines.items():
        axes.loglog(*zip(*points, strict=True), "o-", label=name, markersize=4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f"{value:,.7g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xticks([x for x, _ in next(iter(plot.lines.values()))])
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
    return file
