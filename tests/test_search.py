"""Searches with real, tiny trainings: what they leave, and that kills and workers change nothing."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from conftest import STUDENT, TEACHER
from optuna.trial import TrialState

from edgeaudio import cli
from edgeaudio.errors import EdgeAudioError
from edgeaudio.recipes import load_recipe
from edgeaudio.report.search import render, write
from edgeaudio.search.ledger import Ledger
from edgeaudio.search.objectives import chosen_objectives
from edgeaudio.search.plan import Plan
from edgeaudio.search.results import Found, Row
from edgeaudio.search.run import search
from edgeaudio.search.space import parse_vary
from edgeaudio.training import distill

EPOCHS, TRIALS = 3, 9
SPACE = ("train.learning_rate=log(1e-3,3e-1)", "model.base_channels=[8, 12, 96]", "train.batch_size=[8]")
KILL = """
import os, pickle, signal, sys
from pathlib import Path
from edgeaudio.search.run import search
from edgeaudio.training import loop

plan, folder, trials, victim, epoch = pickle.loads(Path(sys.argv[1]).read_bytes())
save = loop.save


def save_and_die(where, progress, *rest):
    save(where, progress, *rest)
    if where.parent.parent.name == str(victim) and progress.epoch == epoch:
        os.kill(os.getpid(), signal.SIGKILL)


