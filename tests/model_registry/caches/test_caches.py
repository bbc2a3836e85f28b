"""What is found in caches that other programs have made, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.caches import found, huggingface, lmstudio, ollama
from tests.model_registry.caches import layouts

MODEL = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8)


def test_ollamas_models_are_manifests_whose_blob_is_there(tmp_path: Path) -> None:
    blob = layouts.ollama(tmp_path, "library/tiny/1b", MODEL, layouts.TEMPLATE, layouts.PARAMETERS)
    layouts.ollama(tmp_path, "someone/Own Model/latest", MODEL + b"2")
    layouts.ollama(tmp_path, "library/gone/7b", MODEL + b"3").unlink()
    layouts.ollama(tmp_path, "library/other/7b", b"no gguf")
    models = ollama.models(tmp_path)
    assert [model.name for model in models] == ["someone/Own Model:latest", "tiny:1b"]
    tiny = models[1]
    assert tiny.files == (("tiny-1b.gguf", blob),)
    assert (tiny.source, tiny.file_bytes) == ("ollama:tiny:1b", len(MODEL))
    assert tiny.notes == ("Ollama's own settings are not used: its prompt template, its sampling parameters",)
    assert models[0].files[0][0] == "Own-Model-latest.gguf"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"layers": 1}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd"}]}',
    ],
)
def test_a_manifest_that_is_damaged_or_leads_elsewhere_is_left_out(tmp_path: Path, text: bytes) -> None:
    layouts.ollama(tmp_path, "library/tiny/1b", MODEL)
    (tmp_path / "manifests/registry.ollama.ai/library/tiny/1b").write_bytes(text)
    assert ollama.models(tmp_path) == []


@settings(deadline=None)  # a loaded machine's disk has none
@given(text=st.binary(max_size=200))
def test_no_manifest_raises_anything(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    root = tmp_path_factory.mktemp("ollama")
    path = root / "manifests" / "host" / "space" / "name" / "tag"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    assert ollama.models(root) == []


def test_hugging_faces_models_are_those_of_the_main_revision(tmp_path: Path) -> None:
    home = layouts.huggingface(
        tmp_path, "owner/re--po", {"a-Q4_0.gguf": MODEL, "mmproj-a.gguf": MODEL, "readme.md": b""}
    )
    layouts.huggingface(tmp_path, "owner/re--po", {"old.gguf": MODEL}, revision="older")
    (home / "refs" / "main").write_text("abc123")
    (home / "blobs" / "x.incomplete").write_bytes(b"half")
    parts = {f"q/big-0000{number}-of-00002.gguf": MODEL for number in (1, 2)}
    layouts.huggingface(tmp_path, "owner/big", parts)
    layouts.huggingface(tmp_path, "owner/half", dict([*parts.items()][:1]))
    models = huggingface.models(tmp_path)
    assert [model.name for model in models] == ["owner/big:q/big", "owner/re--po:a-Q4_0"]
    assert [name for name, _ in models[0].files] == ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"]
    assert all(path.parent == tmp_path / "models--owner--big" / "blobs" for _, path in models[0].files)
    assert models[1].source == "hf:owner/re--po:a-Q4_0"


@pytest.mark.parametrize("reference", [None, "gone", "../../..", "\xff"])
def test_without_a_reference_it_is_the_revision_fetched_last(tmp_path: Path, reference: str | None) -> None:
    home = layouts.huggingface(tmp_path, "o/r", {"a.gguf": MODEL})
    main = home / "refs" / "main"
    if reference is None:
        main.unlink()
    else:
        main.write_text(reference, encoding="latin-1")
    assert [model.name for model in huggingface.models(tmp_path)] == ["o/r:a"]


def test_a_blob_that_is_gone_is_no_model(tmp_path: Path) -> None:
    home = layouts.huggingface(tmp_path, "o/r", {"a.gguf": MODEL})
    next((home / "blobs").iterdir()).unlink()
    assert huggingface.models(tmp_path) == []


def test_lm_studios_models_are_files_by_publisher(tmp_path: Path) -> None:
    home = layouts.lmstudio(tmp_path, "publisher/Tiny-GGUF", {"tiny-Q4_0.gguf": MODEL, "tiny.part": b""})
    (model,) = lmstudio.models(tmp_path)
    assert model.name == "publisher/Tiny-GGUF/tiny-Q4_0"
    assert model.files == (("tiny-Q4_0.gguf", home / "tiny-Q4_0.gguf"),)
    assert model.source == "lmstudio:publisher/Tiny-GGUF"


def test_the_places_are_those_of_the_programs(tmp_path: Path) -> None:
    assert ollama.roots({"OLLAMA_MODELS": "/m"}) == [Path("/m")]
    assert ollama.roots({})[0].parts[-2:] == (".ollama", "models")
    assert huggingface.roots({"HF_HUB_CACHE": "/c"}) == [Path("/c")]
    assert huggingface.roots({"HF_HOME": "/h"}) == [Path("/h/hub")]
    assert huggingface.roots({"XDG_CACHE_HOME": "/x"}) == [Path("/x/huggingface/hub")]
    assert huggingface.roots({})[0].parts[-3:] == (".cache", "huggingface", "hub")
    (tmp_path / ".lmstudio-home-pointer").write_text("/elsewhere\n")
    assert lmstudio.roots(tmp_path)[0] == Path("/elsewhere/models")


def test_a_cache_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    for module in (ollama, lmstudio, huggingface):
        assert module.models(tmp_path / "none") == []


def test_a_part_of_a_name_is_enough_where_it_means_one(tmp_path: Path) -> None:
    for name in ("tiny/1b", "tiny/latest", "other/7b"):
        layouts.ollama(tmp_path, f"library/{name}", MODEL)
    models = ollama.models(tmp_path)
    assert found.named(models, "other").name == "other:7b"
    assert found.named(models, "Tiny").name == "tiny:latest"
    assert found.named(models, "tiny:1b").name == "tiny:1b"
    with pytest.raises(LookupError, match="means several: tiny:1b, tiny:latest"):
        found.named(models, "tin")
    with pytest.raises(LookupError, match="the nearest: other:7b"):
        found.named(models, "othr")
