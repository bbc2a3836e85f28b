"""What ``nibble tune`` has to show: a table, a plot, and the price of a choice in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from model_registry.store.twin_record import Measurement, TwinRecord
    from model_registry.tune.tuning import Tuning

_PLOT_INCHES = (9.0, 5.0)


def table_of(tuning: Tuning) -> Table:
    """A row for the original and for each twin; a star where nothing beats it.

    It fits 80 columns, which need one space between figures and headings of two lines. Should it not, the change is
    what takes two lines, since a row without its type says nothing.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
        title=f"{tuning.model} as it is, and its twins",
        caption=f"MB of file and of memory; tokens a second on {tuning.threads} threads, reading a prompt, writing one"
        f" answer and 8 at once; perplexity over {tuning.tokens:,} tokens, its change with the standard error.\n"
        "* nothing beats it in speed, perplexity and memory together",
    )
    table.add_column("type", no_wrap=True)
    for heading in ("MB", "memory", "prefill", "decode\n1", "decode\n8", "perplexity"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("change", justify="right")
    for choice, is_unbeaten in zip(tuning.choices, tuning.unbeaten, strict=True):
        table.add_row(
            f"{'*' if is_unbeaten else ' '} {_name(choice)}",
            f"{choice.file_bytes / 1e6:,.1f}",
            f"{choice.memory_bytes / 1e6:,.0f}",
            *(f"{rate:,.0f}" for rate in (choice.prefill, choice.decode_1, choice.decode_8)),
            f"{choice.perplexity:.3f}",
            "" if choice is tuning.original else _change(choice),
        )
    return table


def cost_of(twin: TwinRecord) -> str:
    """What serving the twin brings and costs, as it was measured: one sentence."""
    speeds = ", ".join(
        f"{name} {new:,.0f} instead of {old:,.0f}"
        for name, new, old in (
            ("prefill", twin.twin.prefill, twin.original.prefill),
            ("decode", twin.twin.decode_1, twin.original.decode_1),
            ("decode of 8", twin.twin.decode_8, twin.original.decode_8),
        )
    )
    return (
        f"{_name(twin.twin)} instead of {_name(twin.original)}: {speeds} tokens/s;"
        f" perplexity {_change(twin.twin)}; {twin.twin.memory_bytes / 1e6:,.0f} MB of memory instead of"
        f" {twin.original.memory_bytes / 1e6:,.0f}"
    )


def plot_fault(path: Path) -> str | None:
    """Why no plot can be written there, and what mends it; None where nothing is known to be wrong."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        return "the plot needs matplotlib: pip install 'nibble-server[plot]'"
    forms = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in forms:
        return f"{path} must end in .png, .svg or another form that matplotlib writes: {', '.join(sorted(forms))}"
    return (
        None
        if path.absolute().parent.is_dir()
        else f"{path.absolute().parent} is no directory: make it first"
    )


def write_plot(tuning: Tuning, path: Path) -> None:
    """Speed against perplexity, a point for each choice, as large as its memory. Raises OSError.

    The form follows from the path's ending, of which ``plot_fault`` knows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_PLOT_INCHES, layout="constrained")
    largest = max(choice.memory_bytes for choice in tuning.choices)
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (title, name) in zip(
        axes, (("prefill", "prefill"), ("decode 1", "decode_1"), ("decode 8", "decode_8")), strict=True
    ):
        for choice, is_unbeaten in zip(tuning.choices, tuning.unbeaten, strict=True):
            at = (getattr(choice, name), choice.perplexity)
            size = 40 + 260 * choice.memory_bytes / largest
            axis.scatter(*at, s=size, alpha=0.7, color="tab:green" if is_unbeaten else "tab:gray")
            axis.annotate(_name(choice), at, textcoords="offset points", xytext=(7, 7), fontsize=8)
        axis.margins(y=0.15)
        axis.set_xlim(0, 1.25 * max(getattr(choice, name) for choice in tuning.choices))
        axis.set_xlabel(f"{title}, tokens/s")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"perplexity over {tuning.tokens:,} tokens (lower is better)")
    figure.suptitle(f"{tuning.model}: green is beaten by nothing; the larger, the more memory")
    figure.savefig(path, dpi=120)


def _name(choice: Measurement) -> str:
    return choice.quantisation or "unknown"


def _change(choice: Measurement) -> str:
    return f"{choice.perplexity_ratio - 1:+.2%} ± {choice.ratio_error:.2%}"
