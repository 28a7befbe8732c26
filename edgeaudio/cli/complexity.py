"""The verb `edgeaudio complexity`: what models cost, whether rules allow it, and what else would fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import NAMES, JsonOption, LimitsOption, QuietOption, need_training
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError, RecipeError

if TYPE_CHECKING:
    from edgeaudio.complexity import Count, Verdict
    from edgeaudio.complexity.memory import Memory
    from edgeaudio.training.subject import GraphFile, Subject

SHOWN = 12  # rows of the front in the terminal


def complexity(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="A recipe, a run, a bundle, an .onnx or .tflite file, or an architecture as "
            "name:option=value,…; several are set side by side.",
            metavar="MODEL...",
        ),
    ] = None,
    student: Annotated[
        str | None, typer.Option("--student", "-s", help=f"The same as MODEL. {NAMES['students']}")
    ] = None,
    limits: LimitsOption = "dcase2024",
    classes: Annotated[int, typer.Option(min=1, help="Number of classes; a run knows its own.")] = 10,
    bits: Annotated[int, typer.Option(help="Width of a weight: 8, 16 or 32.")] = 8,
    shape: Annotated[
        str | None, typer.Option("--input", help="Shape of one inference, e.g. 1,1,256,65.")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="Find what else fits this rule set: widths, depths and inputs of the recipe."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the picture, and with --fit for the best recipe."),
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Answer as Markdown.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Parameters, bytes, MACs and memory by layer, held against a rule set, before any training.

    The official count is the challenge tool's, to the last digit; the true one is what really runs. Exit
    code 1 when over the limits.
    """
    need_training()
    names = [*(models or []), *([student] if student else [])]
    if not names:
        raise EdgeAudioError("name a model, e.g. edgeaudio complexity dcase2024_baseline")
    from edgeaudio.training.subject import GraphFile, resolve

    if fit is not None:
        _fit(names, fit, classes, bits, output, as_json, as_markdown, Console(quiet))
        return
    subjects = [resolve(name, classes, _shape(shape)) for name in names]
    if len(subjects) > 1:
        modules = [subject for subject in subjects if not isinstance(subject, GraphFile)]
        if len(modules) < len(subjects):
            raise EdgeAudioError("graph files are counted one at a time; compare recipes, runs and options")
        ok = _compare(modules, limits, bits, output, as_json, as_markdown)
    elif isinstance(subjects[0], GraphFile):
        ok = _graph(subjects[0], limits, bits, as_json, as_markdown)
    else:
        ok = _module(subjects[0], limits, bits, as_json, as_markdown)
    if not ok:
        raise typer.Exit(1)


def _module(subject: Subject, limits: str, bits: int, as_json: bool, as_markdown: bool) -> bool:
    from edgeaudio.complexity import check, differences, official, true

    counted, truly = official(subject.model, subject.input_shape), true(subject.model, subject.input_shape)
    causes = differences(counted, truly)
    verdict = None if limits == "none" else check(counted, limits, bits, true=truly)
    if as_json:
        told = [{"cause": d.cause, "macs": d.macs, "layers": list(d.layers)} for d in causes]
        print_json(
            {
                **counted.to_json(),
                "true": truly.to_json(),
                "differences": told,
                "verdict": verdict.to_json() if verdict else None,
            }
        )
    elif as_markdown:
        typer.echo(counted.to_markdown())
        typer.echo("\n".join(f"- {cause}" for cause in causes) + "\n")
        typer.echo(verdict.to_markdown() if verdict else "")
    else:
        _table(f"{subject.name} at {counted.input_shape}, official", counted)
        typer.echo(f"true MACs: {truly.macs:,} ({truly.macs - counted.macs:+,} to the official count)")
        for cause in causes:
            typer.echo(f"  {cause}")
        _say_uncounted(truly)
        typer.echo(verdict.sentence if verdict else f"{counted.bytes(bits):,} B at {bits} bits")
    return verdict is None or verdict.ok


