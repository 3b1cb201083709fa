"""Join the page's modules into one script: a browser asks once instead of fourteen times. Pure.

It knows the forms that these modules use and refuses every other one: imports in one line each and from
``/dashboard/``, named exports where something is declared, nothing that is exported and assigned again (an export is
copied, not bound), no cycles.
"""

import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import (?:\{ (?P<names>.*) \}|\* as (?P<whole>\w+)) from "/dashboard/(?P<module>\w+)\.js";$')
_EXPORT = re.compile(r"^export (?P<declaration>(?:(?:async )?function\*?|class|const) (?P<name>\w+).*)$")


def bundle(modules: Mapping[str, str], entry: str) -> str:
    """Return one module that does what ``entry`` does; keys are names without ``.js``, values the sources.

    Raises ValueError on a form that it does not know, KeyError on a module that there is not.
    """
    done: dict[str, str] = {}
    _add(entry, modules, done, ())
    return "".join(done.values())


def _add(name: str, modules: Mapping[str, str], done: dict[str, str], path: tuple[str, ...]) -> None:
    """Append a module behind those that it imports."""
    if name in path:
        raise ValueError(f"{' imports '.join((*path, name))}: a cycle")
    if name in done:
        return
    lines = modules[name].splitlines()
    for imported in filter(None, map(_IMPORT.match, lines)):
        _add(imported["module"], modules, done, (*path, name))
    exported = ", ".join(export["name"] for export in filter(None, map(_EXPORT.match, lines)))
    body = "\n".join(_translated(name, line) for line in lines)
    done[name] = f"const ${name} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n"


def _translated(name: str, line: str) -> str:
    """Return what stands for a line inside a function."""
    if imported := _IMPORT.match(line):
        return _taken(imported)
    if export := _EXPORT.match(line):
        return export["declaration"]
    if line.startswith(("import", "export")):
        raise ValueError(f"{name}.js: {line!r} is a form that the bundle does not know")
    return line


def _taken(imported: re.Match[str]) -> str:
    """Return what stands for an import statement."""
    if imported["whole"]:
        return f"const {imported['whole']} = ${imported['module']};"
    return f"const {{ {imported['names'].replace(' as ', ': ')} }} = ${imported['module']};"
