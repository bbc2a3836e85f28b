"""``nibble doctor``: everything that could stand in the way, looked at, with the mend."""

from __future__ import annotations

import typer

from server.command_line import AsJson, ConfigFile, DataDir, ModelsDir, print_json, settings_from


def install(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(doctor)


def doctor(
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Check machine, build, memory, disk, port, settings and models, and tell the mends. The exit status tells."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    from rich.console import Console
    from rich.text import Text

    from server.doctor.examination import examine

    console, styles = (
        Console(soft_wrap=True, highlight=False),
        {"ok": "green", "warn": "yellow", "fail": "red"},
    )
    found = []
    for finding in examine(settings):
        found.append(finding)
        if not as_json:
            console.print(
                Text.assemble(
                    (f"{finding.status:<5}", styles[finding.status]), f"{finding.check:<15} {finding.text}"
                )
            )
            if finding.mend:
                console.print(Text(f"{'':<21}{finding.mend}", style="dim"))
    if as_json:
        print_json(found)
    if any(finding.status == "fail" for finding in found):
        raise typer.Exit(1)
