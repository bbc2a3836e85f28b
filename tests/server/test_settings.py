from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from generation.events import Usage
from model_registry.model_settings import ModelSettings
from server.access import idle_word, open_keyring
from server.setting_help import SETTING_HELP
from server.settings import Settings, SettingsError, load_settings, unknown_variables


def nothing(key: str, model: str, usage: Usage) -> None:
    """A ledger of a test that uses nothing."""


def test_defaults_are_those_of_the_design(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIBBLE_DATA_DIR")
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.data_dir == Path("~/.local/share/nibble").expanduser()
    assert (settings.request_timeout_s, settings.max_body_bytes, settings.drain_s) == (600, 4 << 20, 30)
    assert settings.strict
    settings.check()


def test_every_setting_has_a_help_text_and_no_text_is_left_over() -> None:
    assert SETTING_HELP.keys() == Settings.model_fields.keys()
    assert all(field.description for field in Settings.model_fields.values())


def test_command_line_over_environment_over_file_over_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "nibble.toml").write_text("port = 1001\nparallel = 3\ncontext = 1024\nping_s = 5\n")
    monkeypatch.setenv("NIBBLE_PORT", "1002")
    monkeypatch.setenv("NIBBLE_PARALLEL", "4")
    settings = load_settings({"port": 1003})
    assert (settings.port, settings.parallel, settings.context, settings.drain_s) == (1003, 4, 1024, 30)


def test_the_file_is_looked_for_where_it_may_be(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "nibble.toml").write_text("port = 1\n")
    assert load_settings().port == 1
    (home / "nibble.toml").write_text("port = 2\n")
    assert load_settings().port == 2
    (tmp_path / "other.toml").write_text("port = 3\n")
    assert load_settings(config=tmp_path / "other.toml").port == 3
    monkeypatch.setenv("NIBBLE_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().port == 3
    (home / "nibble.toml").unlink()
    monkeypatch.delenv("NIBBLE_CONFIG")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "nibble.toml").write_text("port = 4\n")
    assert load_settings({"data_dir": tmp_path / "elsewhere"}).port == 4


