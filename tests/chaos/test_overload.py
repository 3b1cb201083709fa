"""A crowd: as many are served as there is room for, the others are told at once."""

from pathlib import Path

import pytest

from tests.chaos.cluster import Setting, cluster
from tests.chaos.overload import onslaught


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_slots_and_queue_are_filled_and_everybody_else_is_refused(tmp_path: Path):
    settings = {"APP_PARALLEL": "2", "APP_MAX_QUEUE": "6"}
    async with cluster(Setting(tmp_path, n_backends=1, environ=settings)) as running:
        found = await onslaught(str(running.http.base_url), count=60, n_tokens=400)
    assert found.was_at_once
    assert found.statuses == {200: 8, 429: 52}
    assert all(reply.is_whole for reply in found.served)
    assert all(reply.retry_after for reply in found.refused)
    assert max(reply.told_at for reply in found.refused) < min(reply.ended_at for reply in found.served)
