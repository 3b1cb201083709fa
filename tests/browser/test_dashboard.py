"""The dashboard as its users meet it, in a real browser."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, Request, expect

from rpc_wrapper.gateway import GatewayConfig, Target, create_app
from tests.browser import snapshots
from tests.browser.snapshots import MIB
from tests.browser.stage import Stage, page_at, shoot, staged
from tests.gateway.serve import running

pytestmark = pytest.mark.browser
VIEWS = ("chat", "cluster", "events", "plan")
MOST_BYTES = 150_000
FINDINGS = """() => {
  const found = [];
  const named = (element) => element.getAttribute("aria-label") || element.textContent.trim() || element.title
    || (element.getAttribute("aria-labelledby") || "").split(" ").some((id) => document.getElementById(id)?.textContent)
    || element.labels?.length;
  for (const each of document.querySelectorAll("a, button, input, textarea, dialog, section, summary, nav, aside"))
    if (!named(each)) found.push("no name: " + each.outerHTML.slice(0, 80));
  for (const each of document.querySelectorAll("svg"))
    if (!each.closest("[aria-hidden]") && !each.getAttribute("aria-label")) found.push("svg without a name");
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  for (const id of ids) if (ids.filter((each) => each === id).length > 1) found.push("id twice: " + id);
  if (!document.documentElement.lang) found.push("no language");
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) found.push("scrolls sideways");
  return found;
}"""
# The contrast of every visible text with what lies behind it, as WCAG 2.2 computes it (1.4.3).
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { for (let each = element; each; each = each.parentElement) {
    const colour = rgba(getComputedStyle(each).backgroundColor); if (colour[3] > 250) return colour; }
    return [255, 255, 255]; };
  const found = [];
  for (const each of document.querySelectorAll("body *")) {
    const text = [...each.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    const box = each.getBoundingClientRect();
    const unseen = each.closest("svg, noscript, .skip, .only-heard, .said") || !box.width || !each.checkVisibility();
    if (!text || unseen) continue;
    const [one, other] = [light(rgba(getComputedStyle(each).color)), light(behind(each))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(ratio.toFixed(2) + " " + text.slice(0, 40));
  }
  return found;
}"""


@asynccontextmanager
async def opened(*flags: str, shown: dict[str, Any] | None = None, **look: str) -> AsyncIterator[tuple[Page, Stage]]:
    """Open the dashboard of a staged cluster and wait until it knows the cluster."""
    async with staged(*flags, shown=shown) as (url, stage), page_at(url, **look) as page:
        await expect(page.locator("#status")).to_have_attribute("data-state", "ready")
        yield page, stage


async def ask(page: Page, text: str) -> None:
    """Type a message and send it."""
    await page.get_by_label("Message").fill(text)
    await page.keyboard.press("Enter")


