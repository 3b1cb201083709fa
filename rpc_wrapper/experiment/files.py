"""Find and read experiments, and keep rows as they come."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.row import Row, read_rows
from rpc_wrapper.experiment.spec import Experiment, read_spec

SHIPPED = Path(__file__).parent / "shipped"
MAX_BYTES = 1024 * 1024


def shipped_names() -> list[str]:
    """Return the experiments that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_experiment(name: str) -> Path:
    """Return a file, or the shipped experiment of that name; raise ConfigError."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = SHIPPED / f"{path.name.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    raise ConfigError(
        f"{name} is neither a file nor one of the experiments that come along: {', '.join(shipped_names())}"
    )


def read_experiment(path: Path, *, quick: bool = False) -> Experiment:
    """Read and check an experiment; raise ConfigError that names the file and the mistake."""
    try:
        return read_spec(_read_yaml(path), quick=quick)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def _read_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"it has more than {MAX_BYTES} bytes: this is no experiment")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"it cannot be read: {error}") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise ConfigError(f"it is not YAML{'' if line is None else f', see line {line + 1}'}") from None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rows of an experiment, a line each, in a file that only grows."""

    path: Path

    def rows(self) -> dict[str, Row]:
        """Return the rows by their keys."""
        if not self.path.exists():
            return {}
        return read_rows(self.path.read_text(encoding="utf-8").splitlines())

    def add(self, row: Row) -> None:
        """Append a row; on a line of its own, even after one that was cut."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{row.to_json()}\n" if _is_cut(self.path) else f"{row.to_json()}\n")


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        content = file.read()
    return bool(content) and not content.endswith(b"\n")
