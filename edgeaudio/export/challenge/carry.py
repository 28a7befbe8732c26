"""Copies the modules that a package needs, and those they import, out of edgeaudio."""

from __future__ import annotations

import ast
import re
from importlib.metadata import distribution, requires
from pathlib import Path

import edgeaudio

SOURCES = Path(edgeaudio.__file__).parent
LICENCE = "LICENSE"
_IMPORT = re.compile(r"^(\s*)from edgeaudio\.", re.MULTILINE)


def carry(modules: list[str], folder: Path, package: str) -> None:
    """Copy modules and all of edgeaudio that they import, as a package of their own.

    Nothing is changed but where they import each other from.

    Args:
        modules: such as ``edgeaudio.frontend``.
        folder: receives the files; its own parent folders are packages already.
        package: dotted name under which `folder` will be imported.
    """
    for module in closure(modules):
        source = _file(module)
        target = folder / source.relative_to(SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = _IMPORT.sub(rf"\1from {package}.", source.read_text(encoding="utf-8"))
        target.write_text(text, encoding="utf-8")
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        (path / "__init__.py").touch()
    note = (
        f'"""Parts of edgeaudio {edgeaudio.__version__} under Apache-2.0; only their imports were moved."""\n'
    )
    (folder / "__init__.py").write_text(note, encoding="utf-8")
    licence = distribution("edgeaudio").read_text(f"licenses/{LICENCE}")
    assert licence, "edgeaudio was installed without its licence"
    (folder / LICENCE).write_text(licence, encoding="utf-8")


def closure(modules: list[str]) -> list[str]:
    """Modules of edgeaudio and those they import, however deep; of a package, what is imported from it."""
    found: dict[str, None] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = None
            waiting += _imported(_file(module))
    return sorted(found)


def requirements(names: set[str]) -> list[str]:
    """The requirements on some of the libraries as edgeaudio itself states them, sorted."""
    stated = {
        re.split(r"[^\w-]", each)[0]: each.split(";")[0].strip() for each in requires("edgeaudio") or []
    }
    return sorted(stated[name] for name in names)


def _imported(source: Path) -> list[str]:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    modules = [node.module for node in nodes if node.module and node.module.split(".")[0] == "edgeaudio"]
    assert all(_file(module).is_file() for module in modules), f"{source} imports what is no module"
    return modules


def _file(module: str) -> Path:
    path = SOURCES.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