async def answer_with(page: Page, *pieces: str, **extra: Any) -> None:
    """Have the next answer be these pieces, as llama-server would stream them."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"choices": [], "usage": {"completion_tokens": len(pieces)}, **extra})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    await page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))


async def test_a_link_says_what_its_commands_took_and_what_was_in_the_cache():
    async with opened() as (page, _):
        await page.get_by_role("link", name="Cluster").click()
        links = page.locator("#links")
        await expect(links.get_by_role("table")).to_have_count(0)
        await links.locator("summary").click()
        await expect(links.get_by_role("table")).to_have_count(3)
        first = links.locator("section").first
        await expect(first).to_contain_text("weights: 175 MiB sent, 525 MiB found in its cache (75 %)")
        longest = first.get_by_role("row").nth(1)
        assert await longest.locator("th, td").all_inner_texts() == [
            "GRAPH_COMPUTE",
            "640",
            "20 MiB",
            "3.20 s",
            "5.0 ms",
        ]


async def test_the_chat_answers_and_says_what_it_cost():
    async with opened() as (page, _):
        await ask(page, "Tell me a story")
        figures = page.locator(".stats")
        await expect(figures).to_be_visible()
        await expect(figures.locator("[data-fact=Tokens] dd")).to_have_text("256")
        for name in ("TTFT", "Total", "Speed", "Delay", "Resumed"):
            await expect(figures.locator(f"[data-fact={name}] dd")).not_to_be_empty()
        await figures.locator("summary").click()
        await expect(figures.locator("tbody tr")).to_have_count(4)
        await expect(figures.locator("tbody tr").first).to_contain_text("server")
        await shoot(page, "chat-answer")


async def test_the_panel_beside_the_chat_says_how_every_machine_is():
    async with opened() as (page, stage):
        panel, count = page.locator("#now"), page.locator("#now-count")
        await expect(count).to_have_text("3 of 3 backends up")
        await expect(panel.locator("li")).to_have_count(4)
        await expect(panel).to_contain_text("rpc-wrapper demo")
        rows = [snapshots.node("server"), *(snapshots.node(name) for name in stage.shown["listed"])]
        rows[1] |= {"gpus": [snapshots.gpu(0.43, 5222)]}
        rows[2] = snapshots.node(rows[2]["name"], "down", "killed by SIGKILL")
        stage.change(nodes=rows)
        await expect(count).to_have_text("2 of 3 backends up")
        await expect(panel.locator("summary")).to_have_attribute("data-state", "down")
        await expect(panel.locator("li").nth(1)).to_contain_text("GPU 43 % · 5,222 of 8,192 MiB")
        await expect(panel.locator("li").nth(2)).to_have_attribute("data-state", "down")
        await shoot(page, "chat-panel")
        await panel.locator("summary").click()
        await expect(panel.locator("li").first).to_be_hidden()
        await page.reload()
        await expect(count).to_have_text("2 of 3 backends up")
        await expect(panel.locator("li").first).to_be_hidden()


async def test_gpus_have_a_column_and_figures_under_an_answer():
    shown = snapshots.cluster()
    shown["nodes"][1] |= {"gpus": [snapshots.gpu(0.43, 5222), snapshots.gpu(None, 100, 1)]}
    async with opened(shown=shown) as (page, _):
        await ask(page, "Tell me a story")
        figures = page.locator(".stats")
        await figures.locator("summary").click()
        await expect(figures.locator("tbody tr").nth(1)).to_contain_text("43 %")
        await expect(figures.get_by_role("columnheader", name="GPU memory max")).to_be_visible()
        await page.get_by_role("link", name="Cluster", exact=True).click()
        table = page.locator("#cluster-table")
        await expect(table.get_by_role("columnheader", name="GPU")).to_be_visible()
        await expect(table.get_by_role("row").nth(1)).to_contain_text(
            "0 43 % · 5,222 of 8,192 MiB; 1 – · 100 of 8,192 MiB"
        )


async def test_options_are_sent_bounded_and_kept():
    async with opened() as (page, _):
        await page.get_by_text("Options").click()
        await page.get_by_label("System prompt").fill("Answer as a fox.")
        await page.get_by_label("Max tokens").fill("5000")
        await page.get_by_label("Temperature").fill("0.2")
        await page.keyboard.press("Escape")
        async with page.expect_request("**/v1/chat/completions") as sent:
            await ask(page, "Hello")
        body = (await sent.value).post_data_json
        assert body is not None
        assert body["messages"] == [
            {"role": "system", "content": "Answer as a fox."},
            {"role": "user", "content": "Hello"},
        ]
        assert (body["max_tokens"], body["temperature"], body["stream"]) == (1024, 0.2, True)
        await expect(page.locator(".stats")).to_be_visible()
        await page.reload()
        await expect(page.locator("#chat-hint")).to_contain_text("1,024 tokens at most, temperature 0.20")


async def test_conversations_are_kept_opened_and_deleted():
    async with opened() as (page, _):
        await ask(page, "A first question")
        await expect(page.locator(".stats")).to_be_visible()
        await page.reload()
        await page.get_by_role("button", name="A first question", exact=True).click()
        await expect(page.locator(".theirs .stats")).to_be_visible()
        await expect(page.locator(".mine")).to_have_text("A first question")
        await page.get_by_role("button", name="Delete “A first question”").click()
        await expect(page.locator(".mine")).to_have_count(0)
        await expect(page.locator(".welcome")).to_be_visible()


async def test_an_answer_can_be_stopped():
    async with opened("--stall-after-tokens", "5") as (page, _):
        await ask(page, "Go on for ever")
        await expect(page.locator(".theirs .text")).not_to_be_empty()
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator(".theirs")).to_contain_text("Stopped.")
        await expect(page.get_by_role("button", name="Send")).to_be_visible()


ATTACKS = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "[click](javascript:window.hacked=1)",
    "[data](data:text/html,<script>window.hacked=1</script>)",
    '<a href="javascript:window.hacked=1">link</a> <svg onload="window.hacked=1"></svg>',
    "```html\n<script>window.hacked = 1</script>\n```",
    "`<img src=x onerror=window.hacked=1>` **<b onmouseover=window.hacked=1>bold</b>**",
    '[x](https://example.com" onmouseover="window.hacked=1)',
    "| a | b |\n|---|---|\n| <iframe srcdoc='<script>top.hacked=1</script>'> | ok |",
)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_markup_in_an_answer_stays_text(attack: str):
    async with opened() as (page, _):
        await answer_with(page, *attack)
        await ask(page, attack)
        answer = page.locator(".theirs .text")
        await expect(page.locator(".stats")).to_be_visible()
        assert await answer.locator("script, img, iframe, svg, object, style, [onerror], [onload]").count() == 0
        for address in await answer.locator("a").evaluate_all("links => links.map((link) => link.protocol)"):
            assert address in ("http:", "https:", "mailto:")
        assert await page.evaluate("window.hacked") is None
        shown = "".join((await answer.inner_text()).split())
        assert "window.hacked" in shown or "top.hacked" in shown or "example.com" in await answer.inner_html()


MARKDOWN = """## Title