def _graph(subject: GraphFile, limits: str, bits: int, as_json: bool, as_markdown: bool) -> bool:
    from edgeaudio.complexity import check

    count, (memory, whole) = subject.count(), subject.memory()
    verdict: Verdict | None = None
    if limits != "none":
        verdict = check(count, limits, bits, flash=memory.flash_bytes, ram=memory.arena_bytes)
    if as_json:
        told = verdict.to_json() if verdict else None
        memories = {"memory": memory.to_json(), "memory_with_front_end": whole.to_json()}
        print_json({**count.to_json(), **memories, "verdict": told})
    elif as_markdown:
        typer.echo(count.to_markdown())
        typer.echo(memory.to_markdown())
        typer.echo(verdict.to_markdown() if verdict else "")
    else:
        _table(f"{subject.name} at {count.input_shape}", count)
        _say_memory(count, memory, whole)
        _say_uncounted(count)
        typer.echo(verdict.sentence if verdict else f"{count.bytes(bits):,} B at {bits} bits")
    return verdict is None or verdict.ok


def _compare(
    subjects: list[Subject], limits: str, bits: int, output: Path | None, as_json: bool, as_markdown: bool
) -> bool:
    from edgeaudio.complexity import compare

    compared = compare(subjects, None if limits == "none" else limits, bits)
    if as_json:
        print_json(compared.to_json())
    elif as_markdown:
        typer.echo(compared.to_markdown())
    else:
        header = ["model", "params", "int8 B", "fp16 B", "official MACs", "true MACs", limits]
        rows = [
            [
                m.name, f"{m.params:,}", f"{m.int8_bytes:,}", f"{m.fp16_bytes:,}", f"{m.macs:,}",
                f"{m.true_macs:,}", "–" if m.verdict is None else "fits" if m.verdict.ok else "over",
            ]
            for m in compared.models
        ]  # fmt: skip
        print_table("side by side", header, rows)
    _draw(compared, output, "comparison.svg")
    return all(m.verdict is None or m.verdict.ok for m in compared.models)


def _fit(
    names: list[str], limits: str, classes: int, bits: int, output: Path | None, as_json: bool,
    as_markdown: bool, console: Console,
) -> None:  # fmt: skip
    from edgeaudio.complexity import fit, write_recipe
    from edgeaudio.recipes import load_recipe

    if len(names) > 1:
        raise EdgeAudioError("--fit varies one recipe; name one")
    found = fit(load_recipe(names[0], "students"), limits, classes, bits, console)
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(found.to_markdown() if as_markdown else _front(found.to_markdown()))
    _draw(found, output, "fit.svg")
    if not found.candidates:
        raise typer.Exit(1)
    if output is not None:
        best = found.front[0]
        name = f"{Path(names[0]).stem}_{found.limits.name}"
        path = write_recipe(found.recipe(best, name), output / f"{name}.toml")
        typer.echo(f"the most capable one is {path}", err=as_json)


def _front(markdown: str) -> str:
    """The first rows of a Markdown table, and what stands below it."""
    lines = markdown.rstrip().splitlines()
    table = [line for line in lines if line.startswith("|")]
    rest = [line for line in lines if line and not line.startswith("|")]
    return "\n".join([*table[: SHOWN + 2], "", *rest])


def _draw(drawn: Any, output: Path | None, name: str) -> None:
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        typer.echo(f"picture: {drawn.picture(output / name)}", err=True)


def _table(title: str, count: Count) -> None:
    rows = [
        [
            layer.name, layer.kind, "×".join(map(str, layer.output_shape)), f"{layer.params:,}",
            f"{layer.macs:,}",
        ]
        for layer in count.layers
        if layer.params or layer.macs
    ]  # fmt: skip
    rows.append(["total", "", "", f"{count.params:,}", f"{count.macs:,}"])
    print_table(title, ["layer", "type", "output", "params", "MACs"], rows)


def _say_memory(count: Count, memory: Memory, whole: Memory) -> None:
    if count.integer_macs:
        typer.echo(f"in integers: {count.integer_macs:,} of {count.macs:,} MACs")
    typer.echo(
        f"memory: activations {memory.peak_bytes:,} B at their peak ({memory.at}), {memory.arena_bytes:,} B "
        f"in a planned arena; flash {memory.flash_bytes:,} B"
    )
    if count.front_end_macs:
        typer.echo(
            f"front end on top: {count.front_end_macs:,} MACs; with it {whole.arena_bytes:,} B of arena"
        )
    if memory.unknown:
        typer.echo(f"of unknown size, so the memory is a lower bound: {', '.join(memory.unknown)}")


def _say_uncounted(count: Count) -> None:
    if count.uncounted:
        typer.echo(f"not counted, so the MACs are a lower bound: {', '.join(count.uncounted)}")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").replace("×", ",").split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise RecipeError(f"--input {text!r} isn't a shape; write positive sizes, e.g. 1,1,256,65")
    return tuple(int(part) for part in parts)