loop.save = save_and_die
search(plan, folder, trials)
"""


@pytest.fixture(scope="module")
def few(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the scenes, as a table."""
    with (scenes / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = sorted({row["label"] for row in rows})[:3]
    path = tmp_path_factory.mktemp("few") / "few.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        for row in rows:
            if row["label"] in kept:
                table.writerow({**row, "path": scenes / row["path"]})
    return path


@pytest.fixture(scope="module")
def plan(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "learner.toml").write_text(STUDENT.format(epochs=EPOCHS))
    (folder / "master.toml").write_text(TEACHER.format(epochs=2))
    return Plan(
        few, str(folder / "learner.toml"), (str(folder / "master.toml"),), chosen_objectives(["log_loss"]),
        tuple(parse_vary(text) for text in SPACE), seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A search that nothing disturbed."""
    return search(plan, tmp_path_factory.mktemp("searches") / "whole", TRIALS)


def sequence(rows: tuple[Row, ...]) -> list[Row]:
    """Trials without the time that they took."""
    return [replace(row, figures={k: v for k, v in row.figures.items() if k != "seconds"}) for row in rows]


def test_every_kind_of_trial_came_about(found: Found) -> None:
    assert [row.number for row in found.rows] == list(range(TRIALS))
    assert {row.ended for row in found.rows} == {"finished", "stopped", "over"}, "the tests below need them"


def test_what_is_over_the_limits_is_never_trained(found: Found, plan: Plan) -> None:
    for row in found.rows:
        assert (row.settings["student.model.base_channels"] == 96) == (row.ended == "over")
        if row.ended == "over":
            assert "over dcase2024" in row.sentence
            assert "accuracy" not in row.figures
            assert not found.run(row.number).exists()


def test_counting_what_is_over_takes_no_time(plan: Plan, tmp_path: Path) -> None:
    wide = plan.with_space((parse_vary("model.base_channels=[96, 128]"),))
    folder = tmp_path / "wide"
    nothing = search(replace(wide, teachers=()), folder, 12)
    assert nothing.best is None
    assert "(12 over the limits); the last one said: over dcase2024" in nothing.complaint
    trials = Ledger(replace(wide, teachers=()), folder, _data_of(folder)).trials
    took = sorted((t.datetime_complete - t.datetime_start).total_seconds() for t in trials)  # type: ignore[operator]
    assert took[len(took) // 2] < 0.5


def _data_of(folder: Path) -> str:
    import optuna

    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'search.db'}")
    return str(study.user_attrs["plan"]["data set"])


def test_figures_are_those_of_the_kept_epoch_on_the_validation_clips(found: Found) -> None:
    for row in found.rows:
        if row.ended == "finished":
            [metrics] = found.run(row.number).glob("stages/student-*/metrics.jsonl")
            epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
            kept = min(epochs, key=lambda epoch: epoch["val_loss"])
            assert row.figures["log_loss"] == pytest.approx(kept["val_loss"], rel=1e-5)
            assert row.figures["accuracy"] == kept["val_accuracy"]
            assert row.figures["epochs"] == len(epochs) == EPOCHS


def test_a_trial_is_stopped_where_it_lies_behind_the_median(found: Found) -> None:
    """By hand: from the second epoch on, once five have finished, its best so far against their median."""
    finished: list[list[float]] = []
    for row in found.rows:
        if row.ended == "over":
            continue
        [metrics] = found.run(row.number).glob("stages/student-*/metrics.jsonl")
        losses = [json.loads(line)["val_loss"] for line in metrics.read_text().splitlines()]
        behind = [
            epoch
            for epoch in range(1, EPOCHS - 1)
            if len(finished) >= 5 and min(losses[: epoch + 1]) > median(each[epoch] for each in finished)
        ]
        assert row.ended == ("stopped" if behind else "finished")
        assert len(losses) == (behind[0] + 1 if behind else EPOCHS)
        finished += [] if behind else [losses]


def test_teachers_are_trained_once(found: Found) -> None:
    assert not list((found.folder / "teachers" / "stages").glob("student-*"))
    trained = [row.number for row in found.rows if row.ended != "over"]
    for kind in ("data", "teacher.1", "logits"):
        stages = [stage for n in trained for stage in found.run(n).glob(f"stages/{kind}-*")]
        assert len(stages) == len(trained)
        [shared] = {stage.resolve() for stage in stages}
        assert shared.is_relative_to((found.folder / "teachers").resolve())


def test_the_best_recipe_is_a_whole_one_and_its_student_is_taken_over(found: Found, plan: Plan) -> None:
    assert found.best is not None
    recipe = load_recipe(found.folder / "best.toml")
    searched = plan.job(found.best.drawn)
    assert replace(recipe, name="", summary="") == replace(searched.student, name="", summary="")
    run = found.run(found.best.number)
    outcome = distill.run(replace(searched, student=recipe), run, "cpu", until="student")
    assert outcome.stages["student"].cached
    assert found.test()["accuracy"] == outcome.stages["student"].result["test"]["accuracy"]
    assert f"--student {found.folder / 'best.toml'}" in found.command(found.best.number)


def test_a_killed_search_makes_the_same_trials(found: Found, plan: Plan, tmp_path: Path) -> None:
    victims = (
        [row for row in found.rows if row.ended == "finished"][1],
        next(row for row in found.rows if row.ended == "stopped"),
    )
    folder = tmp_path / "killed"
    for row, epoch in zip(victims, (2, 2), strict=True):
        (tmp_path / "what").write_bytes(pickle.dumps((plan, folder, TRIALS, row.number, epoch)))
        killed = subprocess.run(
            [sys.executable, "-c", KILL, str(tmp_path / "what")], capture_output=True, text=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = search(plan, folder, TRIALS)
    assert sequence(again.rows) == sequence(found.rows)
    assert again.front == found.front


def test_more_trials_go_on_and_another_plan_does_not(found: Found, plan: Plan) -> None:
    before = sequence(found.rows)
    assert sequence(search(plan, found.folder, TRIALS).rows) == before
    narrower = plan.with_space(plan.space[:2])
    with pytest.raises(
        EdgeAudioError, match=r"differs in its space; choose another -o, or start it anew with --force"
    ):
        search(narrower, found.folder, TRIALS)
    with pytest.raises(EdgeAudioError, match="differs in its objectives and seed"):
        search(replace(plan, seed=2, objectives=chosen_objectives(["accuracy"])), found.folder, TRIALS)
    assert sequence(search(plan, found.folder, TRIALS).rows) == before


def test_two_workers_make_each_trial_once(plan: Plan, found: Found, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    together = search(replace(plan, early_stop=False), folder, 4, workers=2)
    assert [row.number for row in together.rows] == list(range(4))
    assert {row.ended for row in together.rows} <= {"finished", "over"}
    assert not list((folder / "trials").glob("[0-9]*.lock"))
    assert len(list((folder / "teachers" / "stages").glob("teacher.1-*"))) == 1
    # the first draws come from the seed and the number alone
    assert [row.settings for row in together.rows] == [row.settings for row in found.rows[:4]]


def test_what_is_drawn_hangs_on_seed_number_and_past_alone(plan: Plan, tmp_path: Path) -> None:
    """Past the random beginning too, where what is drawn follows from the trials before."""
    space = (parse_vary("train.learning_rate=log(1e-4,1e-1)"), parse_vary("augment.mixup_alpha=float(0,1)"))
    made = replace(plan, space=space)

    def draw(folder: Path, restart: bool) -> list[list[float]]:
        folder.mkdir()
        ledger, drawn = Ledger(made, folder, "same"), list[list[float]]()
        for number in range(16):
            claim = ledger.claim(16)
            assert claim is not None
            if restart and number % 3 == 0:  # died with half of its values drawn
                ledger.plan = made.with_space(space[:1])
                ledger.draw(claim)
                claim.lock.close()
                ledger = Ledger(made, folder, "same")
                claim = ledger.claim(16)
                assert claim is not None
            assert claim.trial.number == number
            values = [float(setting.partition("=")[2]) for setting in ledger.draw(claim)]
            ledger.tell(claim, TrialState.COMPLETE, [(values[0] - 0.01) ** 2 + values[1]])
            drawn.append(values)
        assert ledger.claim(16) is None
        return drawn

    whole = draw(tmp_path / "whole", restart=False)
    assert draw(tmp_path / "restarted", restart=True) == whole
    assert len({tuple(values) for values in whole}) == 16


def test_a_trial_at_work_is_nobody_elses(plan: Plan, tmp_path: Path) -> None:
    first, second = (Ledger(plan, tmp_path, "same") for _ in range(2))
    mine, other = first.claim(2), second.claim(2)
    assert mine is not None
    assert other is not None
    assert (mine.trial.number, other.trial.number) == (0, 1)
    assert second.claim(2) is None
    mine.lock.close()  # as when its process ends
    taken_up = second.claim(2)
    assert taken_up is not None
    assert taken_up.trial.number == 0


def test_what_was_drawn_before_is_not_trained_again(plan: Plan, tmp_path: Path) -> None:
    alone = replace(plan.with_space((parse_vary("model.base_channels=[8]"),)), teachers=())
    twice = search(alone, tmp_path / "same", 2)
    assert twice.rows[0].figures == twice.rows[1].figures
    assert twice.run(1) == twice.run(0)
    assert not (tmp_path / "same" / "trials" / "1").exists()


def test_a_setting_that_fails_in_training_is_told_and_the_search_goes_on(plan: Plan, tmp_path: Path) -> None:
    wild = replace(
        plan.with_space((parse_vary("train.learning_rate=[1e30]"),)),
        teachers=(),
        settings=("student.train.ema_decay=0",),
    )
    nothing = search(wild, tmp_path / "wild", 2)
    assert [row.ended for row in nothing.rows] == ["failed", "failed"]
    assert "not finite" in nothing.complaint


def test_the_page_shows_every_trial(found: Found, tmp_path: Path) -> None:
    page = write(found.to_json(), tmp_path).read_text()
    finished = found.count("finished")
    assert page.count("<circle") == 3 * finished, "over MACs, over bytes, and trial by trial"
    rows = re.findall(r'<tr[^>]*><th scope="row" class="l">(\d+)</th><td', page)
    assert {int(number) for number in rows} == set(range(TRIALS))
    assert found.command(found.front[0]) in page
    assert page.count("over the limits") >= found.count("over")
    assert json.loads((tmp_path / "search.json").read_text())["test"] == found.test()
    with pytest.raises(EdgeAudioError, match="schema 7"):
        render({**found.to_json(), "schema": 7})


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object, expect: int = 0
) -> str:
    """What the command line answers, or complains where it is to fail."""
    monkeypatch.setattr(sys, "argv", ["edgeaudio", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == expect
    out, err = capsys.readouterr()
    return err if expect else out


def test_several_objectives_by_the_command_line(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "front-search"
    words = [
        "search", plan.data, "--student", plan.student, "--teacher", "none", "--trials", 4, "-o", output,
        "--objective", "accuracy", "--objective", "macs", "--vary", "model.base_channels=[8, 12, 16]",
        "--vary", "train.learning_rate=log(1e-3,3e-2)", "--set", "student.train.epochs=2",
    ]  # fmt: skip
    answer = json.loads(said(capsys, monkeypatch, *words, "--json"))
    members = [member["trial"] for member in answer["front"]]
    figures = {trial["number"]: trial["figures"] for trial in answer["trials"]}
    for number, mine in figures.items():
        beaten = any(
            other["accuracy"] >= mine["accuracy"] and other["macs"] <= mine["macs"] and other != mine
            and (other["accuracy"], other["macs"]) != (mine["accuracy"], mine["macs"])
            for other in figures.values()
        )  # fmt: skip
        assert not (beaten and number in members)
    assert sorted(path.stem for path in (output / "front").iterdir()) == sorted(f"{n:02d}" for n in members)
    assert load_recipe(output / "best.toml").train.epochs == 2
    assert answer["front"][0]["command"].startswith(f"edgeaudio train {plan.data} --model {output}/best.toml")
    text = said(capsys, monkeypatch, *words)
    assert "no other trial beats these" in text
    assert os.fspath(output / "search.html") in text


def test_wrong_use_is_one_sentence(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ["search", plan.data, "--student", plan.student, "--teacher", "none", "-o", tmp_path / "x"]
    for words, sentence in (
        (["--vary", "train.learning_rte=log(1e-4,1e-2)"], "did you mean 'learning_rate'?"),
        (["--vary", "train.batch_size=int(0,64,16)"], "student.train.batch_size = 0 is impossible"),
        (["--vary", "teacher.train.epochs=int(1,9)"], "the search has no teacher"),
        (["--objective", "macs"], "needs no training"),
        (["--limits", "dcase2042"], "did you mean 'dcase20"),
        (["--space", tmp_path / "none.toml"], "no such file"),
        (["--device", "tpu"], "--device is 'tpu'"),
        (["--storage", "mysqll://x"], "can't be opened"),
    ):
        text = said(capsys, monkeypatch, *start, "--quiet", *words, expect=2)
        assert text.startswith("error: ")
        assert sentence in text
        assert len(text.splitlines()) == 1
        assert not list((tmp_path / "x").glob("search.db"))
