"""The dashboard over a real cluster: a worker is killed, the page shows it, and the answer goes on."""

import asyncio
import json
import re
import signal
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.async_api import expect

from tests.browser.stage import page_at, shoot
from tests.engine.cluster import Cluster, demo

pytestmark = [pytest.mark.browser, pytest.mark.engine]
PROMPT = "Once upon a time"


@pytest.fixture
def cluster(tmp_path: Path):
    """Run three workers over links that are slow enough for an answer to be met in its middle."""
    with demo(tmp_path, "--latency-min", "0.005", "--latency-max", "0.005", backends=3, APP_EXACT="true") as running:
        yield running


def worker_of(address: str) -> psutil.Process:
    """Return the worker behind an address: its agent knows it."""
    host, port = address.split(":")
    status = httpx.get(f"http://{host}:{int(port) + 1}/status", trust_env=False).json()
    return psutil.Process(status["pid"])


async def test_a_killed_worker_turns_red_then_green_while_the_answer_goes_on(cluster: Cluster):
    async with page_at(cluster.url) as page:
        await page.get_by_text("Options").click()
        await page.get_by_label("Max tokens").fill("200")
        await page.get_by_label("Temperature").fill("0")
        await page.keyboard.press("Escape")
        await page.get_by_label("Message").fill(PROMPT)
        await page.keyboard.press("Enter")
        await expect(page.locator(".theirs .text")).not_to_be_empty()
        await page.locator('.tabs a[href="#cluster"]').click()
        card = page.locator(".backend").nth(1)
        await expect(card).to_have_attribute("data-state", "up")
        address = await card.get_attribute("data-key")
        assert address is not None
        watching = asyncio.ensure_future(
            page.evaluate(
                """(card) => new Promise((resolve) => {
                 const states = [card.dataset.state];
                 new MutationObserver(() => {
                   if (states.at(-1) !== card.dataset.state) states.push(card.dataset.state);
                   if (states.length > 1 && card.dataset.state === "up") resolve(states);
                 }).observe(card, { attributes: true });
               })""",
                await card.element_handle(),
            )
        )
        worker_of(address).send_signal(signal.SIGKILL)
        await shoot(page, "real-cluster-after-the-kill")
        states = await watching
        assert states[0] == states[-1] == "up"
        assert {"down", "starting"} & set(states), states
        await page.locator('.tabs a[href="#chat"]').click()
        await expect(page.locator(".stats [data-fact=Resumed] dd")).to_have_text(re.compile("once|times"))
        await expect(page.locator(".stats [data-fact=Delay] dd")).not_to_have_text("0 s")
        shown = await page.locator(".theirs .text").inner_text()
        await shoot(page, "real-chat-resumed")
        await page.locator('.tabs a[href="#events"]').click()
        await expect(page.locator(".incident[data-mood=healed]", has_text=address).first).to_be_visible()
        await shoot(page, "real-events")
        await page.locator('.tabs a[href="#plan"]').click()
        await expect(page.locator(".strategy")).to_have_count(6)
        await shoot(page, "real-plan")
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 200, "temperature": 0}
    whole = cluster.post("/v1/chat/completions", body).json()
    text = whole["choices"][0]["message"]["content"]
    assert "".join(shown.split()) == "".join(text.split()), json.dumps([shown, text])


async def test_a_page_that_comes_late_sees_the_machines(cluster: Cluster):
    async with page_at(f"{cluster.url}/#cluster") as page:
        await expect(page.locator(".backend[data-state=up]")).to_have_count(3)
        await expect(page.locator("#cluster-table tbody tr").first).to_contain_text("MiB")
        await expect(page.locator(".server")).to_contain_text("CPU")
        await expect(page.locator(".state h2")).to_have_text("Ready")
