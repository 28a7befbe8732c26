"""The report page: what it says, what it leaves out, and that it needs nothing but itself."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report belongs to the training half")

from edgeaudio.errors import EdgeAudioError
from edgeaudio.report import Example, formats, render, write
from edgeaudio.report.charts import Series, bars, line_chart, percentage, plain, ticks
from edgeaudio.report.matrix import heat_map, shorten
from edgeaudio.report.spectrogram import spectrogram

CLASSES = [
    "chainsaw", "clock_tick", "crackling_fire", "crying_baby", "dog",
    "helicopter", "rain", "rooster", "sea_waves", "sneezing",
]  # fmt: skip
ROLES = ("teacher", "student", "student int8")
VOID = {"meta", "br", "img"}  # the elements of HTML that need no end tag


# --- a report like those of ESC-10 ----------------------------------------------------------------------


def sample() -> dict[str, Any]:
    """A complete report: fold 1 of ESC-10, 80 test clips, three recording devices."""
    confusion = [[8 if i == j else 0 for j in range(10)] for i in range(10)]
    for true, heard, clips in ((5, 0, 1), (6, 8, 2), (8, 6, 1), (9, 4, 1)):
        confusion[true][true] -= clips
        confusion[true][heard] += clips
    return {
        "schema": 1,
        "title": "ESC-10, fold 1: cp_mobile from bc_resnet_8",
        "edgeaudio": "0.1.0",
        "data": {
            "name": "ESC-10", "clips": 400, "seconds": 2000.0, "classes": CLASSES, "sample_rate": 32000,
            "split": {"train": 280, "val": 40, "test": 80}, "fold": "1", "devices": ["a", "b", "s1"],
            "warnings": ["3 clips are silent for more than half of their length: 1-17367-A-10.wav, …"],
        },
        "verdict": {
            "ok": True, "sentence": "Fits the limits of dcase2024 with 2 % of its multiply–accumulates left.",
            "rules": "dcase2024", "source": "DCASE 2024 Challenge, Task 1",
            "macs": 29419156, "max_macs": 30000000, "bytes": 61148, "max_bytes": 128000,
            "params": 61148, "bits": 8, "allowed_bits": 16,
        },
        "models": [
            {"role": "teacher", "name": "bc_resnet_8", "accuracy": 0.9625, "macro_accuracy": 0.9625,
             "log_loss": 0.1423, "params": 321612, "bytes": 1286448, "macs": 89123456},
            {"role": "student", "name": "cp_mobile", "accuracy": 0.95, "macro_accuracy": 0.95,
             "log_loss": 0.1981, "params": 61148, "bytes": 244592, "macs": 29419156},
            {"role": "student int8", "name": "cp_mobile", "accuracy": 0.9375, "macro_accuracy": 0.9375,
             "log_loss": 0.2174, "params": 61148, "bytes": 61148, "macs": 29419156},
        ],
        "history": {
            "teacher bc_resnet_8": history(0.965, 210.0, seed=1),
            "student cp_mobile": history(0.945, 540.0, seed=2),
        },
        "test": {
            "classes": CLASSES, "confusion": confusion, "shown": "student int8",
            "per_class": [
                {"label": name, "clips": 8, "accuracy": {
                    "teacher": (8 - (i in (6, 8, 9))) / 8,
                    "student": min(8, row[i] + (i == 6)) / 8,
                    "student int8": row[i] / 8,
                }} for i, (name, row) in enumerate(zip(CLASSES, confusion, strict=True))
            ],
            "per_device": [
                {"device": "a", "seen": True, "clips": 40,
                 "accuracy": {"teacher": 0.975, "student": 0.975, "student int8": 0.95}},
                {"device": "b", "seen": True, "clips": 20,
                 "accuracy": {"teacher": 0.95, "student": 0.95, "student int8": 0.95}},
                {"device": "s1", "seen": False, "clips": 20,
                 "accuracy": {"teacher": 0.95, "student": 0.9, "student int8": 0.9}},
            ],
        },
        "parity": [
            {"hop": "torch → ONNX fp32", "clips": 80, "max_abs": 3.12e-06, "snr_db": 118.2, "cosine": 1.0,
             "top1_agreement": 1.0, "accuracy": 0.95, "accuracy_change": 0.0, "bound": "max abs ≤ 1e-4",
             "ok": True},
            {"hop": "ONNX fp32 → ONNX int8", "clips": 80, "max_abs": 0.8731, "snr_db": 21.4,
             "cosine": 0.99634, "top1_agreement": 0.975, "accuracy": 0.9375, "accuracy_change": -0.0125,
             "bound": "accuracy falls by at most 2 pt", "ok": True},
            {"hop": "NumPy front end → graph front end", "clips": 80, "max_abs": 1.7e-05, "snr_db": 101.9,
             "cosine": 1.0, "top1_agreement": 1.0, "accuracy": None, "accuracy_change": None,
             "bound": "max abs ≤ 1e-3", "ok": True},
        ],
        "complexity": {
            "input_shape": [1, 1, 256, 65], "params": 61148, "macs": 29419156, "layers": layers(),
        },
        "latency": {
            "machine": "Intel Xeon, 2 cores", "runtime": "onnxruntime 1.23.0, CPU",
            "protocol": "after 50 warm-up runs, the same clip, one process",
            "rows": [
                {"graph": "fp32", "threads": 1, "p50_ms": 6.12, "p95_ms": 6.91, "p99_ms": 8.3, "runs": 1000,
                 "real_time_factor": 0.00612},
                {"graph": "int8", "threads": 1, "p50_ms": 2.47, "p95_ms": 2.8, "p99_ms": 3.61, "runs": 1000,
                 "real_time_factor": 0.00247},
                {"graph": "int8", "threads": 2, "p50_ms": 1.73, "p95_ms": 2.41, "p99_ms": 3.94, "runs": 1000,
                 "real_time_factor": 0.00173},
            ],
        },
        "bundle": {
            "path": "runs/esc10/fold1/bundle",
            "files": [
                {"name": name, "bytes": size, "sha256": f"{i}9f3c2ab7d64e105" * 4}
                for i, (name, size) in enumerate((("model.onnx", 104377), ("bundle.json", 2113)))
            ],
        },
        "folds": [
            {"fold": str(n), "clips": 80, "teacher": 0.95 + n / 400, "student": 0.94 + n / 400,
             "student int8": 0.93 + n / 400, "report": f"fold{n}/report.html"} for n in range(1, 6)
        ],
        "folds_summary": {role: {"mean": 0.9525, "spread": 0.011} for role in ROLES},
        "reproduce": {
            "command": "edgeaudio run ESC-10 --teacher bc_resnet_8 --student cp_mobile --fold 1 --seed 7",
            "seed": 7, "versions": {"python": "3.11.2", "torch": "2.13.0", "onnxruntime": "1.23.0"},
            "recipes": {"teachers": ["bc_resnet_8.toml"], "student": "cp_mobile.toml"},
        },
    }  # fmt: skip


def history(top: float, speed: float, seed: int, epochs: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.012, epochs)
    return [
        {
            "epoch": n + 1,
            "train_loss": 2.2 * math.exp(-n / 9) + 0.05 + abs(float(noise[n])),
            "val_loss": 2.1 * math.exp(-n / 11) + 0.19 + float(noise[n]),
            "val_accuracy": min(1.0, top * (1 - 0.85 * math.exp(-(n + 1) / 8)) + float(noise[n])),
            "learning_rate": 1e-3
            * (min(1, (n + 1) / 3) if n < 3 else 0.505 + 0.495 * math.cos(math.pi * n / 60)),
            "seconds": 280 / speed,
            "clips_per_second": speed + float(noise[n]) * 100,
        }
        for n in range(epochs)
    ]


def layers() -> list[dict[str, Any]]:
    rows = [
        ("stem.0", "Conv2d", [1, 8, 128, 33], 72, 304128),
        ("stem.1", "Conv2d", [1, 32, 64, 17], 2304, 2506752),
    ]
    for i, (channels, macs) in enumerate(
        ((32, 4210000), (32, 4210000), (56, 6120000), (56, 5530000), (104, 6470000))
    ):
        rows.append((f"blocks.{i}.expand", "Conv2d", [1, channels * 2, 32, 9], channels * 96, macs * 3 // 5))
        rows.append((f"blocks.{i}.depthwise", "Conv2d", [1, channels * 2, 32, 9], channels * 18, macs // 5))
        rows.append((f"blocks.{i}.project", "Conv2d", [1, channels, 32, 9], channels * 64, macs // 5))
    rows.append(("head.conv", "Conv2d", [1, 10, 16, 5], 1040, 83200))
    rows.append(("head.pool", "AdaptiveAvgPool2d", [1, 10, 1, 1], 0, 0))
    return [dict(zip(("name", "type", "output_shape", "params", "macs"), row, strict=True)) for row in rows]


def many_classes(n: int = 50) -> dict[str, Any]:
    """Fifty classes with long names, and a verdict that fails."""
    rng = np.random.default_rng(3)
    names = [f"class {i:02d} with a rather long descriptive name" for i in range(n)]
    counts = rng.poisson(0.12, (n, n)) + np.diag(rng.integers(18, 40, n))
    report = sample()
    report["data"]["classes"] = names
    report["test"].update(
        classes=names,
        confusion=counts.tolist(),
        per_class=[
            {
                "label": name,
                "clips": int(row.sum()),
                "accuracy": {r: float(row[i] / row.sum()) for r in ROLES},
            }
            for i, (name, row) in enumerate(zip(names, counts, strict=True))
        ],
    )
    report["verdict"].update(
        ok=False, macs=31200450, sentence="Over the multiply–accumulates of dcase2024 by 4 %."
    )
    report["parity"][1]["ok"] = False
    return report


def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    time, mel = np.arange(316)[None, :], np.arange(256)[:, None]
    pictures = []
    for i, label in enumerate(CLASSES[:6]):
        tone = sum(
            np.exp(-(((mel - 24 * k * (1 + 0.2 * np.sin(time / (12 + 9 * i)))) / 5) ** 2)) / k
            for k in range(1, 7)
        )
        level = 6 * tone * (np.sin(time / (9 + 5 * i)) > -0.3) - mel / 64 - 8 + rng.normal(0, 0.5, (256, 316))
        heard = "chainsaw" if label == "helicopter" else label
        pictures.append(
            Example(label, f"audio/1-1036{i}-A-{i}.wav", level.astype(np.float32), heard, 0.97 - i / 11)
        )
    return pictures


# --- reading a page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags are balanced, and remembers attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace(formats.THIN, " ").split())

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attrs for name, attrs in self.tags if name == tag)

    @property
    def sections(self) -> list[str | None]:
        return [attrs["aria-labelledby"] for attrs in self.all("section")]


SECTIONS = {
    "accuracy": "models", "folds": "folds", "learning": "history", "confusion": "test", "classes": "test",
    "devices": "test", "parity": "parity", "complexity": "complexity", "latency": "latency", "data": "data",
    "bundle": "bundle", "reproduce": "reproduce",
}  # fmt: skip


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(sample(), examples()))


# --- the page -------------------------------------------------------------------------------------------


def test_page_is_well_formed_in_every_form() -> None:
    for report in (sample(), many_classes(), {"schema": 1, "title": "bare"}):
        html = render(report, examples()[:1])
        assert html.startswith("<!doctype html>")
        assert Page(html).tags[0][0] == "html"


def test_every_id_is_unique_and_every_inner_link_arrives(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    targets = [href[1:] for attrs in page.all("a") if (href := attrs["href"] or "").startswith("#")]
    assert len(ids) == len(set(ids))
    assert len(targets) == len(SECTIONS) + 1  # and the examples
    assert set(targets) <= set(ids)


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "use")
        for name in ("src", "href", "srcset", "action", "poster"):
            target = attrs.get(name) or ""
            assert not re.match(r"(?i)(https?:)?//", target), (tag, target)
            assert name != "src" or not target or target.startswith("data:image/png;base64,")
    html = render(sample())
    assert "http" not in html
    assert "@import" not in html
    assert "url(" not in html


@pytest.mark.parametrize("key", sorted({*SECTIONS.values(), "verdict", "folds_summary"}))
def test_missing_section_is_left_out_and_the_others_stay(key: str) -> None:
    report = sample()
    del report[key]
    expected = [name for name, source in SECTIONS.items() if source != key]
    assert Page(render(report)).sections == expected
    assert Page(render({**report, key: None})).sections == expected


def test_parts_of_sections_may_be_missing_or_empty() -> None:
    report = sample()
    for key, section in report.items():
        if isinstance(section, dict):
            assert "None" not in Page(render({**report, key: dict.fromkeys(section)})).text
            for name in section:
                Page(render({**report, key: {k: v for k, v in section.items() if k != name}}))
        if isinstance(section, list):
            for name in section[0]:
                Page(render({**report, key: [{k: v for k, v in section[0].items() if k != name}]}))


def test_bare_report_has_only_its_title() -> None:
    bare = Page(render({"schema": 1, "title": "bare"}))
    assert bare.sections == []
    assert "bare" in bare.text
    assert "Pass" not in bare.text
    assert "Fail" not in bare.text


def test_verdict_comes_first_and_says_pass_or_fail() -> None:
    report = sample()
    passed, failed = Page(render(report)).text, Page(render(many_classes())).text
    assert passed.index("Pass") < passed.index(report["verdict"]["sentence"]) < passed.index("Models")
    assert "Limits of dcase2024 kept" in passed
    assert "all 3 bounds held" in passed
    assert failed.index("Fail") < failed.index("Models")
    assert "4.0 % over 30 M" in failed
    assert "Limits of dcase2024 missed" in failed
    assert "1 of 3 bounds missed" in failed


def test_failed_verdict_does_not_blame_limits_that_were_kept() -> None:
    report = sample()
    report["verdict"].update(ok=False, sentence="The int8 graph lost more than 2 points.")
    text = Page(render(report)).text
    assert "Fail" in text
    assert "Limits of dcase2024 kept" in text


def test_numbers_shown_are_those_given(page: Page) -> None:
    given = {
        "MACs": "29,419,156", "teacher's parameters": "321,612", "int8 accuracy": "93.8 %",
        "change": "−2.5 pt from teacher", "log loss": "0.217", "memory": "48 % of 128 kB",
        "p99": "3.61", "real-time factor": "0.00247", "largest difference": "3.1e−6", "SNR": "21.4 dB",
        "cosine": "0.99634", "layer": "3,882,000", "output shape": "1 × 208 × 32 × 9",
        "file": "104,377", "hash": "19f3c2ab7d64e105" * 4, "seed": "seed 7", "clips": "75 of 80 right",
        "interval": "86.2 % to 97.3 %", "warning": "3 clips are silent", "spread": "95.3 % ± 1.1",
        "unseen devices": "All unseen 20 95.0 % 90.0 % 90.0 %", "seen devices": "All seen 60 96.7 %",
        "confusion": "rain sea_waves 2 25.0 %", "heard": "heard as chainsaw", "split": "train 280 · val 40",
    }  # fmt: skip
    assert {what: number for what, number in given.items() if number not in page.text} == {}


def test_classes_stand_weakest_first(page: Page) -> None:
    table = page.text.split("Accuracy by class")[1]
    order = [
        table.index(name) for name in ("rain", "helicopter", "sea_waves", "sneezing", "chainsaw", "rooster")
    ]
    assert order == sorted(order)


def test_user_text_is_escaped_everywhere() -> None:
    attack = "<script>alert('x')</script>\"&"
    report = sample()
    classes = [attack, *CLASSES[1:]]
    report["title"] = report["verdict"]["sentence"] = report["data"]["warnings"][0] = attack
    report["data"]["classes"] = report["test"]["classes"] = classes
    report["test"]["per_class"][0]["label"] = report["test"]["per_device"][0]["device"] = attack
    report["history"][attack] = report["history"].pop("student cp_mobile")
    report["parity"][0]["hop"] = report["complexity"]["layers"][0]["name"] = attack
    report["bundle"]["files"][0]["name"] = report["reproduce"]["command"] = attack
    report["reproduce"]["recipes"]["student"] = {attack: attack}
    html = render(report, [Example(attack, attack, np.eye(4), attack, 0.5)])
    assert "<script" not in html
    assert not list(Page(html).all("script"))
    assert Page(html).text.count("alert('x')") >= 12


def test_fold_links_stay_beside_the_report() -> None:
    report = sample()
    hostile = ("javascript:alert(1)", "https://example.org/x", "//example.org/x", "\\\\example.org/x")
    for fold, link in zip(report["folds"], hostile, strict=False):
        fold["report"] = link
    links = [attrs["href"] for attrs in Page(render(report)).all("a")]
    assert [link for link in links if link and not link.startswith("#")] == ["fold5/report.html"]


def test_tables_and_pictures_can_be_heard(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") > 8
    assert all("scope" in attrs for attrs in page.all("th"))
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert tags.count("h1") == 1
    html = render(sample())
    unnamed = re.findall(r"<svg(?![^>]*aria-hidden)[^>]*>(?!<title>)", html)
    assert unnamed == []


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_colours_have_contrast(scheme: int) -> None:
    css = re.findall(r":root \{(.*?)\n *\}", render({"schema": 1, "title": "x"}), re.S)[scheme]
    colour = {name: _luminance(value) for name, value in re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css)}
    pairs = [
        (ink, paper) for ink in ("ink", "soft") for paper in ("paper", "raised", "pass-wash", "fail-wash")
    ]
    pairs += [("pass", "pass-wash"), ("fail", "fail-wash"), ("warn", "warn-wash"), ("ink", "warn-wash")]
    pairs += [(ink, "paper") for ink in ("pass", "fail", "warn", "hit", "miss")]
    low = {pair: round(_contrast(*(colour[name] for name in pair)), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}  # WCAG 2.2 AA
    lines = {
        role: _contrast(colour[role], colour["paper"]) for role in ("teacher", "student", "int8", "other")
    }
    assert min(lines.values()) > 3  # WCAG 2.2, graphics


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_another_schema_is_refused() -> None:
    with pytest.raises(EdgeAudioError, match="schema 2"):
        render({"schema": 2, "title": "from the future"})


# --- writing --------------------------------------------------------------------------------------------


def test_write_makes_both_files_and_nothing_else(tmp_path: Path) -> None:
    report = sample()
    report["history"]["student cp_mobile"][3]["val_loss"] = math.nan
    path = write(report, tmp_path / "new" / "folder", examples()[:1])
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json"]
    assert path.read_text(encoding="utf-8") == render(report, examples()[:1])
    back = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert back["history"]["student cp_mobile"][3]["val_loss"] is None
    assert back["examples"][0]["picture"].startswith("data:image/png;base64,")
    assert render(back) == path.read_text(encoding="utf-8"), "the page is made from report.json alone"
    del back["history"], back["examples"], report["history"]
    assert back == report


def test_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write({"schema": 1, "title": "old"}, tmp_path).read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write({"schema": 1, "title": "new"}, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_same_report_same_bytes() -> None:
    assert render(sample(), examples()[:1]) == render(sample(), examples()[:1])


# --- charts ---------------------------------------------------------------------------------------------


def test_line_chart_has_one_path_a_series() -> None:
    series = [Series(f"model {i}", [(x, x * i) for x in range(5)], "student", i) for i in range(4)]
    chart = line_chart("Four models", series)
    assert chart.count("<path") == 4
    assert chart.count(">model ") == 4
    Page(chart)


def test_line_chart_puts_points_where_the_axes_say() -> None:
    chart = line_chart("t", [Series("s", [(0, 0.0), (5, 1.0), (10, 0.5)])])
    (path,) = re.findall(r'd="M([^"]+)"', chart)
    x, y = zip(*(map(float, point.split()) for point in path.split("L")), strict=True)
    labels = {
        text: float(at) - 4
        for at, text in re.findall(r'text-anchor="end" x="[^"]+" y="([^"]+)">([^<]+)', chart)
    }
    assert y == pytest.approx((labels["0.0"], labels["1.0"], (labels["0.0"] + labels["1.0"]) / 2), abs=0.11)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)


def test_gaps_break_the_line_and_lonely_points_stay_visible() -> None:
    points = [(1, 1.0), (2, None), (3, math.nan), (4, 2.0), (5, 3.0), (6, math.inf)]
    (path,) = re.findall(r' d="([^"]+)"', line_chart("t", [Series("s", points)]))
    assert re.sub(r"[\d. ]+", "", path.replace("h0", "h")) == "MhML"
    assert line_chart("t", [Series("s", [(1, None)])]) == ""


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.13, 2.4, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
        (0.0, 0.001, ["0.0000", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010"]),
        (3.0, 3.0, ["3", "4"]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[str]) -> None:
    found = ticks(low, high)
    assert [plain(tick, found[1] - found[0]) for tick in found] == expected


def test_percentages_on_the_axis_stop_at_one_hundred() -> None:
    chart = line_chart("t", [Series("s", [(1, 0.31), (2, 1.0)])], label=percentage, y_limit=1.0)
    shown = re.findall(r">(\d+)%<", chart)
    assert shown[0] == "20"
    assert shown[-1] == "100"


def test_heat_map_shows_counts_and_hides_zeros() -> None:
    chart = heat_map([[3, 1], [0, 4]], ["cat", "dog"], "Confusion")
    Page(chart)
    assert re.findall(r'<text class="(?:weak|strong)"[^>]*>(\d+)<', chart) == ["3", "1", "4"]
    assert "cat heard as dog: 1 of 4" in chart
    assert "dog heard as cat" not in chart
    assert chart.count('class="hit"') == 2
    assert chart.count('class="miss"') == 1


def test_heat_map_of_fifty_classes_keeps_names_and_drops_numbers() -> None:
    test = many_classes()["test"]
    chart = heat_map(test["confusion"], test["classes"], "Confusion")
    width = int(re.findall(r'width="(\d+)"', chart)[0])
    assert width < 900
    assert not re.findall(r'class="(?:weak|strong)"', chart)
    assert chart.count(shorten(test["classes"][0])) == 2
    assert "class 00 with a rather long descriptive name heard as" in chart


def test_bars_are_as_long_as_their_values() -> None:
    chart = bars([("teacher", 0.5), ("student", None), ("int8", 2.0)], 1.0, "half")
    assert re.findall(r'class="bar \w+"[^>]* width="([\d.]+)"', chart) == ["50.00", "0.00", "100.00"]


def test_spectrogram_is_a_png_with_low_bands_at_the_bottom() -> None:
    from matplotlib.image import imread

    log_mel = np.zeros((300, 50))
    log_mel[:3] = 1.0  # the lowest band alone is loud
    log_mel[200, 7] = -np.inf
    kind, data = spectrogram(log_mel).split(",")
    assert kind == "data:image/png;base64"
    pixels = imread(io.BytesIO(base64.b64decode(data)))
    assert pixels.shape[:2] == (100, 50)
    brightness = pixels[..., :3].sum(axis=(1, 2))
    assert brightness.argmax() == len(pixels) - 1


def test_silence_still_makes_a_picture() -> None:
    assert spectrogram(np.full((8, 8), -np.inf)).startswith("data:image/png")


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.compact(29419156), "29.42 M"),
        (formats.compact(999_960), "1 M"),
        (formats.compact(128000), "128 k"),
        (formats.compact(7), "7"),
        (formats.size(61148), "61.15 kB"),
        (formats.size(512), "512 B"),
        (formats.percent(0.9625), "96.3 %"),
        (formats.percent(0.575, 0), "58 %"),
        (formats.points(-0.0125), "−1.3 pt"),
        (formats.points(-0.0001), "0.0 pt"),
        (formats.points(0.02), "+2.0 pt"),
        (formats.small(3.12e-06), "3.1e−6"),
        (formats.small(0.0), "0"),
        (formats.small(0.8731), "0.873"),
        (formats.duration(31.11), "31.1 s"),
        (formats.duration(2000), "33 min 20 s"),
        (formats.duration(7260), "2 h 1 min"),
        (formats.fixed(math.nan), "–"),
        (formats.percent(None), "–"),
        (formats.count(True), "–"),
    ],
)
def test_formats(shown: str, expected: str) -> None:
    assert shown.replace(formats.THIN, " ") == expected