def test_a_named_file_must_exist(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.toml does not exist"):
        load_settings(config=home / "nothing.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contxt = 5", "'contxt' is no setting (did you mean 'context'?)"),
        ("[modles]\nx = 1", "'modles' is no setting (did you mean 'models'?)"),
        ("[models]\nx = 1", "models in nibble.toml: [models.x] must be a table"),
        ("[models.x]\ncontxt = 1", "[models.x] 'contxt' is no setting of a model (did you mean 'context'?)"),
        ("[models.x]\ncontext = 1", "[models.x] context must be a whole number from 16 up"),
        ("[models.x]\nkv_budget = 'much'", "[models.x] kv_budget must be a size, such as 2GiB"),
        ("[models.x]\ncache_type = 'f8'", "[models.x] cache_type must be one of f16, q4_0, q8_0"),
        ("port = = 1", "cannot be read"),
        ("port = 'many'", "port in nibble.toml: input should be a valid integer"),
        (
            "log_format = 'xml'",
            "log_format in nibble.toml: input should be 'auto', 'json' or 'pretty', not 'xml'",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named(home: Path, text: str, message: str) -> None:
    (home / "nibble.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_elsewhere_is_named_by_its_source(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_QUEUE_LIMIT", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings({"port": 70000, "kv_budget": "lots"})
    lines = str(caught.value).split("; ")
    assert lines == [
        "--port: input should be less than or equal to 65535, not 70000",
        "--kv-budget: could not parse value and unit from byte string, not 'lots'",
        "NIBBLE_QUEUE_LIMIT: input should be greater than or equal to 1, not '0'",
    ]


def test_what_kubernetes_sets_by_itself_is_recognised(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_PORT", "tcp://10.0.0.1:8000")
    with pytest.raises(SettingsError, match="enableServiceLinks"):
        load_settings()


@pytest.mark.parametrize("number", ["nan", "inf", "-1"])
def test_a_time_is_a_number_of_seconds(home: Path, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_REQUEST_TIMEOUT_S", number)
    with pytest.raises(SettingsError, match="NIBBLE_REQUEST_TIMEOUT_S"):
        load_settings()


def test_sizes_and_lists_have_their_usual_forms(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_KV_BUDGET", "2GiB")
    monkeypatch.setenv("NIBBLE_PRELOAD", "a, b")
    monkeypatch.setenv("NIBBLE_CONTEXT", "")
    settings = load_settings({"allowed_hosts": ["nibble.lan"]})
    assert settings.kv_budget == 2 << 30
    assert settings.preload == ("a", "b")
    assert settings.allowed_hosts == ("nibble.lan",)
    assert settings.context is None, "an empty variable is none"
    (home / "nibble.toml").write_text("allowed_origins = ['http://a', 'http://b']\n")
    assert load_settings().allowed_origins == ("http://a", "http://b")


def test_every_setting_of_the_engine_arrives_there(home: Path) -> None:
    settings = load_settings(
        {
            "context": 512,
            "parallel": 2,
            "threads": 3,
            "gpu_layers": 4,
            "kv_budget": "1MiB",
            "kv_layout": "unified",
            "cache_type": "q8_0",
            "flash_attention": "on",
            "prefix_memory": "2MiB",
            "prefix_disk": "3MiB",
            "step_target_ms": 125,
            "queue_limit": 6,
            "stall_limit_s": 7,
        }
    )
    template = settings.engine_template()
    assert (template.context, template.parallel, template.threads, template.gpu_layers) == (512, 2, 3, 4)
    assert (template.kv_budget_bytes, template.step_target_s) == (1 << 20, 0.125)
    assert (template.queue_limit, template.stall_limit_s) == (6, 7)
    assert (template.kv_layout, template.cache_type, template.flash_attention) == ("unified", "q8_0", "on")
    assert template.prefix_memory_bytes == 2 << 20
    assert template.prefix_disk_bytes == 3 << 20
    assert Path(template.prefix_disk_path) == settings.data_dir / "prefixes"


def test_prefixes_on_disk_are_off_unless_asked_for_and_need_memory(home: Path) -> None:
    assert load_settings().engine_template().prefix_disk_bytes == 0
    with pytest.raises(SettingsError, match="prefix_disk needs prefix_memory"):
        load_settings({"prefix_disk": "1GiB", "prefix_memory": "0"}).check()
    load_settings({"prefix_disk": "1GiB"}).check()


def test_a_draft_model_is_a_file_and_needs_speculation(home: Path) -> None:
    assert load_settings().engine_template().draft_model_path is None
    with pytest.raises(SettingsError, match="is no file: name a GGUF file with --draft-model"):
        load_settings({"draft_model": home / "gone.gguf"}).check()
    file = home / "draft.gguf"
    file.touch()
    with pytest.raises(SettingsError, match="no use without speculation"):
        load_settings({"draft_model": file, "speculation": False}).check()
    settings = load_settings({"draft_model": "draft.gguf"})
    settings.check()
    assert settings.engine_template().draft_model_path == str(file.absolute())


def test_every_setting_of_the_routes_arrives_there(home: Path) -> None:
    given = {"strict": False, "max_body_bytes": "1MB", "request_timeout_s": 5, "ping_s": 2}
    policy = load_settings(given | {"body_timeout_s": 3, "send_timeout_s": 4}).request_policy()
    assert (policy.body_timeout_s, policy.send_timeout_s) == (3, 4)
    assert (policy.strict, policy.max_body_bytes, policy.request_timeout_s, policy.ping_s) == (
        False,
        10**6,
        5,
        2,
    )


def test_the_registry_gets_a_directory_that_was_named_or_the_default_where_it_exists(
    home: Path, tmp_path: Path
) -> None:
    assert load_settings().registry_config().models_dir is None
    (tmp_path / "data" / "models").mkdir(parents=True)
    assert load_settings().registry_config().models_dir == tmp_path / "data" / "models"
    given = {"models_dir": tmp_path, "preload": ["x"]}
    config = load_settings(given).registry_config()
    assert (config.models_dir, config.preload) == (tmp_path, ("x",))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "nibble.example.com"])
def test_listening_to_others_without_keys_has_to_be_asked_for(home: Path, host: str) -> None:
    with pytest.raises(
        SettingsError, match=f"not listening on {host}.*nibble key create.*--insecure-no-auth"
    ):
        open_keyring(load_settings({"host": host}), nothing)
    assert open_keyring(load_settings({"host": host, "insecure_no_auth": True}), nothing).is_open


def test_a_key_opens_other_addresses_and_counts_above_the_word(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not refused: whoever makes a key while the server runs would find that it does not start again."""
    settings = load_settings({"host": "0.0.0.0", "insecure_no_auth": True})
    assert idle_word(settings, open_keyring(settings, nothing)) is None
    monkeypatch.setenv("NIBBLE_API_KEY", "a-key-of-the-operator")
    keyring = open_keyring(settings, nothing)
    assert not keyring.is_open
    assert "leave it out" in str(idle_word(settings, keyring))
    settings = load_settings({"host": "0.0.0.0"})
    keyring = open_keyring(settings, nothing)
    assert not keyring.is_open
    assert idle_word(settings, keyring) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a b]\n", "cannot be read"),
        ("['a b']\nkey = '0123456789abcdef'\n", "a name has letters"),
        ("a = 1\n", "must be a table"),
        ("[a]\n", "either 'key' or 'sha256'"),
        ("[a]\nkey = 'short'\n", "16 characters"),
        ("[a]\nkey = 7\n", "Expected `str"),
        ("[a]\nsha256 = 'zz'\n", "64 hex digits"),
        ("[a]\nkey = '0123456789abcdef'\nscope = ['admin']\n", "'scope' is no field"),
        ("[a]\nkey = '0123456789abcdef'\nscopes = ['root']\n", "Invalid enum value"),
        ("[a]\nkey = '0123456789abcdef'\nscopes = []\n", "scopes must name"),
        ("[a]\nkey = '0123456789abcdef'\nqueued = 3\n", "queued needs concurrent"),
        ("[a]\nkey = '0123456789abcdef'\nconcurrent = 0\n", "concurrent must be 1 or more"),
        ("[a]\nkey = '0123456789abcdef'\npriority = 101\n", "priority must be from -100 to 100"),
        ("[a]\nkey = '0123456789abcdef'\n[b]\nkey = '0123456789abcdef'\n", "are the same"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_told_without_its_keys(
    home: Path, text: str, words: str
) -> None:
    file = home / "keys.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words) as told:
        open_keyring(load_settings({"api_key_file": file}), nothing)
    assert "0123456789abcdef" not in str(told.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_word(home: Path, host: str) -> None:
    assert open_keyring(load_settings({"host": host}), nothing).is_open


def test_a_named_models_directory_must_exist(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"models directory \S+none does not exist: create it"):
        load_settings({"models_dir": home / "none"}).check()


def test_misspelt_variables_are_noticed() -> None:
    environ = {"NIBBLE_PROT": "1", "NIBBLE_PORT": "2", "NIBBLE_CONFIG": "x", "PATH": "y"}
    assert unknown_variables(environ) == ["NIBBLE_PROT is no setting (did you mean 'NIBBLE_PORT'?)"]


def test_what_the_engine_is_told_can_cross_into_a_worker(home: Path) -> None:
    settings = load_settings({"kv_budget": "1GiB", "prefix_memory": "0"})
    template = settings.engine_template()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(template), type=EngineConfig) == template
    assert (template.kv_budget_bytes, template.prefix_memory_bytes) == (2**30, 0)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["tiny=poet.gguf"], "is not MODEL:NAME=PATH"),
        (["tiny:po/et=poet.gguf"], "no name for an adapter"),
        (["tiny:poet=a.gguf", "tiny:poet=b.gguf"], "'tiny:poet' is given twice"),
    ],
)
def test_adapters_that_name_nothing_are_refused(given: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load_settings({"adapters": given})


def test_adapters_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_ADAPTERS", "tiny:poet=/a.gguf, other:clerk=/b.gguf")
    assert [each.id for each in load_settings().registry_config().adapters] == ["tiny:poet", "other:clerk"]


def test_single_models_have_settings_of_their_own(home: Path) -> None:
    text = "[models.Tiny]\ncontext = 256\nkv_budget = '1MiB'\n[models.\"a.b\"]\nembed = true\n"
    (home / "nibble.toml").write_text(text)
    models = load_settings().registry_config().models
    assert models == {"tiny": ModelSettings(context=256, kv_budget=2**20), "a.b": ModelSettings(embed=True)}


def test_single_models_are_set_in_the_file_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_MODELS", "tiny")
    with pytest.raises(SettingsError, match=r"NIBBLE_MODELS: are tables of nibble\.toml"):
        load_settings()
