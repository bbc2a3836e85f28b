"""``nibble bench``: what this machine makes of a model, and what the server would choose for it."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table

from engine.calibration import Chosen, Failed, Line, Rate
from engine.config import EngineConfig, ModelFacts
from engine.errors import ModelLoadFailed
from engine.job_process import JobProcess


def run_bench(config: EngineConfig, console: Console) -> None:
    """Measure ``config``'s model in a process of its own, and print tables. Raises ModelLoadFailed.

    Ctrl-C ends the process as well.
    """
    rates: list[Rate] = []
    chosen: Chosen | None = None
    decoder = msgspec.json.Decoder(Line)
    with (
        JobProcess("engine.calibration", msgspec.json.encode(config)) as job,
        console.status(f"loading {config.model_id} ...") as status,
    ):
        for raw in job.lines():
            line: Line = decoder.decode(raw)
            match line:
                case Rate() as rate:
                    rates.append(rate)
                    status.update(f"measuring {config.model_id}: {rate.kind} {rate.size} done ...")
                case Chosen() as found:
                    chosen = found
                case Failed(message=message):
                    raise ModelLoadFailed(message)
        _, words = job.end()
    if chosen is None:
        raise ModelLoadFailed(f"the process that measured {config.model_id} {words}")
    _print(console, config.model_id, rates, chosen)


def _print(console: Console, model_id: str, rates: list[Rate], chosen: Chosen) -> None:
    for kind, heading in (("prefill", "tokens in a chunk"), ("decode", "sequences at once")):
        table = Table(title=f"{model_id}: {kind}")
        table.add_column(heading, justify="right")
        table.add_column("tokens/s", justify="right")
        for rate in rates:
            if rate.kind == kind:
                table.add_row(str(rate.size), f"{rate.tokens_per_s:.0f}")
        console.print(table)
    facts = chosen.facts
    console.print(f"threads   {facts.threads}: {facts.threads_reason}")
    console.print(f"backend   {facts.backend}")
    console.print(f"context   {facts.context:,} tokens a request, {facts.parallel} requests at once")
    console.print(f"attention {_attention(facts)}")
    console.print(f"KV cache  {facts.kv_layout}, {facts.kv_bytes / 2**20:,.0f} MiB")


def _attention(facts: ModelFacts) -> str:
    flash = {"auto": "llama.cpp's choice", "on": "flash", "off": "plain"}[facts.flash_attention]
    return f"{flash}: {facts.attention_reason}"