Some **bold**, *slanted* and `code`.

1. one
2. two
   - inner

> said

```py
x < 1
```

| a | b |
|---|--:|
| 1 | 2 |

https://example.com/a?b=1."""


async def test_markdown_is_shown_as_such():
    text = MARKDOWN
    async with opened() as (page, _):
        await answer_with(page, text)
        await ask(page, "Show me")
        answer = page.locator(".theirs .text")
        await expect(answer.locator("h4")).to_have_text("Title")
        await expect(answer.locator("strong")).to_have_text("bold")
        await expect(answer.locator("em")).to_have_text("slanted")
        await expect(answer.locator("ol > li")).to_have_count(2)
        await expect(answer.locator("ol ul > li")).to_have_text("inner")
        await expect(answer.locator("blockquote")).to_have_text("said")
        await expect(answer.locator("pre code")).to_have_text("x < 1")
        await expect(answer.locator("td").last).to_have_text("2")
        await expect(answer.locator("a")).to_have_attribute("href", "https://example.com/a?b=1")
        await shoot(page, "chat-markdown")


async def test_an_error_is_a_sentence_and_a_resumed_answer_says_so():
    async with opened() as (page, _):
        await answer_with(page, "So ", "far", resumed=2)
        await ask(page, "Survive")
        await expect(page.locator("[data-fact=Resumed] dd")).to_have_text("2 times")
        await page.unroute("**/v1/chat/completions")
        problem = {"error": {"message": "The queue is full: try again later.", "code": "queue_full"}}
        await page.route("**/v1/chat/completions", lambda route: route.fulfill(status=429, json=problem))
        await ask(page, "Again")
        await expect(page.get_by_role("alert")).to_have_text("The queue is full: try again later.")


async def test_a_key_is_asked_for_and_kept_for_the_tab():
    config = GatewayConfig(api_keys=("open-sesame",))
    async with staged(config=config) as (url, _), page_at(url) as page:
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("APP_API_KEYS")
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await expect(dialog).to_contain_text("does not know this key")
        await page.keyboard.type("open-sesame")
        await page.keyboard.press("Enter")
        await expect(page.locator("#status")).to_have_attribute("data-state", "ready")
        await ask(page, "Hello")
        await expect(page.locator(".stats")).to_be_visible()
        await page.reload()
        await expect(page.locator("#status")).to_have_attribute("data-state", "ready")
        assert "open-sesame" not in str(await page.evaluate("JSON.stringify(localStorage)"))


async def test_without_a_key_the_page_says_so_and_waits():
    async with staged(config=GatewayConfig(api_keys=("k",))) as (url, _), page_at(url) as page:
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator("#status")).to_have_text("key needed")
        await page.get_by_role("button", name="API key").click()
        await page.keyboard.type("k")
        await page.keyboard.press("Enter")
        await expect(page.locator("#status")).to_have_attribute("data-state", "ready")


