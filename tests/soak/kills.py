"""A hundred workers killed at random moments under load: their streams are told, all others go on, the sums are true.

A model whose worker dies five times in ten minutes stays down (``engine.restart_policy``). So each model is killed
four times, and at the end one of them a fifth time, to see that it does stay down.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from engine.restart_policy import BREAKER_DEATHS
from tests.end_to_end.patience import PATIENCE_S
from tests.soak.alphabet import Alphabet
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet
from tests.soak.health_watch import HealthWatch
from tests.soak.load import PROMPT_TOKENS, Load, Sung

_TOKENS = 120
_WIDTH = 3
_MODELS = 5
_KILLS_A_MODEL = BREAKER_DEATHS - 1
_FAILURES = ("worker_died", "model_unavailable")
WORD_GOAL_S = 1.0


@dataclass(slots=True)
class _Kill:
    model: str
    at_s: float
    sung: list[Sung] = field(default_factory=list)
    """The streams that it ended."""


def soak_kills(home: Path, *, count: int = 100, seed: int = 0, with_breaker: bool = True) -> Finding:
    finding = Finding("kills")
    choose = random.Random(seed)
    kills: list[_Kill] = []
    counts: Counter[str] = Counter()
    health_ms: list[float] = []
    fleets = hunted = 0
    while len(kills) < count:
        wanted = min(_MODELS * _KILLS_A_MODEL, count - len(kills))
        models = -(-wanted // _KILLS_A_MODEL) + 1  # one that is left alone
        place = home / f"fleet{fleets}"
        fleets += 1
        with Fleet(place, "--parallel", "4", "--threads", "1", tiny=models) as fleet:
            fleet.ready_all()
            hunt = _Hunt(fleet, finding, choose)
            asyncio.run(hunt.run(wanted))
            kills += hunt.kills
            hunted += models - 1
            counts += hunt.counts
            health_ms.append(hunt.health_ms)
            hunt.check_sums()
            if with_breaker and len(kills) >= count:
                hunt.check_breaker()
    words_s = [one.told.ended_s - kill.at_s for kill in kills for one in kill.sung]
    finding.expect_time(
        max(words_s, default=0) < WORD_GOAL_S, f"a stream was told after {max(words_s, default=0):.2f} s"
    )
    finding.figures = {
        "workers killed": f"{len(kills)}, of {hunted} models on {fleets} servers, at random moments",
        "streams": f"{dict(counts)}",
        "streams that were running": f"{len(words_s)}, told within {1e3 * max(words_s, default=0):.0f} ms, "
        f"half of them within {1e3 * sorted(words_s)[len(words_s) // 2] if words_s else 0:.0f} ms",
        "/health": f"99th percentile {max(health_ms):.0f} ms on the worst server",
        **finding.figures,
    }
    return finding


class _Hunt:
    """Kills the workers of one fleet but the last model's. Owned by the thread of the soak."""

    def __init__(self, fleet: Fleet, finding: Finding, choose: random.Random) -> None:
        self._fleet = fleet
        self._finding = finding
        self._choose = choose
        self._load = Load(fleet, {model: Alphabet(fleet, model) for model in fleet.models}, _TOKENS, _WIDTH)
        self._before = self._ledger()
        self.kills: list[_Kill] = []
        self.counts: Counter[str] = Counter()
        self.health_ms = 0.0

    async def run(self, count: int) -> None:
        with HealthWatch(self._fleet.port) as health:
            await self._run(count)
        self.health_ms = health.percentile_ms(99)
        self._finding.add_faults("health", health.faults)
        self._check_streams()

    async def _run(self, count: int) -> None:
        async with self._load.running():
            shares = [count // (len(self._fleet.models) - 1)] * (len(self._fleet.models) - 1)
            for index in range(count - sum(shares)):
                shares[index] += 1
            await asyncio.gather(
                *(self._kill(model, share) for model, share in zip(self._fleet.models, shares, strict=False))
            )
            await asyncio.gather(*(self._answers(model) for model in self._fleet.models))

    async def _kill(self, model: str, times: int) -> None:
        for _ in range(times):
            await self._answers(model)
            await asyncio.sleep(self._choose.random() * 0.6)
            pid = await asyncio.to_thread(self._fleet.worker, model)
            if pid is None:
                self._finding.faults.append(f"{model} has no worker right after an answer")
                return
            self.kills.append(_Kill(model, time.monotonic()))
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.3)

    async def _answers(self, model: str) -> None:
        """Wait until a stream that began after now has come to its end."""
        began_s = time.monotonic()
        while not any(one.told.is_whole and one.told.began_s > began_s for one in self._load.of(model)[-20:]):
            if time.monotonic() - began_s > PATIENCE_S:
                self._finding.faults.append(f"{model} does not answer again")
                return
            await asyncio.sleep(0.02)

    def _check_streams(self) -> None:
        spared = self._fleet.models[-1]
        faults: list[str] = []
        for one in self._load.sung:
            may_fail = () if one.model == spared else _FAILURES
            faults.append(one.told.fault(one.voice, _TOKENS, may_fail=may_fail))
            self.counts["whole" if one.told.is_whole else str(one.told.error)] += 1
            if one.told.error == "worker_died":
                # The last before its end: what was sent just after it, before anybody had noticed, died of it too.
                cause = [
                    kill for kill in self.kills if kill.model == one.model and kill.at_s <= one.told.ended_s
                ]
                if cause and one.told.began_s - cause[-1].at_s < WORD_GOAL_S:
                    cause[-1].sung.append(one)
                else:
                    faults.append("died unkilled")
            if one.told.error == "model_unavailable" and one.told.status == 503 and not one.told.retry_after:
                faults.append("503 without Retry-After")
        self._finding.add_faults("stream", faults)

    def check_sums(self) -> None:
        """Metrics and ledger say what the clients were told: a letter is a token."""
        figures = self._fleet.figures()
        restarts = figures("nibble_worker_restarts_total")
        died = self.counts["worker_died"]
        self._finding.expect(restarts == len(self.kills), f"{restarts} restarts of {len(self.kills)} kills")
        errors = figures("nibble_request_errors_total", code="worker_died")
        self._finding.expect(errors == died, f"metrics tell of {errors} deaths, clients of {died}")
        self._fleet.wait_until_idle()
        for model in self._fleet.models:
            told = [one.told for one in self._load.of(model) if one.told.status == 200]
            tokens = sum(len(one.text) for one in told)
            prompts = PROMPT_TOKENS * len(told)
            entered = self._ledger()[model]
            before = self._before[model]
            seen = (entered[0] - before[0], entered[1] - before[1], entered[2] - before[2])
            self._finding.expect(
                seen == (len(told), prompts, tokens),
                f"the ledger of {model} has {seen}, the clients {(len(told), prompts, tokens)} "
                "(requests, prompt and completion tokens)",
            )

    def _ledger(self) -> dict[str, tuple[int, int, int]]:
        rows = self._fleet.ask_as_admin("/admin/v1/usage")["data"]
        return {
            row["model"]: (row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in rows
        }

    def check_breaker(self) -> None:
        """The fifth death is the last: the model is down and says so, and everybody else goes on."""
        model = self._fleet.models[0]
        deaths = sum(kill.model == model for kill in self.kills)
        for _ in range(BREAKER_DEATHS - deaths):
            pid = self._fleet.worker(model)
            while pid is None:
                time.sleep(0.1)
                pid = self._fleet.worker(model)
            os.kill(pid, signal.SIGKILL)
            while self._fleet.worker(model) == pid:
                time.sleep(0.02)
        time.sleep(2.0)
        answer = self._fleet.post("/v1/completions", {"model": model, "prompt": "1", "max_tokens": 1})
        code = answer.json()["error"]["code"] if answer.status_code != 200 else "none"
        self._finding.expect(self._fleet.worker(model) is None, "the breaker was passed over")
        self._finding.expect(code == "model_load_failed", f"a model that stays down answers with {code}")
        self._finding.expect(
            self._fleet.one_answer(self._fleet.models[-1]) == 200, "the others do not answer"
        )
        self._finding.figures["after a fifth death"] = (
            f"it stays down ({answer.status_code} {code}), others answer"
        )
