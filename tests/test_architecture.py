"""The house keeps its shape: imports flow one way, files stay small, the public face is what was decided."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import edgeaudio

PACKAGE = Path(edgeaudio.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

DEPLOYED = {
    "cli", "errors", "files", "config", "presets", "recipes", "audio", "mel", "dft", "bundle", "predictor",
    "latency", "console", "answers", "weights", "runtimes", "bench", "browser", "events", "host_frontend",
    "microphone", "onnx_split", "recordings", "segments", "service", "streaming", "verify",
}  # fmt: skip
"""Modules that a device has; what they import at the top must be there without the train extra."""
HEAVY = {
    "torch",
    "onnx",
    "sklearn",
    "matplotlib",
    "scipy",
    "lightning_fabric",
    "safetensors",
    "jinja2",
    "optuna",
}
LAYERS = [
    {"errors", "files", "config", "presets", "recipes", "audio", "console", "mel", "dft", "runtimes",
     "onnx_split"},
    {"bundle", "host_frontend", "predictor", "weights"},
    {"answers", "bench", "browser", "events", "latency", "microphone", "recordings", "service", "streaming",
     "verify"},
    {"frontend", "augment", "losses", "models", "data", "checkpoints"},
    {"export", "quantization", "complexity", "training", "evaluation", "segments"},
    {"features", "search"},
    {"shallow"},
    {"report"},
    {"cli"},
]  # fmt: skip


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(name: str) -> int | None:
    room = name.removeprefix("edgeaudio.").split(".")[0]
    return next((i for i, rooms in enumerate(LAYERS) if room in rooms), None)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_imports_what_stands_above_it(path: Path) -> None:
    mine = layer_of(module_of(path))
    if mine is None:
        assert module_of(path) in ("", "__init__", "__main__"), f"{path.name} has no layer"
        return
    for name in imports(path, top_only=True):
        if name.startswith("edgeaudio."):
            theirs = layer_of(name)
            assert theirs is None or theirs <= mine, f"{module_of(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if module_of(p).split(".")[0] in DEPLOYED], ids=module_of)
def test_deployed_half_imports_nothing_heavy(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=module_of)
def test_architectures_import_only_torch_and_layers(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("edgeaudio")}
    if path.name == "__init__.py":
        return
    if path.stem in ("published",):  # knows all architectures, and no architecture knows it
        return
    allowed = tuple(f"edgeaudio.models.{room}" for room in ("layers", "norms", "domain", "recurrent"))
    assert all(name.startswith(allowed) or name == "edgeaudio.models" for name in ours), ours


def test_no_import_cycle() -> None:
    names = {module_of(p) for p in FILES}
    edges = {
        module_of(p): {
            n.removeprefix("edgeaudio.")
            for n in imports(p, top_only=True)
            if n.removeprefix("edgeaudio.") in names
        }
        - {module_of(p)}
        for p in FILES
    }
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges, f"modules in a cycle: {sorted(edges)}"


def test_files_stay_small() -> None:
    long = {module_of(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 450}
    assert not long


def test_public_face() -> None:
    assert sorted(edgeaudio.__all__) == ["Prediction", "Predictor", "__version__", "load"]
    for name in edgeaudio.__all__:
        assert getattr(edgeaudio, name)
    with pytest.raises(AttributeError):
        _ = edgeaudio.predict  # type: ignore[attr-defined]