async def test_the_cluster_turns_red_and_green_as_it_happens():
    async with opened() as (page, stage):
        await page.get_by_role("link", name="Cluster", exact=True).click()
        second = page.locator(".backend").nth(1)
        await expect(second).to_have_attribute("data-state", "up")
        rows = [snapshots.node("server"), *(snapshots.node(name) for name in stage.shown["listed"])]
        rows[2] = snapshots.node(rows[2]["name"], "down", "killed by SIGKILL")
        stage.change(state="backoff", reason="10.0.0.2:50052 closed the connection", nodes=rows)
        await expect(second).to_have_attribute("data-state", "down")
        await expect(page.locator(".state h2")).to_have_text("Waiting before the next try")
        await expect(page.locator("#cluster-table")).to_contain_text("killed by SIGKILL")
        await expect(page.locator("#said")).to_contain_text("backoff: 10.0.0.2:50052 closed the connection")
        await shoot(page, "cluster-down")
        load = {"done_bytes": 120 * MIB, "total_bytes": 480 * MIB, "left_s": 6.2}
        stage.change(state="starting", progress="loading tensors", load=load)
        await expect(page.locator(".state h2")).to_have_text("Loading")
        await expect(page.locator(".loading")).to_have_text("120 MiB of 480 MiB, about 7 s left")
        await expect(page.get_by_role("progressbar")).to_have_attribute("value", "0.250")
        await shoot(page, "cluster-loading")
        healed = [*rows[:2], snapshots.node(rows[2]["name"]), *rows[3:]]
        stage.change(state="ready", progress="", reason="a token came out", load=None, nodes=healed)
        await expect(second).to_have_attribute("data-state", "up")
        await expect(page.locator("#status")).to_have_text("ready")


async def test_figures_follow_the_traffic():
    async with opened() as (page, stage):
        await page.get_by_role("link", name="Cluster", exact=True).click()
        for number in range(1, 6):
            stage.change(traffic={"tokens_total": 100 * number, "running": 2, "queued": 3})
            await asyncio.sleep(0.6)  # the page computes tokens per second from two moments
        await expect(page.locator(".figures")).to_contain_text("2 running")
        await expect(page.locator(".figures")).to_contain_text("3 waiting")
        await expect(page.locator(".spark .line")).to_be_attached()


async def test_events_tell_what_happened_and_what_was_done():
    async with opened(shown=snapshots.cluster(n_events=8)) as (page, stage):
        await page.get_by_role("link", name="Events").click()
        await expect(page.locator(".incident")).to_have_count(2)
        healed = page.locator(".incident").first
        await expect(healed).to_contain_text("10.0.0.2:50052 closed the connection")
        await expect(healed).to_contain_text("healed in")
        await expect(healed).to_contain_text("Noticed after")
        await expect(healed).to_contain_text("fenced the engine")
        await page.get_by_role("button", name="Faults").click()
        await expect(page.locator(".incident")).to_have_count(1)
        stage.change(history=snapshots.history(9))
        await expect(page.locator(".incident").first).to_contain_text("under way")


async def test_the_plan_compares_the_strategies():
    async with opened() as (page, _):
        await page.get_by_role("link", name="Plan").click()
        chosen = page.locator(".strategy[data-chosen]")
        await expect(chosen).to_contain_text("memory")
        await expect(chosen).to_contain_text("in force")
        await expect(chosen.locator(".model li")).to_have_count(3)
        await expect(page.locator(".strategy[data-fits=false]")).to_contain_text("short by 812 MiB")


async def test_everything_can_be_done_with_the_keyboard():
    async with opened() as (page, _):
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        reached = set()
        for _ in range(16):
            await page.keyboard.press("Tab")
            reached.add(await page.evaluate("document.activeElement.id || document.activeElement.hash"))
        assert {"#cluster", "#events", "#plan", "theme", "key", "chat-new", "chat-input", "chat-send"} <= reached
        await page.locator("#chat-input").focus()
        await page.keyboard.type("One line")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("another")
        await page.keyboard.press("Enter")
        await expect(page.locator(".mine")).to_have_text("One line\nanother")
        await page.locator('.tabs a[href="#plan"]').focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#view-plan")).to_be_visible()
        assert await page.title() == "Plan · rpc-wrapper"


async def test_the_theme_follows_the_system_until_somebody_chooses():
    async with opened(scheme="dark") as (page, _):
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(ground)
        await page.get_by_role("button", name="Theme: as the system").click()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        assert await page.evaluate(ground) != dark
        await page.reload()
        assert await page.evaluate(ground) != dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "phone"])
