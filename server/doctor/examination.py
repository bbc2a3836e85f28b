"""All checks, in the order in which a person would mend what they find."""

from __future__ import annotations

from collections.abc import Iterator

from server.doctor.build import check_loading, check_processor, examine_build
from server.doctor.configuration import check_models, check_settings
from server.doctor.finding import Finding
from server.doctor.machine import check_files, check_machine, check_memory
from server.doctor.places import check_data_directory, check_disk, check_port
from server.settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """Each finding as it is made."""
    yield check_machine()
    built = examine_build()
    yield check_loading(built)
    yield check_processor(built)
    yield check_memory(settings)
    yield check_files()
    yield check_disk(settings)
    yield check_data_directory(settings)
    yield check_settings(settings)
    yield check_port(settings)
    yield check_models(settings)
