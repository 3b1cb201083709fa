"""Keep plans by name, one JSON file each, with a description and tags."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.plan import Plan, plan_from_json

MAX_BYTES = 4 * 1024 * 1024
# A name is also a file's name: no separators, no leading dot, so nothing outside the store can be meant.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan with what its owner wrote about it."""

    name: str
    plan: Plan
    description: str = ""
    tags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the stored plan as plain JSON values."""
        about = {"name": self.name, "description": self.description, "tags": list(self.tags)}
        return about | {"plan": self.plan.to_json()}


class PlanStore:
    """A folder of saved plans; every method raises PlanError for a bad name, a missing plan or a damaged file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, stored: StoredPlan, *, overwrite: bool = False) -> Path:
        """Save a plan under its name; refuse to replace another unless told to."""
        path = self._path(stored.name)
        if path.exists() and not overwrite:
            raise PlanError(f"a plan {stored.name!r} is saved already: choose another name, or use --overwrite")
        write_plan(path, stored)
        return path

    def load(self, name: str) -> StoredPlan:
        """Return a saved plan."""
        path = self._path(name)
        if not path.is_file():
            known = ", ".join(self.names()) or "none"
            raise PlanError(f"there is no saved plan {name!r} (saved are: {known})")
        return read_plan(path)

    def names(self) -> tuple[str, ...]:
        """List the names of all saved plans, sorted."""
        return tuple(sorted(path.stem for path in self._folder.glob("*.json") if _NAME.fullmatch(path.stem)))

    def delete(self, name: str) -> None:
        """Delete a saved plan."""
        self.load_raw(name).unlink()

    def load_raw(self, name: str) -> Path:
        """Return the file of a saved plan, which may be damaged."""
        path = self._path(name)
        if not path.is_file():
            raise PlanError(f"there is no saved plan {name!r}")
        return path

    def take_in(self, source: Path, *, overwrite: bool = False) -> StoredPlan:
        """Import a plan file written by :meth:`give_out`; its name is checked like any other."""
        stored = read_plan(source)
        self.save(stored, overwrite=overwrite)
        return stored

    def give_out(self, name: str, target: Path) -> None:
        """Export a saved plan to a file."""
        if target.exists():
            raise PlanError(f"{target} exists already: choose another file")
        write_plan(target, self.load(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{_checked(name)}.json"


def read_plan(path: Path) -> StoredPlan:
    """Read a plan file; raise PlanError naming what is wrong with it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(f"{path} has {path.stat().st_size} bytes, a plan has {MAX_BYTES} at most")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise PlanError(f"{path} is not JSON: give a file that --save or plan export wrote") from None
    return _stored(value, path)


def _stored(value: object, path: Path) -> StoredPlan:
    if not isinstance(value, dict) or "plan" not in value:
        raise PlanError(f"{path} holds no saved plan: give a file that --save or plan export wrote")
    name, description, tags = value.get("name"), value.get("description", ""), value.get("tags", [])
    if not isinstance(name, str) or not isinstance(description, str) or not _is_strings(tags):
        raise PlanError(f"{path}: name and description must be strings, tags a list of strings")
    try:
        return StoredPlan(_checked(name), plan_from_json(value["plan"]), description, tuple(tags))
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PlanError(f"plan name {name!r} is not allowed: use up to 64 letters, digits, dots, dashes, underscores")
    return name


def write_plan(path: Path, stored: StoredPlan) -> None:
    """Write a plan file in one step, so that no reader sees half of it; raise PlanError."""
    text = json.dumps(stored.to_json(), indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as part:
            part.write(text)
        Path(part.name).replace(path)
    except OSError as error:
        raise PlanError(f"{path} cannot be written: {error.strerror or error}") from None


def is_file_name(target: str) -> bool:
    """Tell whether a user means a file rather than a name in the store."""
    return target.endswith(".json") or "/" in target


def find(store: PlanStore, target: str) -> StoredPlan:
    """Return the plan that a user means by a file or by a name."""
    return read_plan(Path(target)) if is_file_name(target) else store.load(target)


def keep(store: PlanStore, target: str, plan: Plan, about: tuple[str, Sequence[str]], *, overwrite: bool) -> Path:
    """Save a plan to a file or under a name, with its description and tags."""
    description, tags = about
    if not is_file_name(target):
        return store.save(StoredPlan(target, plan, description, tuple(tags)), overwrite=overwrite)
    path = Path(target)
    if path.exists() and not overwrite:
        raise PlanError(f"{path} exists already: choose another file, or use --overwrite")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:64] or "plan"
    write_plan(path, StoredPlan(name, plan, description, tuple(tags)))
    return path