async def test_every_view_has_names_contrast_and_no_sideways_scrolling(width: str, scheme: str):
    async with opened(shown=snapshots.cluster(n_events=13), width=width, scheme=scheme) as (page, _):
        await answer_with(page, "An answer with `code` and a [link](https://example.com).")
        await ask(page, "Something to look at")
        await expect(page.locator(".stats")).to_be_visible()
        for view in VIEWS:
            await page.locator(f'.tabs a[href="#{view}"]').click()
            await expect(page.locator(f"#view-{view}")).to_be_visible()
            if view == "plan":
                await expect(page.locator(".strategy").first).to_be_visible()
            assert await page.evaluate(FINDINGS) == []
            assert await page.evaluate(CONTRASTS) == []
            await shoot(page, f"{view}-{width}-{scheme}")


async def test_a_long_history_is_drawn_over_several_frames_and_then_only_what_is_new():
    async with opened(shown=snapshots.cluster(16, 1000)) as (page, stage):
        await page.evaluate(
            """() => { window.built = [];
               const added = (changes) => changes.flatMap((each) => [...each.addedNodes]).length;
               new MutationObserver((changes) => window.built.push(added(changes)))
                 .observe(document.getElementById("events-list"), { childList: true }); }"""
        )
        await page.get_by_role("link", name="Events").click()
        await expect(page.locator(".incident")).to_have_count(201)
        built = await page.evaluate("window.built.splice(0)")
        assert (sum(built), max(built)) == (201, 40)
        stage.change(history=[*snapshots.history(1000), snapshots.occurrence(1000, "note")])
        await expect(page.locator(".incident").first).to_contain_text("took note")
        assert sum(await page.evaluate("window.built")) <= 2  # the newest, and the oldest, which lost its first entry


async def test_a_thousand_events_and_sixteen_backends_stay_smooth():
    async with opened(shown=snapshots.cluster(16, 1000)) as (page, stage):
        for view in ("events", "cluster"):
            await page.locator(f'.tabs a[href="#{view}"]').click()
            await page.evaluate(
                """() => { window.longest = 0; window.frames = 0;
                   new PerformanceObserver((list) => list.getEntries().forEach(
                     (entry) => (window.longest = Math.max(window.longest, entry.duration)))
                   ).observe({ type: "longtask" }); }"""
            )
            for number in range(6):
                stage.change(history=snapshots.history(1000 + number), restarts=number)
                await asyncio.sleep(0.2)  # the server lets changes through ten times a second
            print(f"{view}: longest task {await page.evaluate('window.longest')} ms")
        await expect(page.locator(".backend")).to_have_count(16)
        await shoot(page, "cluster-16-backends")
        await page.locator('.tabs a[href="#events"]').click()
        occurrences = await page.locator(".incident .steps li").count()
        assert 950 <= occurrences <= 1000


async def test_the_first_load_is_small_and_all_from_here():
    async with staged() as (url, _), page_at("about:blank") as page:
        sizes: list[int] = []
        hosts: set[str] = set()

        async def count(request: Request) -> None:
            hosts.add(request.url.split("/")[2])
            if not request.url.endswith("/cluster/events"):
                measured = await request.sizes()
                sizes.append(measured["responseBodySize"] + measured["responseHeadersSize"])

        page.on("requestfinished", count)
        await page.goto(url)
        await expect(page.locator("#status")).to_have_attribute("data-state", "ready")
        await page.wait_for_load_state("load")
        loaded_ms = await page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        print(f"first load: {sum(sizes)} bytes in {len(sizes)} answers, {loaded_ms:.0f} ms")
        assert hosts == {url.removeprefix("http://")}
        assert 0 < sum(sizes) < MOST_BYTES


async def test_a_lost_server_is_shown_and_the_next_one_taken_up():
    stage = Stage(Target("http://127.0.0.1:1"))
    stage.shown = snapshots.cluster()
    async with running(create_app(GatewayConfig(), stage)) as url:
        opened_page = page_at(url)
        page = await opened_page.__aenter__()
        await expect(page.locator("#status")).to_have_text("ready")
    await expect(page.locator("#status")).to_have_text("no connection")
    stage.change(state="starting", reason="prepared")
    async with running(create_app(GatewayConfig(), stage), int(url.rsplit(":", 1)[1])):
        await expect(page.locator("#status")).to_have_text("starting")
        await opened_page.__aexit__(None, None, None)
