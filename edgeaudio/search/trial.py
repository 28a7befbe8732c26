"""One trial: its costs are counted, and if the rules allow them, its student is trained and heard."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from edgeaudio import complexity, models
from edgeaudio.errors import EdgeAudioError
from edgeaudio.search.ledger import Claim, Ledger
from edgeaudio.search.teachers import Teachers
from edgeaudio.search.watch import STUDENT, Watch
from edgeaudio.training import distill
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.job import Job
from edgeaudio.training.progress import METRICS
from edgeaudio.training.supervised import val_figures
from edgeaudio.training.windows import window_logits

BITS = 8


@dataclass(frozen=True)
class Cost:
    """What a student costs, known before any training."""

    params: int
    bytes: int
    """Of the weights at 8 bits."""
    macs: int
    """By the official counter."""
    true_macs: int
    """What really runs."""
    excess: dict[str, float]
    """Bound of the rules → share by which it is missed; 0 or less where it is kept."""
    over: str = ""
    """The verdict in a sentence where it is over the rules."""

    @property
    def figures(self) -> dict[str, int]:
        """By name, as objectives ask for them."""
        names = ("params", "bytes", "macs", "true_macs")
        return {name: getattr(self, name) for name in names}


def cost_of(job: Job, classes: int) -> Cost:
    """Count a job's student; takes milliseconds.

    Raises:
        RecipeError: the network can't be built, or can't take its input.
    """
    model = models.build(job.student.model.name, classes, **job.student.model.options)
    count = complexity.official(model, job.student.counted_shape)
    truly = complexity.true(model, job.student.counted_shape)
    excess, over = {}, ""
    if job.limits is not None:
        verdict = complexity.check(count, job.limits, bits=BITS, true=truly)
        bounds = (
            ("bytes", verdict.bytes, verdict.max_bytes),
            ("macs", verdict.macs, verdict.max_macs),
            ("params", verdict.params, verdict.max_params),
        )
        excess = {name: value / most - 1 for name, value, most in bounds if most}
        over = verdict.sentence if verdict.over else ""
    return Cost(count.params, count.bytes(BITS), count.macs, truly.macs, excess, over)


def perform(
    claim: Claim, ledger: Ledger, teachers: Teachers, classes: int, device: str, beat: Callable[[], None]
) -> None:
    """Do a trial, or what is left of it, and enter it into the book.

    A trial that the rules or its own settings forbid, or whose training fails, is entered with the sentence
    that says why, and the search goes on. Those count as pruned, from which the sampler learns to keep away.
    """
    plan, trial = ledger.plan, claim.trial
    drawn = ledger.draw(claim)
    facts: dict[str, Any] = {"settings": json.dumps(drawn, ensure_ascii=False)}
    try:
        job = plan.job(drawn)
        cost = cost_of(job, classes)
        facts["figures"] = cost.figures
        known = trial.storage.get_trial(trial._trial_id).constraints  # of a trial that was interrupted
        for name in cost.excess.keys() - known.keys():
            trial.set_constraint(name, cost.excess[name])
        if cost.over:
            raise _Over(cost.over)
        if (same := ledger.known(drawn)) is not None:
            facts["run"], figures = same.user_attrs.get("run", same.number), same.user_attrs["figures"]
        else:
            figures = {**cost.figures, **_train(claim, job, ledger, teachers, device, beat)}
    except _Over as reason:
        ledger.tell(claim, TrialState.PRUNED, None, **facts, ended="over", sentence=str(reason))
    except optuna.TrialPruned as reason:
        ledger.tell(claim, TrialState.PRUNED, None, **facts, ended="stopped", sentence=str(reason))
    except EdgeAudioError as reason:
        ledger.tell(claim, TrialState.PRUNED, None, **facts, ended="failed", sentence=str(reason))
    else:
        values = [float(figures[each.name]) for each in plan.objectives]
        ledger.tell(claim, TrialState.COMPLETE, values, **{**facts, "figures": figures}, ended="finished")


class _Over(Exception):
    """The student is over the limits."""


def _train(
    claim: Claim, job: Job, ledger: Ledger, teachers: Teachers, device: str, beat: Callable[[], None]
) -> dict[str, float]:
    """Train the trial's student in its own run, and score the validation clips with what it keeps."""
    epochs, objective = job.student.train.epochs, ledger.plan.watched
    watch = Watch(claim.trial, claim.folder, epochs, objective, beat)
    teachers.lend(job, claim.folder)
    outcome = distill.run(job, claim.folder, device, watch, until=STUDENT)
    stage = outcome.stages[STUDENT]
    watch.report(stage.folder / METRICS)  # of a trial that was interrupted between its training and this
    val, spec = outcome.sets["val"], job.student.frontend
    chip = make_fabric(device, "32").device
    found = val_figures(window_logits(outcome.network.to(chip), val, spec, chip), val)
    rows = stage.result["history"]
    return {
        "accuracy": found["val_accuracy"],
        "log_loss": found["val_loss"],
        "epochs": len(rows),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }
