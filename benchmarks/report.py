"""A run that is kept: the table as Markdown, the figures as JSON, throughput as a plot."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from benchmarks.result import Result
from benchmarks.throughput import ThroughputRow

_LONGEST_BAR = 2.0


def write_report(folder: Path, machine: str, results: list[Result], rows: list[ThroughputRow]) -> Path:
    """Write the files of one run into ``folder``, named by the day. Returns the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    table = folder / f"{day}.md"
    table.write_text(_markdown(day, machine, results, has_rates=bool(rows)), encoding="utf-8")
    figures = {
        "day": day,
        "machine": machine,
        "results": [asdict(result) for result in results],
        "throughput": [asdict(row) for row in rows],
    }
    (folder / f"{day}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if rows:
        _plot_rates(rows, folder / f"{day}.png")
    _plot_scores(results, folder / f"{day}-goals.png")
    return table


def _markdown(day: str, machine: str, results: list[Result], *, has_rates: bool) -> str:
    lines = [f"# Measured on {day}", "", machine, "", "| workload | measured | goal | met | detail |"]
    lines.append("|---|---|---|---|---|")
    for result in results:
        met = "yes" if result.is_met else "**no**"
        lines.append(f"| {result.workload} | {result.figure} | {result.goal} | {met} | {result.detail} |")
    lines += ["", f"![each figure against its goal]({day}-goals.png)"]
    if has_rates:
        lines += ["", f"![tokens a second by clients]({day}.png)"]
    return "\n".join(lines) + "\n"


def _plot_rates(rows: list[ThroughputRow], path: Path) -> None:
    pyplot = _pyplot()
    series = {"bare library": [row.bare for row in rows], "nibble": [row.served for row in rows]}
    for name, _ in rows[0].beside:
        series[name] = [dict(row.beside)[name] for row in rows]
    width = 0.8 / len(series)
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for number, (name, rates) in enumerate(series.items()):
        places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(rows))]
        axes.bar(places, rates, width, label=name)
        for place, rate, row in zip(places, rates, rows, strict=True):
            axes.annotate(f"{rate / row.bare:.2f}", (place, rate), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(rows)), [str(row.clients) for row in rows])
    axes.set_xlabel("clients")
    axes.set_ylabel("tokens generated a second, prefill included")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _plot_scores(results: list[Result], path: Path) -> None:
    """A bar for each workload; it reaches the line where the goal is met."""
    pyplot = _pyplot()
    shown = [min(result.score, _LONGEST_BAR) for result in results]
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.42 * len(results)))
    colours = ["tab:green" if result.is_met else "tab:red" for result in results]
    axes.barh([result.workload for result in results], shown, color=colours)
    for place, (result, length) in enumerate(zip(results, shown, strict=True)):
        axes.annotate(f" {result.figure}", (min(length, 0.02), place), va="center", fontsize=7)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlim(0, _LONGEST_BAR)
    axes.set_xlabel("share of the goal (from the line on it is met)")
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _pyplot() -> ModuleType:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
