"""What a child is started with."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of one program: the whole ``argv`` (a list, so spaces survive) and the whole ``environ``.

    ``detail`` is the caller's own (the plan, the load log of this start) and opaque here. ``rlimit_as_bytes`` caps the
    child's address space. A child that is not ready after ``ready_deadline_s`` is fenced.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    detail: object = None
    rlimit_as_bytes: int | None = None
    ready_deadline_s: float = 300.0
