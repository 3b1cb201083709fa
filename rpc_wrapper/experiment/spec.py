"""An experiment as its file describes it: checked in one go, every mistake a sentence."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from rpc_wrapper.bench.stats import Figures
from rpc_wrapper.bench.workload import Kind, Workload
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.cells import Cell, Value, expand, override
from rpc_wrapper.synthetic.shapes import SHAPES, SMALLEST_VOCAB
from rpc_wrapper.synthetic.weights import QUANTS

FIGURES = (*Figures.__dataclass_fields__, "start_s")
"""Names of what a row holds, for charts and for the seed's figures."""


class Model(Value):
    """Where a model comes from: a ``file``, whose name may hold ``{quant}``, or a ``shape`` with random weights."""

    shape: str | None = None
    layers: int | None = Field(default=None, ge=1)
    vocab: int | None = Field(default=None, ge=SMALLEST_VOCAB)
    file: str | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.shape is None) == (self.file is None):
            raise ValueError("a model is either a shape or a file: give one of them")
        if self.shape is not None and self.shape not in SHAPES:
            raise ValueError(f"shape {self.shape!r} is unknown: use one of {', '.join(SHAPES)}")
        return self


class Asked(Value):
    """What is asked of a cell: a :class:`rpc_wrapper.bench.workload.Workload` by name."""

    kind: Kind = Kind.TOKENS
    prompt_tokens: int = 64
    n_predict: int = 64
    streams: int = 1
    requests: int = 1
    texts: tuple[str, ...] = ()
    cache_prompt: bool = False

    def workload(self) -> Workload:
        """Return the workload; raise ConfigError for one that asks nothing."""
        return Workload(**{name: getattr(self, name) for name in type(self).model_fields})


class ChartSpec(Value):
    """A figure over an axis, a line or a set of bars per value of other axes, of the cells where these fields hold."""

    figure: str
    over: str
    by: tuple[str, ...] = ()
    where: dict[str, Any] = Field(default_factory=dict)
    title: str = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        axes = set(Cell.model_fields)
        unknown = ({self.over, *self.by, *self.where} - axes) | ({self.figure} - set(FIGURES))
        if unknown:
            raise ValueError(
                f"a chart names {', '.join(sorted(unknown))}: figures are {', '.join(FIGURES)}; axes {axes}"
            )
        return self


class SeedRow(Value):
    """Figures that somebody published, and which cell of ours is to stand beside them."""

    what: str
    cell: str
    figures: dict[str, float]


class Seed(Value):
    """The published figures, on what machine; the row called ``baseline`` is what the others are set in relation to."""

    source: str
    hardware: str
    rows: tuple[SeedRow, ...]
    baseline: str | None = None


class Override(Value):
    """Fields to set in the cells where others hold."""

    when: dict[str, Any]
    set: dict[str, Any]


class File(Value):
    """The file itself."""

    name: str
    about: str
    models: dict[str, Model]
    workloads: dict[str, Asked]
    defaults: dict[str, Any] = Field(default_factory=dict)
    matrix: dict[str, list[Any]] = Field(default_factory=dict)
    cells: list[dict[str, Any]] = Field(default_factory=list)
    overrides: list[Override] = Field(default_factory=list)
    repeats: int = Field(default=5, ge=1)
    warm_up: int = Field(default=1, ge=0)
    charts: tuple[ChartSpec, ...] = ()
    seed: Seed | None = None
    notes: tuple[str, ...] = ()
    quick: dict[str, Any] = Field(default_factory=dict)


class Experiment(Value):
    """An experiment ready to run."""

    name: str
    about: str
    models: dict[str, Model]
    workloads: dict[str, Asked]
    cells: tuple[Cell, ...]
    repeats: int
    warm_up: int
    charts: tuple[ChartSpec, ...]
    seed: Seed | None
    notes: tuple[str, ...]


def read_spec(value: object, *, quick: bool = False) -> Experiment:
    """Return the experiment that a file's values describe, with its ``quick`` part if asked; raise ConfigError."""
    if not isinstance(value, dict):
        raise ConfigError("the file is no mapping: see docs/experiments.md for what it holds")
    if quick:
        value = merge(value, value.get("quick") or {})
    try:
        file = File.model_validate(value)
        pairs = [(each.when, each.set) for each in file.overrides]
        fields = expand(file.matrix, file.defaults, pairs) if file.matrix else []
        fields += [override(file.defaults | each, pairs) for each in file.cells]
        cells = tuple(Cell.model_validate(each) for each in fields)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None
    return _checked(file, cells)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with changes: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _checked(file: File, cells: tuple[Cell, ...]) -> Experiment:
    if not cells:
        raise ConfigError(f"experiment {file.name} has no cells: give it a matrix or cells")
    for asked in file.workloads.values():
        asked.workload()
    labels: set[str] = set()
    for cell in cells:
        _check_cell(cell, file)
        if cell.label in labels:
            raise ConfigError(f"two cells are called {cell.label}: give them a name of their own")
        labels.add(cell.label)
    for row in file.seed.rows if file.seed else ():
        if row.cell not in labels or set(row.figures) - set(FIGURES):
            raise ConfigError(
                f"seed row {row.what!r} speaks of cell {row.cell!r} and {', '.join(row.figures)}: unknown"
            )
    names = set(Experiment.model_fields) - {"cells"}
    return Experiment(cells=cells, **{name: getattr(file, name) for name in names})


def _check_cell(cell: Cell, file: File) -> None:
    if cell.model not in file.models:
        raise ConfigError(f"cell {cell.label}: model {cell.model!r} is not among {', '.join(file.models)}")
    if cell.workload not in file.workloads:
        raise ConfigError(f"cell {cell.label}: workload {cell.workload!r} is not among {', '.join(file.workloads)}")
    if file.models[cell.model].shape is not None and cell.quant not in QUANTS:
        raise ConfigError(f"cell {cell.label}: quant {cell.quant!r} is unknown, use one of {', '.join(QUANTS)}")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
