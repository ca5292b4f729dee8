"""The page in a real browser, from a real Envoy and a real discovery; the Hive that it shows is made up."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.browser import chromium
from tests.gateway import showcase
from tests.gateway.site import KEYS, Site, application, wait_for
from vram_agent.api import GIB, Device, Event, EventKind, State

SECONDS = 60_000  # milliseconds that the page may take to show what has changed: a few looks, on a busy machine
MARKUP = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module", name="hive")
def _hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hive = Site(tmp_path_factory.mktemp("page"), showcase.VALUES, states=showcase.states())
    hive.dashboard.applications = showcase.APPLICATIONS
    try:
        hive.start()
        for model in ("qwen3-8b", "gemma-3-12b"):
            hive.add(model)
        yield hive
    finally:
        hive.end()
        shutil.rmtree(hive.where.runtime, ignore_errors=True)


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(hive: Site, browser: Browser) -> Iterator[Page]:
    """The page, which shows something. At the end it has asked nobody else and its browser has blocked nothing."""
    context = browser.new_context(viewport={"width": 1300, "height": 800})
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    asked: list[str] = []
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # an answer that is an error
            wrong.append(message.text)

    page.on("request", lambda request: asked.append(request.url))
    page.on("console", said)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(hive.run.gateway_url)
    expect(page.locator("#connection")).to_have_text("live")
    yield page
    assert [url for url in asked if not url.startswith((hive.run.gateway_url, "data:"))] == []
    assert wrong == []
    context.close()


def card(page: Page, id_: str) -> dict[str, str]:
    """What a device is shown to be made of: the last figure of each row."""
    rows = page.locator(".device", has_text=id_).locator("tbody tr")
    return {row.locator("td > span").first.inner_text(): row.locator("td").last.inner_text() for row in rows.all()}


def model(page: Page, name: str) -> str:
    """All that is said of a model."""
    return " ".join(page.locator("#models tr", has=page.get_by_text(name, exact=True)).inner_text().split())


def test_it_shows_each_gpu_with_all_that_its_bytes_are_for(page: Page) -> None:
    expect(page.locator(".device")).to_have_count(4)
    assert card(page, "GPU-8f1e") == {
        "qwen3-8b": "14.0 GiB",
        "qwen3-embedding": "6.00 GiB",
        "without a lease": "",
        "headroom": "332 MiB",
        "never granted": "656 MiB",
        "free": "2.86 GiB",
    }
    bar = page.locator(".device", has_text="GPU-8f1e").get_by_role("img")
    assert "NVIDIA GeForce RTX 4090 on atlas, 24.0 GiB: qwen3-8b 14.0 GiB" in (bar.get_attribute("aria-label") or "")
    widths = [part.evaluate("part => part.getBoundingClientRect().width") for part in bar.locator(".part").all()]
    assert widths[0] / widths[1] == pytest.approx(14 / 6, rel=0.05)
    waits = page.locator(".device", has_text="GPU-51c0").locator("tr", has_text="whisper-large")
    expect(waits).to_contain_text("PENDING, place 1")


def test_it_shows_models_with_their_replicas_and_why_one_does_not_serve(page: Page) -> None:
    assert re.fullmatch(r"qwen3-8b RUNNING RUNNING x7k2p9aa RUNNING m3n8q1bb \S+", model(page, "qwen3-8b"))
    assert "DEPLOYING STARTING w9v8u7tt 0 of 1 run" in model(page, "whisper-large")
    assert "UNHEALTHY" in model(page, "phi-4-mini")
    assert "FIX: set models.mistral-24b.vram to 5Gi" in model(page, "mistral-24b")
    expect(page.locator("#serving")).to_have_text("3 of 6")


def test_it_shows_the_latest_event_first(page: Page) -> None:
    kinds = page.locator("#events .badge")
    assert kinds.all_inner_texts() == ["orphan", "foreign", "refused", "cleared"]


def test_tokens_are_counted_as_they_are_answered(hive: Site, page: Page) -> None:
    for _ in range(5):
        assert hive.chat("gemma-3-12b", tokens=2000).status_code == 200
    expect(page.locator("#models tr", has_text="gemma-3-12b").locator("td.number")).to_have_text(re.compile(r"\d{3,}"))
    expect(page.locator("#rate")).to_have_text(re.compile(r"\d{3,}"))


def test_what_comes_from_the_server_is_text(hive: Site, page: Page) -> None:
    agent = hive.agents[0]
    before = agent.state
    leases = (before.leases[0].model_copy(update={"model": MARKUP}), *before.leases[1:])
    event = Event(time=1.0, kind=EventKind.OVER, text=f"event {MARKUP}")
    applications = hive.dashboard.applications
    try:
        agent.state = before.model_copy(update={"node": MARKUP, "leases": leases, "events": (event,)})
        said = application(MARKUP, "DEPLOY_FAILED", (MARKUP, MARKUP), message=f"reason {MARKUP}")
        hive.dashboard.applications = applications | {MARKUP: said}
        expect(page.get_by_text(f"event {MARKUP}")).to_be_visible()
        expect(page.get_by_text(f"reason {MARKUP}")).to_be_visible()
        expect(page.locator(".device").get_by_text(MARKUP, exact=True).first).to_be_attached()
        assert page.locator("img").count() == 0
        assert page.title() == "Hive"
    finally:
        agent.state = before
        hive.dashboard.applications = applications
    expect(page.get_by_text(f"reason {MARKUP}")).to_have_count(0)


def test_what_stays_is_not_made_anew(hive: Site, page: Page) -> None:
    """So that nothing flickers, scrolls or loses its focus."""
    agent = hive.agents[2]
    before = agent.state
    page.evaluate("document.querySelectorAll('tr, .part, li').forEach(element => { element.old = true; })")
    page.locator("#events").focus()
    page.evaluate("scrollTo(0, 150)")
    try:
        agent.state = before.model_copy(
            update={"events": (*before.events, Event(time=9e9, kind=EventKind.OVER, text="new"))}
        )
        expect(page.locator("#events li").first).to_contain_text("new")
        assert (
            page.evaluate("[...document.querySelectorAll('tr, .part, li')].filter(element => !element.old).length") == 1
        )
        assert page.evaluate("[scrollY, document.activeElement.id]") == [150, "events"]
    finally:
        agent.state = before


def test_a_lost_connection_is_said_and_comes_back_by_itself(page: Page) -> None:
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_contain_text("connection lost")
    expect(page.locator(".device")).to_have_count(4)
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_have_text("live")


def test_a_node_whose_agent_is_silent_is_shown_as_such(hive: Site, page: Page) -> None:
    agent = hive.agents[1]
    agent.hangs = True
    try:
        expect(page.locator(".device.broken")).to_have_text(re.compile("nova.*its VRAM agent does not answer"))
        expect(page.locator(".device")).to_have_count(4)
    finally:
        agent.hangs = False
    expect(page.locator(".device.broken")).to_have_count(0)


def test_a_device_that_grants_nothing_says_why(hive: Site, page: Page) -> None:
    agent = hive.agents[2]
    before = agent.state
    over: Device = before.devices[0].model_copy(update={"free": -2 * GIB})
    try:
        agent.state = before.model_copy(update={"devices": (over,)})
        expect(page.locator(".device.over")).to_contain_text("over by 2.00 GiB: grants nothing until memory comes back")
        broken = over.model_copy(update={"error": "the GPU fell off the bus"})
        agent.state = before.model_copy(update={"devices": (broken,)})
        expect(page.locator(".device.broken")).to_contain_text("the GPU fell off the bus")
    finally:
        agent.state = before


def test_where_there_is_nothing_yet_it_says_what_comes(hive: Site, page: Page) -> None:
    states, applications = [agent.state for agent in hive.agents], hive.dashboard.applications
    try:
        for agent in hive.agents:
            agent.state = State(node=agent.state.node, devices=(), leases=(), events=(), overheads={})
        hive.dashboard.applications = {}
        expect(page.locator("#models .badge")).to_have_text(["NOT_STARTED"] * 6)
        hive.update(models={})
        for words in ("No models yet.", "No VRAM agent is found.", "Nothing that an operator should hear of."):
            expect(page.get_by_text(words)).to_be_visible()
        expect(page.get_by_role("button", name="Ask")).to_be_disabled()
        expect(page.get_by_label("Model", exact=True)).to_contain_text("none that chats serves now")
    finally:
        for agent, state in zip(hive.agents, states, strict=True):
            agent.state = state
        hive.dashboard.applications = applications
        hive.update()
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()


def test_a_model_is_asked_with_the_key_that_is_typed_in(hive: Site, page: Page) -> None:
    """Over the API that everybody uses: streamed, counted for the client, and refused without a key."""
    (replica,) = hive.dashboard.replicas["qwen3-8b"]
    replica.go_on.clear()
    page.get_by_label("Model", exact=True).select_option("qwen3-8b")
    page.get_by_label("Question").fill("What do bees make?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer.failed")).to_contain_text("There is no such API key")
    page.get_by_label("API key").fill(KEYS["bob"])
    page.get_by_label("Question").press("Control+Enter")
    expect(page.locator("#answer")).to_have_text("Bees ")
    replica.proceed()
    expect(page.locator("#answer")).to_have_text("Bees <b>make</b> honey.")
    expect(page.locator("#cost")).to_contain_text("3 tokens")
    assert {k.lower(): v for k, v in replica.asked[-1]["headers"].items()}["x-hive-client"] == "bob"
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    page.reload()
    expect(page.get_by_label("API key")).to_have_value(KEYS["bob"])
    assert KEYS["bob"] not in (hive.where.logs / "envoy.log").read_text()


def test_an_answer_can_be_stopped(hive: Site, page: Page) -> None:
    (replica,) = hive.dashboard.replicas["gemma-3-12b"]
    replica.go_on.clear()
    page.get_by_label("API key").fill(KEYS["alice"])
    page.get_by_label("Question").fill("Go on")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_have_text("Bees ")
    expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    expect(page.locator("#answer")).to_have_text("Bees ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1300])
def test_anybody_can_read_it(page: Page, scheme: str, width: int) -> None:
    """Contrast, names and roles by axe-core's rules; and nothing is wider than the screen."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/status"])
