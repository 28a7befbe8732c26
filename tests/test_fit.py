"""Filling a rule set: against brute force, and from a candidate back to a recipe."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from edgeaudio.complexity import Limits, check, load_limits, official
from edgeaudio.complexity.cost import Costs, Layer, capacity
from edgeaudio.complexity.families import FAMILIES
from edgeaudio.complexity.fit import Candidate, Fit, fit, write_recipe
from edgeaudio.complexity.search import marked
from edgeaudio.config import Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe, recipe_folders

TIGHT = Limits("tight", "Tight", 60000, "a test", "2026", max_macs=6_000_000)


@pytest.fixture(scope="module")
def yamnet() -> Fit:
    return fit(load_recipe("yamnet_256", "teachers"), TIGHT)


def test_the_widest_that_fits_is_found_for_every_input(yamnet: Fit) -> None:
    start = load_recipe("yamnet_256", "teachers")
    found = {(c.n_mels, c.hop_length): [] for c in yamnet.candidates}
    for candidate in yamnet.candidates:
        found[candidate.n_mels, candidate.hop_length].append(candidate.options["width"])
    expected = {}
    for mels in {32, 64, 128}:
        for hop in {160, 240, 320}:
            spec = dataclasses.replace(start.frontend, n_mels=mels, hop_length=hop)
            shape = dataclasses.replace(start, frontend=spec).counted_shape
            counts = {w: official(build("yamnet", 10, width=w), shape) for w in (64, 128, 256, 512)}
            widest = max((w for w, c in counts.items() if check(c, TIGHT).ok), default=None)
            expected |= {(mels, hop): widest} if widest else {}
    assert {key: max(widths) for key, widths in found.items()} == expected
    assert len(expected) >= 4


def test_candidates_keep_the_limits_and_are_official_counts(yamnet: Fit) -> None:
    for candidate in yamnet.candidates:
        counted = official(build("yamnet", 10, **candidate.options), candidate.input_shape)
        assert (counted.params, counted.macs) == (candidate.params, candidate.macs)
        assert yamnet.verdict(candidate).ok
    assert yamnet.tried > len(yamnet.candidates)
    assert not any(candidate.is_start for candidate in yamnet.candidates)  # 136,202 B are over


def beats(a: Candidate, b: Candidate) -> bool:
    no_worse = a.params <= b.params and a.macs <= b.macs and a.capacity >= b.capacity
    return no_worse and (a.params, a.macs, a.capacity) != (b.params, b.macs, b.capacity)


def test_the_front_by_brute_force() -> None:
    draw = random.Random(0)
    costs = [(draw.randrange(20), draw.randrange(20), draw.randrange(20)) for _ in range(400)]
    candidates = [Candidate({}, 1, 1, (1, 1, 1, 1), p, p, m, float(c), 1) for p, m, c in costs]
    found = marked(candidates)
    front = {(c.params, c.macs, c.capacity) for c in found if c.on_front}
    best = [b for b in candidates if not any(beats(a, b) for a in candidates)]
    assert front == {(c.params, c.macs, c.capacity) for c in best}
    assert len(front) == sum(c.on_front for c in found)  # of equals only one
    assert 1 < len(front) < 100
    assert [c.capacity for c in found] == sorted((c.capacity for c in found), reverse=True)


def test_the_start_is_among_them() -> None:
    found = fit(load_recipe("bc_resnet_1"), TIGHT)
    (start,) = [candidate for candidate in found.candidates if candidate.is_start]
    assert (start.params, start.macs, start.input_shape) == (9166, 2484518, (1, 1, 40, 101))
    assert {candidate.n_mels for candidate in found.candidates} == {40, 80}  # 20 don't split into five bands


SMALL = {
    "acdnet": {"channels": [2, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5]},
    "cnn14": {"width": 1 / 64},
    "cnn10": {"width": 1 / 64},
    "cp_resnet": {"cut_channels_s3": 0},
    "daf_cnn": {"first_channels": 2, "mels": 64, "frames": 64},
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_reused_positions_change_no_count(name: str) -> None:
    shape = (
        (1, 1, 1, 30225) if name == "acdnet" else (1, 1, 80, 64) if name == "bc_resnet" else (1, 1, 64, 64)
    )
    family = FAMILIES[name]
    costs = Costs(name, 10, reuse=not family.scaled)
    fixed = SMALL.get(name, {})
    widths = [[2 * c for c in fixed["channels"]]] if family.scaled else list(family.widths[1:3])
    for value in ([] if name == "cnn14" else [fixed.get(family.width, family.widths[0])]) + widths:
        options = {**fixed, family.width: value}
        cost = costs.of(options, shape, "same")
        counted = official(build(name, 10, **options), shape)
        assert (cost.params, cost.macs) == (counted.params, counted.macs)


def test_capacity_by_hand() -> None:
    layers = [Layer(9, 4, 100), Layer(4, 6, 25), Layer(6, 10, 1)]  # the last one is the classifier
    assert capacity(layers) == pytest.approx(math.log(6 * 25) * (math.log(9) + math.log(4)))
    deeper = [layers[0], Layer(36, 4, 100), *layers[1:]]
    assert capacity(deeper) > capacity(layers)
    assert capacity([Layer(9, 4, 100), Layer(4, 6, 50), layers[2]]) > capacity(layers)


def test_memory_bounds_are_lower_bounds() -> None:
    board = Limits("board", "Board", None, "a test", "2026", max_flash_bytes=20000, max_ram_bytes=30000)
    found = fit(load_recipe("bc_resnet_1"), board)
    assert found.candidates
    assert all(c.bytes <= 20000 and c.largest_map <= 30000 for c in found.candidates)
    assert found.verdict(found.candidates[0]).unmeasured == ("flash", "RAM")
    assert "lower bounds" in found.sentence
    biggest = max(found.candidates, key=lambda c: c.largest_map)
    values = []
    model = build("bc_resnet", 10, **biggest.options).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: values.append(output.numel()))
    model(torch.zeros(biggest.input_shape))
    assert biggest.largest_map == max(values)


def test_a_candidate_becomes_a_recipe_and_a_file(yamnet: Fit, tmp_path: Path) -> None:
    best = yamnet.front[0]
    recipe = yamnet.recipe(best, "tiny")
    assert recipe.counted_shape == best.input_shape
    assert (recipe.train, recipe.augment, recipe.source) == (
        yamnet.start.train, yamnet.start.augment, yamnet.start.source,
    )  # fmt: skip
    again = load_recipe(write_recipe(recipe, tmp_path / "new" / "tiny.toml"))
    assert again == recipe
    counted = official(build(again.model.name, 10, **again.model.options), again.counted_shape)
    assert (counted.params, counted.macs) == (best.params, best.macs)


def test_weights_are_kept_only_by_the_same_network() -> None:
    start = dataclasses.replace(load_recipe("bc_resnet_1"), weights="some.pt")
    found = fit(start, TIGHT)
    same = next(candidate for candidate in found.candidates if candidate.is_start)
    assert found.recipe(same) == start
    assert found.recipe(found.front[0]).weights == (
        "" if found.front[0].options != same.options else "some.pt"
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, p.stem) for k in ("students", "teachers") for p in sorted(recipe_folders(k)[0].glob("*.toml"))],
)
def test_every_recipe_survives_the_writer(kind: str, name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, kind)
    path = write_recipe(recipe, tmp_path / f"{name}.toml")
    assert load_recipe(path) == recipe
    assert "[distill]" not in path.read_text() or recipe.distill != Recipe("x", recipe.model).distill


def test_awkward_values_survive_the_writer(tmp_path: Path) -> None:
    recipe = load_recipe("dcase2024_baseline")
    recipe = dataclasses.replace(
        recipe, name="odd", summary='tab\t, "quotes", \\, \x7f, ü and\na line', weights="a\u2028b"
    )
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, learning_rate=1e-5))
    assert load_recipe(write_recipe(recipe, tmp_path / "odd.toml")) == recipe
    with pytest.raises(RecipeError, match=r"a recipe's file ends in \.toml"):
        write_recipe(recipe, tmp_path / "odd.txt")


def test_json_table_and_pictures(yamnet: Fit, tmp_path: Path) -> None:
    told = json.loads(json.dumps(yamnet.to_json()))
    assert told["candidates"][0]["macs"] == yamnet.candidates[0].macs
    assert told == yamnet.to_json()
    table = yamnet.to_markdown()
    assert table.startswith("| width | ") or "width" in yamnet.varied
    best = yamnet.front[0]
    assert f"| {best.bytes:,} | {best.macs:,} |" in table
    assert yamnet.sentence in table
    tree = ElementTree.parse(yamnet.picture(tmp_path / "fit.svg"))
    assert tree.getroot().tag.endswith("svg")
    assert "yamnet under tight" in (tmp_path / "fit.svg").read_text(encoding="utf-8")
    assert yamnet.picture(tmp_path / "fit.png").read_bytes()[:4] == b"\x89PNG"


def test_nothing_fits() -> None:
    tiny = Limits("tiny", "Tiny", 100, "a test", "2026")
    found = fit(load_recipe("yamnet_256", "teachers"), tiny)
    assert found.candidates == ()
    assert found.sentence == f"none of {found.tried} variants of yamnet fits tiny at 8 bits"


def test_what_cannot_vary_is_a_sentence() -> None:
    with pytest.raises(RecipeError, match="nothing is known to vary in the architecture 'passt'"):
        fit(load_recipe("passt_s", "teachers"), "dcase2024")
    with pytest.raises(RecipeError, match="unknown limits 'dcase2042'"):
        fit(load_recipe("bc_resnet_1"), "dcase2042")
    start = load_recipe("bc_resnet_1")
    wrong = dataclasses.replace(start, model=dataclasses.replace(start.model, options={"tua": 1.0}))
    with pytest.raises(RecipeError, match="did you mean 'tau'"):
        fit(wrong, "dcase2024")


def test_the_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fit(load_recipe("yamnet_256", "teachers"), load_limits("mcu-256k-64k"))
    assert torch.equal(torch.rand(1), expected)


def test_the_waveform_has_no_front_end_to_vary() -> None:
    found = fit(load_recipe("micro_acdnet"), "dcase2024")
    assert {(c.n_mels, c.hop_length) for c in found.candidates} == {(1, 1)}
    assert found.varied == ["channels"]
    best = found.candidates[0]
    assert found.recipe(best).input_shape == (1, 1, 1, 30225)
    assert best.bytes <= 128000


@pytest.mark.slow
def test_cp_mobile_fills_the_rules() -> None:
    found = fit(load_recipe("cp_mobile_16"), "dcase2024")
    assert found.tried > 300
    assert {"base_channels", "channels_multiplier", "expansion_rate", "n_blocks"} <= set(found.varied)
    best = found.candidates[0]
    start = next(candidate for candidate in found.candidates if candidate.is_start)
    assert best.capacity > start.capacity
    assert best.bytes <= 128000
    assert best.macs <= 30000000
