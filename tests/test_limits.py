"""Rule sets by year, and the verdicts that they give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeaudio.complexity import Count, Limits, check, known_limits, load_limits
from edgeaudio.errors import RecipeError


def count(params: int, macs: int, nonzero: int | None = None) -> Count:
    return Count(params, macs, (), (1, 1, 256, 65), nonzero)


BASELINE_COUNT = count(61148, 29419156)


@pytest.mark.parametrize(
    ("name", "bytes_", "params", "macs", "counts", "bits"),
    [
        ("dcase2020", 512000, None, None, "nonzero", None),
        ("dcase2021", 131072, None, None, "nonzero", None),
        ("dcase2022", 128000, 128000, 30000000, "all", 8),
        ("dcase2023", 128000, None, 30000000, "all", None),
        ("dcase2024", 128000, None, 30000000, "all", None),
        ("dcase2025", 128000, None, 30000000, "all", None),
    ],
)
def test_rules_by_year(
    name: str, bytes_: int, params: int | None, macs: int | None, counts: str, bits: int | None
) -> None:
    limits = load_limits(name)
    assert (limits.name, limits.date) == (name, name.removeprefix("dcase"))
    assert (limits.max_bytes, limits.max_params, limits.max_macs) == (bytes_, params, macs)
    assert (limits.counts, limits.bits) == (counts, bits)


def test_every_rule_set_is_known() -> None:
    boards = ["mcu-1m-256k", "mcu-256k-64k", "mcu-2m-512k", "mcu-512k-128k"]
    assert known_limits() == [f"dcase{year}" for year in range(2020, 2026)] + boards + ["mlperf-tiny-kws"]


@pytest.mark.parametrize("name", known_limits())
def test_every_rule_set_loads_and_tells_its_source(name: str) -> None:
    limits = load_limits(name)
    assert limits.title
    assert limits.source
    assert limits.note or name.startswith("dcase")


@pytest.mark.parametrize(
    ("name", "flash", "ram"),
    [
        ("mcu-256k-64k", 256, 64),
        ("mcu-512k-128k", 512, 128),
        ("mcu-1m-256k", 1024, 256),
        ("mcu-2m-512k", 2048, 512),
    ],
)
def test_classes_of_microcontrollers(name: str, flash: int, ram: int) -> None:
    limits = load_limits(name)
    assert (limits.max_flash_bytes, limits.max_ram_bytes) == (1024 * flash, 1024 * ram)
    assert (limits.max_bytes, limits.max_params, limits.max_macs) == (None, None, None)


def test_the_reference_of_mlperf_tiny_is_no_limit() -> None:
    limits = load_limits("mlperf-tiny-kws")
    assert (limits.max_params, limits.max_flash_bytes, limits.max_ram_bytes) == (38600, 52500, None)
    verdict = check(count(24908, 2700000), limits, flash=52000)
    assert verdict.sentence == (
        "fits mlperf-tiny-kws (a reference, no limit): 24,908 of 38,600 parameters (65 %), "
        "flash 52,000 B of 52,500 B (99 %), 2.70 M MACs (no limit)"
    )
    assert "Task, not checked here: keyword spotting" in verdict.to_markdown()
    assert "90 %" in verdict.task


def test_limits_need_no_torch() -> None:
    script = (
        "import sys; from edgeaudio.complexity import Count, check, load_limits, official\n"
        "assert check(Count(1, 1, (), (1,)), load_limits('dcase2024')).ok\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("counted", "rules", "bits", "sentence"),
    [
        (
            BASELINE_COUNT,
            "dcase2024",
            8,
            "fits dcase2024: 61,148 B of 128,000 B (48 %), 29.42 M of 30.00 M MACs (98 %)",
        ),
        (
            BASELINE_COUNT,
            "dcase2024",
            32,
            "over dcase2024: 244,592 B of 128,000 B (192 %), 29.42 M of 30.00 M MACs (98 %); "
            "reduce the weights to 16 bits",
        ),
        (
            count(126952, 31684180),
            "dcase2025",
            8,
            "over dcase2025: 126,952 B of 128,000 B (99 %), 31.68 M of 30.00 M MACs (106 %); "
            "reduce the MACs by at least 1,684,180: fewer channels, larger strides or fewer frames",
        ),
        (
            count(200000, 1000000),
            "dcase2023",
            16,
            "over dcase2023: 400,000 B of 128,000 B (313 %), 1.00 M of 30.00 M MACs (3 %); "
            "reduce the parameters by at least 72,000, even at 8 bits",
        ),
        (
            BASELINE_COUNT,
            "dcase2022",
            16,
            "over dcase2022: 61,148 of 128,000 parameters (48 %), 122,296 B of 128,000 B (96 %), "
            "29.42 M of 30.00 M MACs (98 %); quantise to 8 bits, which the rules fix (asked for 16)",
        ),
        (
            count(300000, 90000000, nonzero=31001),
            "dcase2021",
            32,
            "fits dcase2021: 124,004 B of non-zero parameters of 131,072 B (95 %), 90.00 M MACs (no limit)",
        ),
    ],
)
def test_verdict_sentences(counted: Count, rules: str, bits: int, sentence: str) -> None:
    verdict = check(counted, rules, bits)
    assert verdict.sentence == sentence
    assert verdict.ok == sentence.startswith("fits")


@pytest.mark.parametrize(
    ("params", "rules", "allowed"),
    [
        (61148, "dcase2024", 16),
        (127684, "dcase2024", 8),
        (128000, "dcase2024", 8),
        (128001, "dcase2024", 0),
        (64000, "dcase2024", 16),
        (64001, "dcase2024", 8),
        (32000, "dcase2024", 32),
        (100, "dcase2024", 32),
        (100, "dcase2022", 8),
    ],
)
def test_allowed_bits(params: int, rules: str, allowed: int) -> None:
    assert check(count(params, 0), rules).allowed_bits == allowed


def test_on_the_limit_fits_and_one_more_is_over() -> None:
    assert check(count(128000, 30000000), "dcase2022", 8).ok
    assert not check(count(128001, 30000000), "dcase2022", 8).ok
    over = check(count(128000, 30000001), "dcase2024", 8)
    assert not over.ok
    assert "30.00 M of 30.00 M MACs (101 %); reduce the MACs by at least 1:" in over.sentence


def test_margins_are_signed_percent() -> None:
    verdict = check(count(64000, 33000000), "dcase2024", 8)
    assert verdict.bytes_margin == pytest.approx(50.0)
    assert verdict.macs_margin == pytest.approx(-10.0)
    assert check(count(1, 1), "dcase2020").macs_margin is None


def test_zeros_count_from_2022_on() -> None:
    sparse = count(600000, 0, nonzero=100000)
    verdict = check(sparse, "dcase2020", 32)
    assert (verdict.ok, verdict.params, verdict.bytes, verdict.allowed_bits) == (True, 100000, 400000, 32)
    assert not check(sparse, "dcase2024", 8).ok


def test_verdict_as_json_and_table() -> None:
    verdict = check(BASELINE_COUNT, "dcase2024", 16)
    assert json.loads(json.dumps(verdict.to_json())) == verdict.to_json()
    assert verdict.to_json()["bytes"] == 122296
    assert "| MACs | 29,419,156 | 30,000,000 | 1.9 % |" in verdict.to_markdown()
    assert "| MACs | 29,419,156 | – | – |" in check(BASELINE_COUNT, "dcase2020").to_markdown()


def test_own_limits_by_path(tmp_path: Path) -> None:
    path = tmp_path / "watch.toml"
    path.write_text('title = "Watch"\nmax_bytes = 50000\nsource = "data sheet"\ndate = "2026-01-01"\n')
    assert load_limits(path) == Limits("watch", "Watch", 50000, "data sheet", "2026-01-01")
    assert check(BASELINE_COUNT, path).sentence.startswith("over watch: 61,148 B of 50,000 B (123 %)")


def test_wrong_limits_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown limits 'dcase2042'; did you mean 'dcase20"):
        load_limits("dcase2042")
    with pytest.raises(RecipeError, match="no such file"):
        load_limits(tmp_path / "gone.toml")
    path = tmp_path / "mine.toml"
    complete = 'title = "x"\nmax_bytes = 5\nsource = "x"\ndate = "2026"\n'
    for line, sentence in [
        ("max_mac = 3", "mine.toml: unknown key 'max_mac'; did you mean 'max_macs'"),
        ("max_macs = 0", "max_macs is 0; it must be positive"),
        ('counts = "nonzeros"', "did you mean 'nonzero'"),
        ("bits = 4", "bits is 4; a weight is stored in 8, 16 or 32 bits"),
    ]:
        path.write_text(f"{complete}{line}\n")
        with pytest.raises(RecipeError, match=sentence):
            load_limits(path)
    with pytest.raises(RecipeError, match="bits is 12; a weight is stored in 8, 16 or 32 bits"):
        check(BASELINE_COUNT, "dcase2024", 12)


BOARD = "mcu-256k-64k"


def test_what_nobody_measured_does_not_pass() -> None:
    verdict = check(BASELINE_COUNT, BOARD)
    assert not verdict.ok
    assert verdict.unmeasured == ("flash", "RAM")
    assert verdict.sentence == (
        "undecided by mcu-256k-64k: flash not measured (262,144 B allowed), "
        "RAM not measured (65,536 B allowed), 29.42 M MACs (no limit); "
        "measure flash and RAM: ask about an exported ONNX graph or a bundle"
    )
    assert (verdict.flash_margin, verdict.ram_margin, verdict.allowed_bits) == (None, None, 32)
    assert "| RAM bytes | not measured | 65,536 | – |" in verdict.to_markdown()
    half = check(BASELINE_COUNT, BOARD, flash=100000)
    assert (half.ok, half.unmeasured) == (False, ("RAM",))


@pytest.mark.parametrize(
    ("flash", "ram", "ok", "ending"),
    [
        (262144, 65536, True, "29.42 M MACs (no limit)"),
        (262145, 65536, False, "reduce what is stored by at least 1 B: narrower weights or fewer channels"),
        (
            200000,
            66560,
            False,
            "reduce the peak of the activations by at least 1,024 B: fewer mels, frames or channels "
            "in the first layers",
        ),
    ],
)
def test_measured_memory(flash: int, ram: int, ok: bool, ending: str) -> None:
    verdict = check(BASELINE_COUNT, BOARD, flash=flash, ram=ram)
    assert (verdict.ok, verdict.unmeasured) == (ok, ())
    assert verdict.sentence.endswith(ending)
    assert verdict.ram_margin == pytest.approx(100 * (65536 - ram) / 65536)
    assert json.loads(json.dumps(verdict.to_json())) == verdict.to_json()


def test_parameters_alone_can_overflow_the_flash() -> None:
    assert check(BASELINE_COUNT, BOARD, 32).sentence.startswith("undecided")  # 244,592 B leave it open
    over = check(count(262145, 0), BOARD)
    assert over.sentence.startswith("over mcu-256k-64k: flash not measured")
    assert "the parameters, which alone are too many for the flash, by at least 1 B" in over.sentence


def true_count(macs: int, uncounted: tuple[str, ...] = ()) -> Count:
    return Count(57216, macs, (), (1, 1, 256, 64), rules="true", uncounted=uncounted)


def test_a_true_count_is_told_and_changes_no_verdict() -> None:
    light = count(57216, 23506976)
    verdict = check(light, "dcase2024", true=true_count(40216688))
    assert verdict.ok
    assert (verdict.true_macs, verdict.true_ok) == (40216688, False)
    assert verdict.sentence == (
        f"{check(light, 'dcase2024').sentence}; passes officially, but 40.2 M MACs really run: over in truth"
    )
    assert "| true MACs | 40,216,688 | 30,000,000 | -34.1 % |" in verdict.to_markdown()
    assert check(light, "dcase2024", true=true_count(29900000)).true_ok
    wide = check(light, "dcase2024", 32, true=true_count(40216688))
    assert "its MACs pass officially, but 40.2 M MACs really run" in wide.sentence
    both = check(count(57216, 30000001), "dcase2024", true=true_count(40216688, ("fft ()",)))
    assert both.sentence.endswith("at least 40.2 M MACs really run: over in truth, too")
    with pytest.raises(RecipeError, match="by the rules 'official'; hand in what the true counter answers"):
        check(light, "dcase2024", true=light)


def test_limits_must_bound_something_and_say_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nsource = "x"\ndate = "2026"\n')
    with pytest.raises(RecipeError, match="mine bound nothing; give one of max_bytes"):
        load_limits(path)
    path.write_text('title = "x"\nmax_ram_bytes = 5\ndate = "2026"\n')
    with pytest.raises(RecipeError, match="the key 'source' is missing"):
        load_limits(path)
    path.write_text('title = "x"\nmax_ram_bytes = 0\nsource = "x"\ndate = "2026"\n')
    with pytest.raises(RecipeError, match="max_ram_bytes is 0; it must be positive"):
        load_limits(path)
