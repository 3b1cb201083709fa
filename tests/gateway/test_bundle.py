"""Modules are joined into one script that does the same, or refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rpc_wrapper.gateway.dashboard.bundle import bundle

MODULES = {
    "leaf": "// Comment.\nexport const one = 1;\nexport function two() { return one + 1; }\nconst hidden = 9;",
    "middle": 'import { one, two as second } from "/dashboard/leaf.js";\n'
    "const hidden = 30;\nexport class Sum { value = one + second() + hidden; }\n"
    "export async function* counted() { yield one; }",
    "entry": 'import * as leaf from "/dashboard/leaf.js";\nimport { Sum, counted } from "/dashboard/middle.js";\n'
    "console.log(JSON.stringify([new Sum().value, leaf.two(), typeof leaf.hidden, typeof counted]));",
    "alone": "export const unused = 1;",
}


def test_a_module_comes_once_and_behind_what_it_imports():
    joined = bundle(MODULES, "entry")
    order = [line.split()[1] for line in joined.splitlines() if line.startswith("const $")]
    assert order == ["$leaf", "$middle", "$entry"]
    assert "export " not in joined
    assert "import " not in joined


def test_the_bundle_does_what_the_modules_do(tmp_path: Path):
    node = shutil.which("node") or playwright_node()
    script = tmp_path / "joined.mjs"
    script.write_text(bundle(MODULES, "entry"))
    run = subprocess.run([node, script], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(run.stdout) == [33, 2, "undefined", "function"]


def playwright_node() -> str:
    """Return the Node.js that Playwright for Python brings along."""
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


@pytest.mark.parametrize(
    "source",
    [
        "export default 1;",
        "export let changing = 1;",
        "export { one };",
        'import one from "/dashboard/leaf.js";',
        'import "/dashboard/leaf.js";',
        'import { one } from "https://elsewhere.example/leaf.js";',
        'import {\n  one,\n} from "/dashboard/leaf.js";',
    ],
)
def test_a_form_that_it_does_not_know_is_refused(source: str):
    with pytest.raises(ValueError, match="does not know"):
        bundle({**MODULES, "entry": source}, "entry")


def test_a_cycle_is_refused():
    circle = {"a": 'import { b } from "/dashboard/b.js";', "b": 'import { a } from "/dashboard/a.js";'}
    with pytest.raises(ValueError, match="a imports b imports a"):
        bundle(circle, "a")


def test_a_missing_module_is_refused():
    with pytest.raises(KeyError, match="leaf"):
        bundle({"entry": MODULES["entry"]}, "entry")


def test_the_first_minutes_of_a_day_are_not_those_of_hour_24(tmp_path: Path):
    node = shutil.which("node") or playwright_node()
    script = tmp_path / "clock.mjs"
    formats = (Path(__file__).parents[2] / "rpc_wrapper/gateway/dashboard/format.js").read_text()
    script.write_text(f"{formats}\nconsole.log(JSON.stringify([clock(187), bytes(3 * MIB), bytes(4096 * MIB)]));")
    env = {"TZ": "UTC", "LANG": "en_US.UTF-8"}
    run = subprocess.run([node, script], capture_output=True, text=True, check=True, timeout=60, env=env)
    assert json.loads(run.stdout) == ["Jan 1 00:03:07", "3.0 MiB", "4.0 GiB"]
