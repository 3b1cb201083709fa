"""Rows for tests."""

from rpc_wrapper.bench.stats import NodeUse, Spread
from rpc_wrapper.experiment.cells import Cell
from rpc_wrapper.experiment.row import Row

MIB = 2**20


def cell(**fields: object) -> Cell:
    return Cell.model_validate({"workload": "w", "model": "m", **fields})


def row(generation: float | None, error: str | None = None, **fields: object) -> Row:
    one = cell(**fields)
    figures = {} if generation is None else {"generation": Spread(generation, generation - 1, generation + 1)}
    nodes = (
        NodeUse("gateway", 5.0, 100 * MIB),
        NodeUse("llama-server", 90.0, 400 * MIB),
        NodeUse("worker 1", 50.0, 70 * MIB),
    )
    return Row(one.label, one, 2.5, figures, () if error else nodes, "uniform", error=error)