def test_looking_needs_no_key_and_is_all_that_can_be_done(hive: Site, path: str) -> None:
    url = f"{hive.run.gateway_url}{path}"
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert httpx.request(method, url).status_code == 401
        with hive.http() as http:
            assert http.request(method, path).json()["error"]["code"] == "unknown_url"
    assert httpx.get(f"{hive.run.gateway_url}/v1/models").status_code == 401


def test_those_who_look_fill_neither_log_nor_metrics(hive: Site) -> None:
    """The three files are counted, /status is not."""

    def counted() -> int:
        found = re.search(r'^envoy_hive_requests{model="",client="",code="200"} (\d+)$', hive.metrics(), re.MULTILINE)
        return int(found[1]) if found else 0

    def get(path: str) -> None:
        assert httpx.get(f"{hive.run.gateway_url}{path}").status_code == 200

    before = counted()
    get("/page.css")
    for _ in range(3):
        get("/status")
    get("/page.js")
    wait_for("what comes last is counted", lambda: counted() >= before + 2)
    wait_for("it is logged", lambda: any(line["path"] == "/page.js" for line in hive.log()), 60)
    assert counted() == before + 2
    assert "/status" not in {line["path"] for line in hive.log()}


def test_without_keys_a_model_is_asked_without_one_and_without_a_page_there_is_none(
    tmp_path: Path, browser: Browser
) -> None:
    values = showcase.VALUES | {"gateway": {"host": "127.0.0.1"}}
    hive = Site(tmp_path, values, states=showcase.states()[:1])
    del hive.env["HIVE_KEYS_DIR"]
    hive.dashboard.applications = showcase.APPLICATIONS
    try:
        hive.start()
        replica = hive.add("qwen3-8b")
        replica.proceed()
        page = browser.new_page()
        page.goto(hive.run.gateway_url)
        page.get_by_label("Question").fill("What do bees make?")
        page.get_by_role("button", name="Ask").click(timeout=SECONDS)
        expect(page.locator("#answer")).to_have_text("Bees <b>make</b> honey.")
        assert not page.get_by_label("API key").is_visible()
        page.close()
        del hive.env["HIVE_AGENTS"]
        assert hive.update(gateway={"host": "127.0.0.1", "page": False}) is True
        for path in ("/", "/page.js", "/status"):
            answer = httpx.get(f"{hive.run.gateway_url}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    finally:
        hive.end()
        shutil.rmtree(hive.where.runtime, ignore_errors=True)
