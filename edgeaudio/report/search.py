"""A search as one HTML page: the front, how the best came about, what mattered, every trial."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeaudio.errors import EdgeAudioError
from edgeaudio.report.page import _environment, _replace
from edgeaudio.report.search_charts import Point, axis, scatter, steps

SCHEMA = 1
COSTS = {"macs": ("M MACs", 1e6, "max_macs"), "bytes": ("kB at 8 bits", 1e3, "max_bytes")}
"""Figure → name of its axis, its unit, and the key of its limit."""
NAMED = 14  # trials of a front that are named in a picture; more would hide it


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write `search.json` and `search.html` into the folder; each appears whole or not at all.

    Args:
        found: a search's result, as its `to_json` gives it.
        folder: of the search.

    Returns:
        The path of `search.html`.

    Raises:
        EdgeAudioError: the result is of another schema.
    """
    html = render(found)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "search.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    _replace(folder / "search.html", html)
    return folder / "search.html"


def render(found: dict[str, Any]) -> str:
    """The page, which needs nothing outside itself.

    Raises:
        EdgeAudioError: the result is of another schema.
    """
    if found.get("schema") != SCHEMA:
        raise EdgeAudioError(
            f"the search has schema {found.get('schema')!r}, this edgeaudio draws schema {SCHEMA}; "
            "render it with the edgeaudio that wrote it"
        )
    return _environment().get_template("search.html.j2").render(context(found))


def context(found: dict[str, Any]) -> dict[str, Any]:
    """The result, and what is drawn, counted or sorted from it."""
    trials, front = found["trials"], [member["trial"] for member in found["front"]]
    finished = [trial for trial in trials if trial["ended"] == "finished"]
    by_number = {trial["number"]: trial for trial in trials}
    aim = next(each for each in found["objectives"] if each["learnt"])
    ends = ("finished", "stopped", "over", "failed", "running")
    return {
        **found,
        "aim": aim,
        "members": [{**member, **by_number[member["trial"]]} for member in found["front"]],
        "best": by_number[front[0]] if front else None,
        "counts": {end: n for end in ends if (n := sum(trial["ended"] == end for trial in trials))},
        "pictures": [(name, chart) for name in COSTS if (chart := _picture(found, finished, aim, name))],
        "history": _history(finished, aim),
        "keys": list(found["space"]),
        "sorted": _sorted(trials, front, aim),
    }


def _picture(
    found: dict[str, Any], finished: Sequence[dict[str, Any]], aim: dict[str, Any], cost: str
) -> str:
    """Quality over one cost; its front is that of the two, which is what the picture can show."""
    if not finished:
        return ""
    name, unit, bound = COSTS[cost]
    up = aim["direction"] == "maximize"
    kept = _stairs(finished, aim["name"], cost, up)
    limit = (found["limits"] or {}).get(bound)
    points = [
        Point(
            trial["figures"][cost], trial["figures"][aim["name"]], _hover(trial, aim),
            f"{trial['number']}" if trial["number"] in kept and len(kept) <= NAMED else "",
            trial["number"] in kept,
        )
        for trial in finished
    ]  # fmt: skip
    costs = [point.x for point in points]
    # a limit far off would squeeze all trials into a corner
    shown = [*costs, limit] if limit and limit <= 2.5 * max(costs) else costs
    x = axis(shown, name, unit=unit)
    y = axis([point.y for point in points], aim["title"], share=aim["name"] == "accuracy")
    return scatter(f"{aim['title']} over {name}", points, x, y, up, limit if limit in shown else None)


def _stairs(finished: Sequence[dict[str, Any]], worth: str, cost: str, up: bool) -> set[int]:
    """Trials that no other beats in worth and cost."""
    sign = -1 if up else 1
    ranked = sorted(finished, key=lambda t: (t["figures"][cost], sign * t["figures"][worth], t["number"]))
    kept: set[int] = set()
    best = float("inf")
    for trial in ranked:
        if sign * trial["figures"][worth] < best:
            best = sign * trial["figures"][worth]
            kept.add(trial["number"])
    return kept


def _hover(trial: dict[str, Any], aim: dict[str, Any]) -> str:
    figures = trial["figures"]
    value = figures[aim["name"]]
    told = f"{100 * value:.1f} %" if aim["name"] == "accuracy" else f"{value:.3f}"
    drawn = [f"{key.removeprefix('student.')} = {value}" for key, value in trial["settings"].items()]
    head = f"trial {trial['number']}: {told}, {figures['macs'] / 1e6:.2f} M MACs, {figures['bytes']:,} B"
    return "\n".join([head, *drawn])


def _history(finished: Sequence[dict[str, Any]], aim: dict[str, Any]) -> str:
    """The value of each finished trial, and the best so far."""
    if not finished:
        return ""
    up, name = aim["direction"] == "maximize", aim["name"]
    best: list[tuple[float, float]] = []
    points = []
    for trial in finished:
        value = trial["figures"][name]
        better = not best or (value > best[-1][1] if up else value < best[-1][1])
        if better:
            best.append((trial["number"], value))
        points.append(Point(trial["number"], value, _hover(trial, aim), front=better))
    x = axis([0, *(point.x for point in points)], "trial", integer=True)
    y = axis([point.y for point in points], aim["title"], share=name == "accuracy")
    return steps(f"{aim['title']} trial by trial", points, best, x, y)


def _sorted(
    trials: Sequence[dict[str, Any]], front: Sequence[int], aim: dict[str, Any]
) -> list[dict[str, Any]]:
    """All trials: those on the front, the finished by their quality, then the rest."""
    ends = {"finished": 0, "stopped": 1, "over": 2, "failed": 3}
    sign = -1 if aim["direction"] == "maximize" else 1

    def key(trial: dict[str, Any]) -> tuple[float, ...]:
        place = front.index(trial["number"]) if trial["number"] in front else len(front)
        value = sign * trial["figures"].get(aim["name"], 0.0)
        return (place, ends.get(trial["ended"], 4), value, trial["number"])

    return [{**trial, "chosen": trial["number"] in front} for trial in sorted(trials, key=key)]
