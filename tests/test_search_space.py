"""What a search varies and aims at: how it is written, what is refused, and which trials no other beats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from edgeaudio.errors import EdgeAudioError, RecipeError
from edgeaudio.recipes import load_recipe
from edgeaudio.search.defaults import default_space
from edgeaudio.search.objectives import OBJECTIVES, chosen_objectives, front, order
from edgeaudio.search.plan import Plan
from edgeaudio.search.space import Choice, Range, joined, parse_vary, read_space, settings_of
from edgeaudio.search.trial import cost_of

AIM = chosen_objectives(["accuracy"])


def plan_of(*varied: str, student: str = "cp_mobile_8", **changes: object) -> Plan:
    space = tuple(parse_vary(text) for text in varied)
    return replace(Plan(Path("data"), student, (), AIM, space), **changes)  # type: ignore[arg-type]


def test_ranges_and_choices_are_read_as_written() -> None:
    assert parse_vary("train.learning_rate=log(1e-4, 1e-2)") == Range(
        "student.train.learning_rate", "log", 1e-4, 1e-2
    )
    assert parse_vary("teacher.train.epochs=int(10,50,20)") == Range(
        "teacher.train.epochs", "int", 10, 50, 20
    )
    assert parse_vary("big.augment.mixup_alpha=float(0,0.5)", ["big"]).key == "big.augment.mixup_alpha"
    assert parse_vary("model.n_blocks=[[2,1,1],[3,2,1]]") == Choice(
        "student.model.n_blocks", ([2, 1, 1], [3, 2, 1])
    )
    assert parse_vary("model.grn=[true, false]").ends == (True, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.epochs", "KEY=VALUES"),
        ("train.epochs=5", "give a list of choices"),
        ("train.epochs=int(5)", "int(low,high)"),
        ("train.epochs=int(5,9.5)", "whole numbers"),
        ("train.epochs=int(10,49,20)", "nearest end below is 30"),
        ("train.epochs=int(9,5)", "to a larger one"),
        ("train.epochs=lgo(1,2)", "did you mean 'log'?"),
        ("train.learning_rate=log(0,1)", "above 0"),
        ("train.learning_rate=log(a,b)", "plain numbers"),
        ("train.epochs=[]", "empty"),
        ("train.epochs=[5,6,5]", "stands twice"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_vary(text)
    assert said in str(error.value)


def test_a_space_file_and_what_the_command_line_changes_of_it(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('[search]\n"train.learning_rate" = "log(1e-4,1e-2)"\nmodel.base_channels = [8, 16]\n')
    read = read_space(file)
    space = joined([read, [parse_vary("model.base_channels=[32]")]])
    assert [vary.text for vary in space] == ["log(0.0001, 0.01)", "[32]"]
    with pytest.raises(RecipeError, match="varies twice"):
        joined([[*read, *read]])
    file.write_text("[train]\nepochs = 5\n")
    with pytest.raises(RecipeError, match="no place in a space file"):
        read_space(file)


def test_drawn_settings_are_what_the_recipe_gets() -> None:
    plan = plan_of(
        "train.learning_rate=log(1e-4,1e-2)", "model.n_blocks=[[2,1,1],[3,2,1]]", "model.grn=[true]"
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(3))
    for _ in range(20):
        trial = study.ask()
        values = [vary.draw(trial) for vary in plan.space]
        drawn = [
            text for vary, value in zip(plan.space, values, strict=True) for text in settings_of(vary, value)
        ]
        student = plan.job(drawn).student
        assert student.train.learning_rate == values[0] == float(f"{values[0]:.4g}")
        assert student.model.options["n_blocks"] == values[1]
        assert student.model.options["grn"] is True


def test_rounding_never_leaves_the_range() -> None:
    narrow = Range("student.train.ema_decay", "float", 0.99994, 0.999949)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    assert all(0.99994 <= narrow.draw(study.ask()) <= 0.999949 for _ in range(50))


@pytest.mark.parametrize(
    ("varied", "said"),
    [
        ("train.learning_rte=log(1e-4,1e-2)", "did you mean 'learning_rate'?"),
        ("train.batch_size=int(0,64,16)", "batch_size is 0"),
        ("augment.mixup_p=float(0,1.5)", "must lie between 0 and 1"),
        ("model.base_channels=[8,-1]", "student.model.base_channels = -1 is impossible"),
        ("model.base_chanels=[8]", "did you mean 'base_channels'?"),
        ('train.optimizer=["adamw","adan"]', "did you mean 'adam"),
        ("teacher.train.epochs=int(1,9)", "has no teacher"),
    ],
)
def test_an_impossible_value_is_said_before_the_first_trial(varied: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        plan_of(varied).check(10)
    assert said in str(error.value)


def test_a_value_that_others_make_possible_is_not_refused(tmp_path: Path) -> None:
    alone = plan_of("augment.impulse_response_p=[0.5]")
    with pytest.raises(RecipeError, match="needs a folder"):
        alone.check(10)
    plan_of("augment.impulse_response_p=[0.5]", f'augment.impulse_responses=["","{tmp_path}"]').check(10)


def test_the_recipes_own_values_are_the_first_trial() -> None:
    plan = plan_of(
        "train.learning_rate=log(1e-4,1e-2)", "train.epochs=int(10,20)", "model.base_channels=[8,16]",
        "model.n_blocks=[[2,1,1],[3,2,1]]", "model.grn=[true,false]",
    )  # fmt: skip
    own = load_recipe("cp_mobile_8")
    start = plan.start()
    assert start["student.train.learning_rate"] == own.train.learning_rate
    assert start["student.model.base_channels"] == 8
    assert start["student.model.n_blocks"] == "[3, 2, 1]", "the architecture's own default"
    assert "student.train.epochs" not in start, "60 lies outside"


@pytest.mark.parametrize(
    "student", ["cp_mobile_32", "mobileast_light1", "micro_acdnet", "bc_resnet_1", "cp_mobile_8"]
)
def test_the_usual_space_holds_the_recipe_and_keeps_the_limits(student: str) -> None:
    plan = plan_of(student=student, limits="dcase2023")
    job = plan.job()
    plan = replace(plan, space=default_space(job, 10))
    plan.check(10)
    rate, width = plan.space[0], plan.space[-1]
    assert rate.ends[0] < job.student.train.learning_rate < rate.ends[1]
    assert isinstance(width, Choice)
    assert len(width.values) > 1
    costs = [cost_of(plan.job(settings_of(width, value)), 10) for value in width.values]
    assert all(not cost.over for cost in costs)
    assert costs[0].bytes < costs[-1].bytes


def test_objectives_are_checked() -> None:
    assert [each.name for each in chosen_objectives(["log_loss", "macs"])] == ["log_loss", "macs"]
    for names, said in (
        (["acuracy"], "did you mean 'accuracy'"),
        (["macs"], "--fit"),
        (["accuracy"] * 2, "twice"),
    ):
        with pytest.raises(RecipeError, match=said):
            chosen_objectives(names)


def beats(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    as_good = (
        ours["accuracy"] >= theirs["accuracy"]
        and ours["macs"] <= theirs["macs"]
        and ours["bytes"] <= theirs["bytes"]
    )
    same = all(ours[key] == theirs[key] for key in ("accuracy", "macs", "bytes"))
    return as_good and (not same or ours["log_loss"] < theirs["log_loss"])


def test_the_front_is_what_brute_force_finds() -> None:
    rng = np.random.default_rng(5)
    objectives = chosen_objectives(["accuracy", "macs", "bytes"])
    for size in (1, 7, 40):
        figures = {
            number: {
                "accuracy": float(rng.integers(8)) / 8, "macs": float(rng.integers(6)),
                "bytes": float(rng.integers(6)), "log_loss": float(rng.random()),
            }
            for number in range(size)
        }  # fmt: skip
        slow = {b for b in figures if not any(beats(figures[a], figures[b]) for a in figures if a != b)}
        assert set(front(figures, objectives)) == slow


def test_the_front_is_what_optuna_finds_where_no_two_are_equal() -> None:
    objectives = chosen_objectives(["log_loss", "macs"])
    study = optuna.create_study(directions=["minimize", "minimize"])
    rng = np.random.default_rng(1)
    figures = {}
    for number in range(30):
        values = rng.random(2)
        study.tell(study.ask(), list(values))
        figures[number] = {"log_loss": values[0], "macs": values[1], "bytes": 0.0, "accuracy": 0.0}
    assert set(front(figures, objectives)) == {trial.number for trial in study.best_trials}


def test_equal_accuracies_are_told_apart_by_the_loss() -> None:
    rows = [{"accuracy": 0.5, "log_loss": loss, "macs": 1.0, "bytes": 1.0} for loss in (1.2, 1.1, 1.3)]
    assert min(range(3), key=lambda i: order(rows[i], AIM)) == 1


def test_a_cost_is_what_the_counters_say() -> None:
    job = plan_of(student="dcase2024_baseline").job()
    cost = cost_of(job, 10)
    assert (cost.params, cost.macs, cost.over) == (61148, 29419156, "")
    assert cost.excess["macs"] == pytest.approx(29419156 / 30e6 - 1)
    wide = cost_of(plan_of(student="dcase2024_baseline").job(["student.model.base_channels=64"]), 10)
    assert "over dcase2024" in wide.over
    assert max(wide.excess.values()) > 0


def test_every_objective_is_a_figure_of_a_trial() -> None:
    known = {*cost_of(plan_of().job(), 10).figures, "accuracy", "log_loss"}
    assert set(OBJECTIVES) <= known


def test_which_searches_stop_trials_early() -> None:
    several = chosen_objectives(["accuracy", "macs"])
    assert plan_of("model.grn=[true,false]").watched == AIM[0]
    assert plan_of("model.grn=[true,false]", objectives=several).watched is None
    assert plan_of("train.epochs=int(5,9)").watched is None, "epochs of unlike trainings aren't alike"
    assert plan_of("model.grn=[true,false]", early_stop=False).watched is None


def test_settings_of_a_teacher_by_its_role_and_by_its_name() -> None:
    plan = plan_of(teachers=("cp_resnet_128k", "cp_resnet_damped"))
    job = plan.job(["teacher.train.epochs=7", "cp_resnet_damped.train.epochs=9", "student.train.epochs=3"])
    assert [teacher.train.epochs for teacher in job.teachers] == [7, 9]
    assert job.student.train.epochs == 3
    with pytest.raises(EdgeAudioError, match="no recipe 'nobody'"):
        plan_of(teachers=("nobody",)).job()
