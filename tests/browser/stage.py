"""A real gateway over a fake engine, and a real Chromium in front of it."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from rpc_wrapper.gateway import GatewayConfig, create_app
from tests.browser import snapshots
from tests.gateway.serve import FakeUpstream, engine, running

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SHOTS = Path(os.environ.get("RPCW_SCREENSHOTS", "/tmp/rpc-wrapper-screenshots"))
DEADLINE_MS = 30_000
WIDTHS = {"wide": (1280, 860), "phone": (390, 844)}


expect.set_options(timeout=DEADLINE_MS)


def chromium() -> str:
    """Return the browser of the distribution; fail with what to install when there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "the browser tests need Chromium: install it (Debian: apt install chromium)"
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run a headless browser for the length of the context."""
    async with async_playwright() as playwright:
        # Containers and root have no user namespaces for Chromium's own sandbox; the pages are all ours.
        running_browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield running_browser
        await running_browser.close()


@asynccontextmanager
async def page_at(url: str, *, width: str = "wide", scheme: str = "light") -> AsyncIterator[Page]:
    """Open a page in a browser of its own; fail at its end when a script failed or the policy was broken."""
    complaints: list[str] = []
    size = {"width": WIDTHS[width][0], "height": WIDTHS[width][1]}
    async with browser() as running_browser:
        context = await running_browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        page = await context.new_page()
        page.set_default_timeout(DEADLINE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if _is_breach(message.text) else None)
        await page.goto(url)
        yield page
        await context.close()
    assert complaints == []


def _is_breach(text: str) -> bool:
    return "Content Security Policy" in text or "Trusted" in text


class Stage(FakeUpstream):
    """A cluster that shows whatever a test wants the page to show."""

    shown: dict[str, Any]

    def snapshot(self) -> dict[str, Any]:
        return self.shown | self.sections

    async def observe(self) -> None:
        await super().observe()
        self.shown |= {"nodes": [{**node, "cpu_s": node["cpu_s"] + 0.5} for node in self.shown["nodes"]]}

    async def strategies(self) -> dict[str, Any]:
        return snapshots.strategies(self.shown)


@asynccontextmanager
async def staged(
    *engine_flags: str, shown: dict[str, Any] | None = None, config: GatewayConfig | None = None
) -> AsyncIterator[tuple[str, Stage]]:
    """Serve the dashboard of a staged cluster; yield its URL and the stage."""
    async with engine(*engine_flags) as behind:
        stage = Stage(behind.target)
        stage.shown = shown or snapshots.cluster()
        async with running(create_app(config or GatewayConfig(), stage)) as url:
            yield url, stage


async def shoot(page: Page, name: str) -> None:
    """Keep a picture of the page as an artefact of the test run."""
    await page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
