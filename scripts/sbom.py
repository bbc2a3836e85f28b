"""Writes build/nibble.cdx.json: what a running Nibble consists of, as a CycloneDX document. `make sbom`.

From the locks that the image is made of, so that it is the same on every machine, with the hashes of what may be
installed. Licences are added from the installed packages; that nothing is missing is checked.
"""

import json
import subprocess
import sys
from pathlib import Path

import licences

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / ".cache" / "audit" / "bin" / "cyclonedx-py"
TARGET = ROOT / "build" / "nibble.cdx.json"


def main() -> int:
    locks = (ROOT / "requirements" / f"{name}.txt" for name in licences.LOCKS)
    arguments = ["requirements", "--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    made = subprocess.run(
        [TOOL, *arguments, "--output-reproducible", "--output-format", "JSON", "-"],
        input="\n".join(lock.read_text() for lock in locks),
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        print(f"cyclonedx-py failed: {made.stderr.strip()}", file=sys.stderr)
        return 1
    document = json.loads(made.stdout)
    told: dict[str, set[str]] = {}
    for component in document["components"]:
        told.setdefault(component["name"].lower(), set()).add(component["version"])
        component.pop("description", None)  # the line of the lock once more
        if component["name"].lower() in dict(licences.pins()):
            component["licenses"] = [{"expression": licences.licence_of(component["name"])}]
    if missing := [name for name, versions in licences.pins() if not versions <= told.get(name, set())]:
        print(f"not in the document: {', '.join(missing)}", file=sys.stderr)
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{TARGET.relative_to(ROOT)}: {len(document['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
