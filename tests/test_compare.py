"""Models side by side: tables, the front, and the pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread
from torch import nn

from edgeaudio.complexity import load_limits
from edgeaudio.complexity.compare import Compared, Comparison, compare
from edgeaudio.complexity.picture import _figure, _frame, _label
from edgeaudio.errors import RecipeError
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe


@dataclass(frozen=True)
class Named:
    name: str
    model: nn.Module
    input_shape: tuple[int, ...]


def resolve(name: str) -> Named:
    recipe = load_recipe(name)
    return Named(name, build(recipe.model.name, 10, **recipe.model.options), recipe.counted_shape)


NAMES = ("dcase2024_baseline", "mobileast_light1", "cp_resnet_128k", "bc_resnet_1")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare([resolve(name) for name in NAMES])


def test_published_costs_side_by_side(comparison: Comparison) -> None:
    rows = {model.name: model for model in comparison.models}
    assert tuple(rows) == NAMES
    baseline, light = rows["dcase2024_baseline"], rows["mobileast_light1"]
    assert (baseline.params, baseline.int8_bytes, baseline.fp16_bytes) == (61148, 61148, 122296)
    assert (baseline.macs, baseline.input_shape) == (29419156, (1, 1, 256, 65))
    assert (light.macs, light.true_macs) == (23506976, 40216688)
    told = {name: (row.verdict.ok, row.verdict.true_ok) for name, row in rows.items() if row.verdict}
    assert told == {
        "dcase2024_baseline": (True, True),
        "mobileast_light1": (True, False),
        "cp_resnet_128k": (False, False),
        "bc_resnet_1": (True, True),
    }


def test_table_and_json(comparison: Comparison) -> None:
    table = comparison.to_markdown()
    assert (
        "| mobileast_light1 | 256 × 64 | 57,216 | 57,216 | 114,432 | 23,506,976 | 40,216,688 "
        "| fits, over in truth |"
    ) in table
    assert "- mobileast_light1: fits dcase2024" in table
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {9}
    told = json.loads(json.dumps(comparison.to_json()))
    assert told == comparison.to_json()
    assert told["models"][1]["verdict"]["true_macs"] == 40216688
    assert [model["on_front"] for model in told["models"]] == [False, False, False, True]


def row(name: str, params: int, macs: int) -> Compared:
    return Compared(name, (1, 1, 8, 8), params, params, 2 * params, macs, macs, None)


def test_the_front_is_what_no_other_model_beats() -> None:
    models = (row("big", 900, 10), row("beaten", 950, 20), row("small", 10, 900), row("equal", 900, 10))
    front = [model.name for model in Comparison(models, None, 8).front]
    assert front == ["small", "big"]


def test_without_rules_there_are_no_verdicts() -> None:
    told = compare([resolve("cp_mobile_8")], None)
    assert told.models[0].verdict is None
    assert told.to_json()["limits"] is None
    assert "verdict" not in told.to_markdown()
    assert told.to_markdown().count("\n") == 3


def test_wrong_subjects_are_sentences() -> None:
    one = resolve("cp_mobile_8")
    with pytest.raises(RecipeError, match="nothing to compare"):
        compare([])
    with pytest.raises(RecipeError, match="'cp_mobile_8' is there twice"):
        compare([one, one])
    with pytest.raises(RecipeError, match="bits is 4"):
        compare([one], bits=4)


def test_pictures(comparison: Comparison, tmp_path: Path) -> None:
    image = imread(comparison.picture(tmp_path / "new" / "models.png"))
    assert image.shape[0] > 500
    assert image[..., :3].std() > 0.05
    tree = ElementTree.parse(comparison.picture(tmp_path / "models.svg"))
    assert tree.getroot().tag.endswith("svg")
    text = (tmp_path / "models.svg").read_text(encoding="utf-8")
    assert all(name in text for name in (*NAMES, "dcase2024"))
    with pytest.raises(RecipeError, match=r"ends in \.png or \.svg"):
        comparison.picture(tmp_path / "models.jpg")


@pytest.mark.parametrize("limits", ["dcase2020", "mcu-256k-64k", None])
def test_pictures_of_rules_without_a_box(limits: str | None, tmp_path: Path) -> None:
    models = (row("a", 60000, 30000000), row("b $x", 5000000, 2000000000))
    rules = load_limits(limits) if limits else None
    path = Comparison(models, rules, 8).picture(tmp_path / "models.svg")
    assert "b $x" in path.read_text(encoding="utf-8")


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    figure, axes = _figure()
    points = [(50 + 0.4 * i, 20 + 0.1 * i) for i in range(8)]
    _frame(axes, [x for x, _ in points], [y for _, y in points], load_limits("dcase2024"), 8)
    boxes = _label(figure, axes, [f"network_{i}" for i in range(8)], points)
    for i, box in enumerate(boxes):
        assert axes.get_window_extent().padded(1).contains(box.x0, box.y0)
        assert not any(box.overlaps(other) for other in boxes[:i])
