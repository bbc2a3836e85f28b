"""Everything that can be set, parsed once: command line over environment over ``nibble.toml``."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, PlainValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from engine.config import EngineConfig, ToolFormatChoice
from engine.template_choice import read_template
from model_registry.config import RegistryConfig
from model_registry.model_adapter import read_model_adapter
from model_registry.model_settings import ModelSettings
from routes.request_policy import RequestPolicy
from server.keys.static_keys import VARIABLES
from server.model_tables import model_tables
from server.receipt_limits import ReceiptLimits
from server.setting_help import SETTING_HELP

FILE_NAME = "nibble.toml"
_WATCH_S = 2.0
PREFIX = "NIBBLE_"
DATA_DIR = Path("~/.local/share/nibble")


class SettingsError(Exception):
    """A setting is wrong; the message names it, where it came from, and the mend."""


def _split(value: object) -> object:
    """``a, b`` from the environment is two names; a list of the TOML file is one already."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_adapters(adapters: tuple[str, ...]) -> tuple[str, ...]:
    ids = [read_model_adapter(adapter).id for adapter in adapters]
    if twice := next((each for each in ids if ids.count(each) > 1), None):
        raise ValueError(f"'{twice}' is given twice")
    return adapters


def _expand(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str | Path) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Adapters = Annotated[Names, AfterValidator(_check_adapters)]
Location = Annotated[Path, BeforeValidator(_expand)]


