"""Files that are copied into the directory of a server that runs: bad ones are listed as failed, and harm nothing."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.server.nibble_process import ServerUnderTest

SMALL = {"NIBBLE_CONTEXT": "64", "NIBBLE_PARALLEL": "1", "NIBBLE_PRELOAD": "good", "NIBBLE_KV_BUDGET": "1MiB"}


def test_corrupt_files_are_listed_as_failed_and_the_good_one_answers_on(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    whole = write_tiny(models / "good.gguf", Tiny(template="{{ messages[0]['content'] }}")).read_bytes()
    bad = {
        "page": b"<html>please log in</html>",
        "cut": whole[:-2000],
        "damaged": whole.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"),
        "counts": whole[:8] + (2**31).to_bytes(8, "little") + whole[16:],
    }
    with (
        ServerUnderTest(tmp_path, real_engine=True, variables=SMALL) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as http,
    ):
        server.wait_until_loaded()
        # Copied as a browser or a shell would: a server may look at any moment.
        for name, content in bad.items():
            (models / f"{name}.gguf").write_bytes(content)

        def states() -> dict[str, str]:
            return {model["id"]: model["state"] for model in http.get("/v1/models").json()["data"]}

        eventually(states, lambda seen: seen.keys() >= bad.keys(), "the server has seen the files")
        assert states()["page"] == "failed", "a glance is enough"
        for name in bad:
            response = http.post("/v1/completions", json={"model": name, "prompt": "hi", "max_tokens": 1})
            error = response.json()["error"]
            assert (response.status_code >= 400, error["code"]) == (True, "model_load_failed"), (name, error)
            assert states()[name] == "failed"
            good = http.post("/v1/completions", json={"model": "good", "prompt": "hi", "max_tokens": 1})
            assert good.status_code == 200, good.text
        for name in bad:
            (models / f"{name}.gguf").unlink()
        eventually(
            states, lambda seen: not seen.keys() & bad.keys(), "the server has seen that they are gone"
        )
