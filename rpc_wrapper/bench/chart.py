"""What a chart shows, as a value; ``draw`` makes the picture."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value, and the interval it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure over an axis: ``series`` maps a name to a point per position of the axis, None where there is none.

    Positions that are all numbers become a line over them; others become groups of bars.
    """

    title: str
    unit: str
    positions: tuple[str, ...]
    series: Mapping[str, tuple[Point | None, ...]]
    axis: str = ""

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """Return the positions as numbers, None when one of them is none."""
        try:
            return tuple(float(position) for position in self.positions)
        except ValueError:
            return None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing of it was measured."""
        return not any(point for points in self.series.values() for point in points)
