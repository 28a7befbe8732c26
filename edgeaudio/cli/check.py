"""The verbs that hold a bundle against this machine: verify, bench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import BundleArgument, JsonOption, QuietOption
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.bundle import Bundle

GraphsOption = Annotated[str | None, typer.Option("--graph", help="int8, fp32 …; every graph if not given.")]
_SPEED = {
    "front end ms": "front_end_ms",
    "network ms": "model_ms",
    "p50 ms": "p50_ms",
    "p95 ms": "p95_ms",
    "p99 ms": "p99_ms",
    "windows/s": "windows_per_second",
    "MLPerf windows/s": "mlperf_windows_per_second",
    "× real time": "real_time_factor",
    "torch ms": "torch_ms",
    "× torch": "times_faster_than_torch",
}
_PROCESS = {
    "peak MB": "peak_mb",
    "over the runtime": "peak_over_runtime_mb",
    "start → label s": "cold_start_s",
    "runtime alone s": "bare_start_s",
}
"""Column → its key in a row of figures."""


def verify(bundle: BundleArgument, graph: GraphsOption = None, as_json: JsonOption = False) -> None:
    """Run a bundle's golden vectors on this machine and hold the scores against its own. Needs no PyTorch.

    Every file's hash and the front end's are checked first. Exit code 1: a graph gives other scores here.
    """
    from edgeaudio import verify as verification
    from edgeaudio.bundle import read_bundle

    opened = read_bundle(bundle)
    checks = verification.verify(opened, _graphs(opened, graph))
    facts = {**_facts(opened), "frontend_hash": opened.frontend.hash, "files": len(opened.files)}
    if as_json:
        print_json({**facts, "ok": all(c.ok for c in checks), "graphs": [c.to_json() for c in checks]})
    else:
        header = ["graph", "windows", "max abs of scores", "bound", "same label", "verdict"]
        rows = [
            [
                c.graph, str(c.windows), f"{c.max_abs:.2g}", f"{c.bound:g}",
                f"{100 * c.same_label:.0f} %", "as made" if c.ok else "differs",
            ]
            for c in checks
        ]  # fmt: skip
        print_table(_title(facts), header, rows)
        typer.echo(
            f"{facts['files']} files and front end {facts['frontend_hash']} are what the manifest says"
        )
    verification.require_all(checks)


def bench(
    bundle: BundleArgument,
    graph: GraphsOption = None,
    threads: Annotated[str, typer.Option(help="Cores an inference may use, e.g. 1,2.")] = "1",
    batch: Annotated[
        str | None, typer.Option(help="Windows in one call; 1,8,32 if not given, with mlperf-tiny 1.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed calls of one window.")] = 200,
    protocol: Annotated[
        str,
        typer.Option(help="latency, or mlperf-tiny: also the throughput, median of five windows of 10 s."),
    ] = "latency",
    against_torch: Annotated[
        bool, typer.Option("--against-torch", help="Time torch in turns with it; needs the train extra.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """What a bundle costs on this machine: latency, front end and network apart, memory, cold start.

    Needs PyTorch with --against-torch only.
    """
    from edgeaudio.bench import fresh, speed
    from edgeaudio.bundle import read_bundle
    from edgeaudio.predictor import Predictor

    opened, console = read_bundle(bundle), Console(quiet)
    default = "1" if protocol == "mlperf-tiny" else "1,8,32"
    plan = speed.Plan(
        graphs=_graphs(opened, graph),
        threads=_numbers("--threads", threads),
        batches=_numbers("--batch", default if batch is None else batch),
        runs=runs,
        protocol=protocol,
    )
    for name in plan.graphs:
        Predictor(opened, name)  # what can't be opened is told at once
    eager = None
    if against_torch:
        from edgeaudio.bench.eager import Eager

        eager = Eager(opened)
    processes = [
        {"graph": name, **fresh.memory(opened, name), **fresh.cold_start(opened, name)}
        for name in console.track(plan.graphs, "starting")
    ]
    answer = {
        **_facts(opened),
        "protocol": plan.sentence,
        "torch_weights": None if eager is None else "trained" if eager.trained else "random",
        "rows": speed.rows(opened, plan, console, eager),
        "processes": processes,
    }
    if as_json:
        print_json(answer)
        return
    _print_figures(_title(answer), ("graph", "threads", "batch"), _SPEED, answer["rows"])
    _print_figures("In a process of its own", ("graph",), _PROCESS, processes)
    typer.echo(plan.sentence)


def _print_figures(
    title: str, keys: tuple[str, ...], columns: dict[str, str], rows: list[dict[str, Any]]
) -> None:
    """A table of the keys, and of those columns that some row has a figure for."""
    told = {name: key for name, key in columns.items() if any(key in row for row in rows)}
    cells = []
    for row in rows:
        cells.append([str(row[key]) for key in keys] + [_number(row.get(key)) for key in told.values()])
    print_table(title, [*keys, *told], cells)


def _facts(bundle: Bundle) -> dict[str, Any]:
    from edgeaudio.latency import cpu_name
    from edgeaudio.verify import runtime_version

    return {
        "bundle": bundle.name,
        "bundle_hash": bundle.hash,
        "target": bundle.target,
        "runtime": bundle.runtime,
        "runtime_version": runtime_version(bundle.runtime),
        "cpu": cpu_name(),
    }


def _title(facts: dict[str, Any]) -> str:
    return f"{facts['bundle']} · {facts['runtime']} {facts['runtime_version']} · {facts['cpu']}"


def _graphs(bundle: Bundle, text: str | None) -> tuple[str, ...]:
    """The graphs that are asked for; each must be there."""
    names = tuple(bundle.graphs) if text is None else tuple(text.split(","))
    for name in names:
        bundle.graph_path(name)
    return names


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise EdgeAudioError(
            f"{option} is {text!r}; give whole numbers with commas, e.g. {option} 1,2"
        ) from None


def _number(value: float | None) -> str:
    """Three figures, without powers of ten."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