class Settings(BaseSettings):
    """One field per setting; None means that the room concerned chooses, and tells what it chose."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    models_dir: Location | None = None
    data_dir: Location = DATA_DIR
    preload: Names = ()
    embed: Names = ()
    matryoshka: Names = ()
    adapters: Adapters = ()
    models: Annotated[Mapping[str, ModelSettings], NoDecode, PlainValidator(model_tables)] = {}

    context: int | None = Field(None, ge=16)
    parallel: int | None = Field(None, ge=1, le=256)
    threads: int | None = Field(None, ge=1, le=1024)
    gpu_layers: int | None = Field(None, ge=0)
    kv_budget: ByteSize | None = Field(None, ge=1)
    kv_layout: Literal["auto", "partitioned", "unified"] = "auto"
    cache_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    prefix_memory: ByteSize | None = Field(None, ge=0)
    prefix_disk: ByteSize = Field(ByteSize(0), ge=0)
    step_target_ms: float = Field(250.0, gt=0, le=60_000)
    speculation: bool = True
    draft_model: Location | None = None
    chat_template: str | None = Field(None, min_length=1)
    reasoning_format: Literal["auto", "none", "think", "magistral", "harmony"] = "auto"
    tool_format: ToolFormatChoice = "auto"
    queue_limit: int = Field(1024, ge=1)
    queue_tokens: int = Field(1_000_000, ge=1)
    key_queue_limit: int = Field(512, ge=1)
    key_queue_tokens: int = Field(500_000, ge=1)
    queue_timeout_s: float | None = Field(None, gt=0, le=86_400)
    stall_limit_s: float = Field(60.0, ge=1)
    confine_workers: bool = True
    load_timeout_s: float = Field(900.0, ge=1)

    strict: bool = True
    request_timeout_s: float = Field(600.0, gt=0)
    max_body_bytes: ByteSize = Field(ByteSize(4 * 1024 * 1024), ge=1024)
    header_timeout_s: float = Field(10.0, gt=0)
    body_timeout_s: float = Field(60.0, gt=0)
    send_timeout_s: float = Field(60.0, gt=0)
    max_header_bytes: ByteSize = Field(ByteSize(32 * 1024), ge=1024)
    ping_s: float = Field(15.0, ge=0)
    drain_s: float = Field(30.0, ge=0)

    memory_budget: ByteSize | None = Field(None, ge=1)
    keep_alive_s: float | None = Field(None, ge=0)

    allowed_hosts: Names = ()
    allowed_origins: Names = ()
    api_key_file: Location | None = None
    insecure_no_auth: bool = False

    vllm_metrics: bool = False
    traces: bool = False
    log_prompts: bool = False
    log_format: Literal["auto", "json", "pretty"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def models_path(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    def engine_template(self) -> EngineConfig:
        """The part for ``engine``; the registry fills in id and path."""
        return EngineConfig(
            model_id="",
            model_path="",
            context=self.context,
            parallel=self.parallel,
            threads=self.threads,
            gpu_layers=self.gpu_layers,
            kv_budget_bytes=_plain(self.kv_budget),
            kv_layout=self.kv_layout,
            cache_type=self.cache_type,
            flash_attention=self.flash_attention,
            prefix_memory_bytes=_plain(self.prefix_memory),
            prefix_disk_bytes=int(self.prefix_disk),
            prefix_disk_path=str(self.data_dir.absolute() / "prefixes"),
            step_target_s=self.step_target_ms / 1000,
            speculation=self.speculation,
            draft_model_path=None if self.draft_model is None else str(self.draft_model.absolute()),
            chat_template=self.chat_template,
            reasoning_format=self.reasoning_format,
            tool_format=self.tool_format,
            queue_limit=self.queue_limit,
            queue_tokens=self.queue_tokens,
            key_queue_limit=self.key_queue_limit,
            key_queue_tokens=self.key_queue_tokens,
            stall_limit_s=self.stall_limit_s,
            is_confined=self.confine_workers,
            load_limit_s=self.load_timeout_s,
        )

    def registry_config(self) -> RegistryConfig:
        """The part for ``model_registry``."""
        return RegistryConfig(
            data_dir=self.data_dir,
            # Only the default may be missing: a directory that somebody named was checked by ``check``.
            models_dir=self.models_path if self.models_dir or self.models_path.is_dir() else None,
            preload=self.preload,
            embed=self.embed,
            matryoshka=self.matryoshka,
            adapters=tuple(map(read_model_adapter, self.adapters)),
            models=self.models,
            memory_budget_bytes=_plain(self.memory_budget),
            keep_alive_s=self.keep_alive_s,
            watch_s=_WATCH_S,
            engine=self.engine_template(),
        )

    def receipt_limits(self) -> ReceiptLimits:
        """The part for the HTTP protocol."""
        return ReceiptLimits(
            self.header_timeout_s, int(self.max_header_bytes), self.body_timeout_s, self.send_timeout_s
        )

    def request_policy(self) -> RequestPolicy:
        """The part for ``routes``."""
        return RequestPolicy(
            strict=self.strict,
            max_body_bytes=self.max_body_bytes,
            request_timeout_s=self.request_timeout_s,
            queue_timeout_s=self.queue_timeout_s,
            ping_s=self.ping_s,
            body_timeout_s=self.body_timeout_s,
            send_timeout_s=self.send_timeout_s,
        )

    def check(self) -> None:
        """Raise SettingsError for settings that are well-formed and yet must not be served with."""
        if self.models_dir is not None and not self.models_dir.is_dir():
            raise SettingsError(
                f"the models directory {self.models_dir} does not exist:"
                " create it, or name another with --models-dir"
            )
        if self.prefix_disk and self.prefix_memory == 0:
            raise SettingsError(
                "prefix_disk needs prefix_memory, through which prefixes go to disk and back:"
                " set --prefix-memory above 0, or leave it out"
            )
        if self.draft_model is not None and not self.draft_model.is_file():
            raise SettingsError(
                f"the draft model {self.draft_model} is no file: name a GGUF file with --draft-model"
            )
        if self.draft_model is not None and not self.speculation:
            raise SettingsError(
                "draft_model is of no use without speculation: leave out --draft-model or --no-speculation"
            )
        if self.chat_template is not None:
            try:
                read_template(self.chat_template)
            except ValueError as error:
                raise SettingsError(f"{error}: name another with --chat-template") from None


for _name, _field in Settings.model_fields.items():
    _field.description = SETTING_HELP[_name]


def load_settings(cli: Mapping[str, object] | None = None, config: Path | None = None) -> Settings:
    """Read every source. ``cli`` holds what was given there and nothing else; ``config`` is ``--config``.

    Raises SettingsError, with one line for all that is wrong.
    """
    given = dict(cli or {})
    file = _find_file(given, config)
    from_file = _read_file(file) if file else {}

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, from_file)

    try:
        return Sourced(**given)  # type: ignore[arg-type]  # the point is to validate them
    except ValidationError as error:
        wrong = (
            _describe(item["loc"][0], item["msg"], item["input"], given, file) for item in error.errors()
        )
        raise SettingsError("; ".join(dict.fromkeys(wrong))) from None


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """One sentence for each ``NIBBLE_*`` variable that sets nothing: most likely it is misspelt."""
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    known = settings | {f"{PREFIX}CONFIG", *VARIABLES}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name.upper() not in known)
    return [f"{name} is no setting{_nearest(name, known)}" for name in unknown]


def _find_file(given: Mapping[str, object], config: Path | None) -> Path | None:
    if config is None and (named := os.environ.get(f"{PREFIX}CONFIG")):
        config = Path(named)
    if config is not None:
        if not config.expanduser().is_file():
            raise SettingsError(f"the configuration file {config} does not exist")
        return config.expanduser()
    data_dir = Path(
        str(given.get("data_dir") or os.environ.get(f"{PREFIX}DATA_DIR") or DATA_DIR)
    ).expanduser()
    candidates = (Path(FILE_NAME), data_dir / FILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    for name in values:
        if name not in Settings.model_fields:
            raise SettingsError(f"{file}: '{name}' is no setting{_nearest(name, Settings.model_fields)}")
    return values


def _nearest(name: str, known: Mapping[str, object] | set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _describe(
    name: int | str, message: str, value: object, given: Mapping[str, object], file: Path | None
) -> str:
    variable = f"{PREFIX}{str(name).upper()}"
    if name in given:
        source = f"--{str(name).replace('_', '-')}"
    elif os.environ.get(variable):
        source = variable
    else:
        source = f"{name} in {file}"
    if variable == "NIBBLE_PORT" and str(value).startswith("tcp://"):
        # Kubernetes sets this in every pod beside a service that is called nibble.
        return f"{source} was set by Kubernetes for a service called nibble: use 'enableServiceLinks: false'"
    message = message.removeprefix("Value error, ")
    return f"{source}: {message[:1].lower()}{message[1:]}, not {value!r}"


def _plain(size: ByteSize | None) -> int | None:
    """A size as the number it is: Pydantic's subclass of int cannot cross into a worker."""
    return None if size is None else int(size)
