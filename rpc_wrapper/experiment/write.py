"""Write an experiment's tables, values and charts into a folder."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.bench.draw import draw
from rpc_wrapper.bench.report import Environment
from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.experiment.report import chart_of, to_csv, to_json, to_markdown
from rpc_wrapper.experiment.row import Row
from rpc_wrapper.experiment.spec import ChartSpec, Experiment


@dataclass(frozen=True, slots=True)
class Pictures:
    """Which charts to draw, and as what kind of file."""

    specs: Sequence[ChartSpec]
    file_format: str


def write_results(
    folder: Path, experiment: Experiment, rows: Sequence[Row], environment: Environment, pictures: Pictures
) -> str:
    """Write ``results.md``, ``.csv`` and ``.json`` and the charts; return the Markdown. Raises RPCWrapperError."""
    if not rows:
        raise RPCWrapperError("no cell was measured: nothing to write")
    folder.mkdir(parents=True, exist_ok=True)
    text = to_markdown(experiment, rows, environment, list(_draw(folder, rows, pictures)))
    values = json.dumps(to_json(experiment, rows, environment), indent=1) + "\n"
    for name, content in (("results.md", text), ("results.csv", to_csv(rows)), ("results.json", values)):
        (folder / name).write_text(content, encoding="utf-8")
    return text


def _draw(folder: Path, rows: Sequence[Row], pictures: Pictures) -> Iterator[str]:
    """Draw every chart that shows something, and yield its file's name."""
    for spec in pictures.specs:
        by = "".join(f"-{axis}" for axis in spec.by)
        name = f"{spec.figure}-over-{spec.over}{by and f'-by{by}'}.{pictures.file_format}"
        chart = chart_of(spec, rows)
        if not chart.is_empty:
            draw([chart], folder / name)
            yield name
