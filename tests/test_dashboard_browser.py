"""The dashboard's page in a real browser: it lives, it orders, and it speaks with nobody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsers import PATIENCE, chromium, console, requests

from dbapi_pool import Pool
from dbapi_pool.dashboard import Server, serve

TOKEN = "a-token-of-some-length"
NAME = "<img src=x onerror=alert(1)> & 'shop'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Afterwards: it has asked no other server, and its console has said nothing."""
    browser.get("about:blank")  # in place of its own first page
    console(browser), requests(browser)
    yield browser
    said, asked = console(browser), requests(browser)
    assert said == []
    assert asked != []
    assert [
        url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "about:blank"))
    ] == []


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool(sqlite3, tmp_path / "app.db", max_size=3, name=NAME) as pool:
        yield pool


@contextmanager
def serving(page: Any, **settings: Any) -> Iterator[Server]:
    """The page is left before its server ends, of which it would complain."""
    with serve(quiet=True, **settings) as server:
        try:
            yield server
        finally:
            page.get("about:blank")


def text(page: Any, selector: str) -> str:
    return str(page.execute_script(f"return document.querySelector({selector!r}).innerText"))


def wait(page: Any, what: Callable[[], object]) -> None:
    from selenium.common.exceptions import JavascriptException
    from selenium.webdriver.support.wait import WebDriverWait

    waiting = WebDriverWait(page, PATIENCE, 0.1, ignored_exceptions=[JavascriptException])
    waiting.until(lambda page: what())


def test_it_shows_a_pool_and_who_holds_what_as_it_changes(page: Any, pool: Pool) -> None:
    with serving(page, pools=lambda: [pool]) as server:
        page.get(server.url)
        wait(page, lambda: text(page, ".holders") == "Nobody.")
        assert text(page, "h2") == NAME
        assert text(page, ".level") == "ok"
        assert page.execute_script("return document.querySelectorAll('img, button').length") == 0

        conn = pool.connection()
        [holder] = pool.holders()
        wait(page, lambda: holder.site in text(page, ".holders"))
        assert "MainThread" in text(page, ".holders")
        bar = page.execute_script(
            "return document.querySelector('.sizes').getAttribute('aria-label')"
        )
        assert bar == "1 in use, 0 busy, 0 idle, of 3"

        conn.close()
        wait(page, lambda: text(page, ".holders") == "Nobody.")
        pool.suspend()
        wait(page, lambda: text(page, ".level") == "warning")
        assert "call resume()" in text(page, ".reasons")
        pool.resume()
        pool.drain()
        wait(page, lambda: "drained" in text(page, ".tables"))


def test_its_charts_grow(page: Any, pool: Pool) -> None:
    points = "return document.querySelector('.chart .idle').getAttribute('d').split('L').length"
    with serving(page, pools=lambda: [pool]) as server:
        page.get(server.url)
        with pool.connection():
            pass
        wait(page, lambda: page.execute_script(points) >= 3)
        assert page.execute_script("return document.querySelectorAll('.chart').length") == 4


def test_pools_come_and_go(page: Any, pool: Pool, tmp_path: Path) -> None:
    def names() -> list[str]:
        script = "return [...document.querySelectorAll('h2')].map(one => one.innerText)"
        return list(page.execute_script(script))

    pools = [pool]
    with (
        Pool(sqlite3, tmp_path / "app.db", name="first") as first,
        Pool(sqlite3, tmp_path / "app.db", name="last") as last,
        serving(page, pools=lambda: pools) as server,
    ):
        page.get(server.url)
        wait(page, lambda: names() == [NAME])
        pools[:] = [first, pool, last]
        wait(page, lambda: names() == ["first", NAME, "last"])
        pools[:] = [pool, last]
        wait(page, lambda: names() == [NAME, "last"])
        pools[:] = []
        wait(page, lambda: names() == [])


def test_its_buttons_work_with_the_token(page: Any, pool: Pool) -> None:
    with pool.connection():
        pass

    def press(what: str, sure: bool = False) -> None:
        page.find_element("css selector", f"[data-order={what}]").click()
        if sure:
            page.switch_to.alert.accept()
        wait(page, lambda: text(page, ".said") == f"{what}: done")

    with serving(page, token=TOKEN, pools=lambda: [pool]) as server:
        page.get(f"{server.url}#token={TOKEN}")
        wait(page, lambda: text(page, "h2") == NAME)
        assert TOKEN not in page.current_url

        press("drain", sure=True)
        assert pool.stats().closed == {"drained": 1}
        press("suspend", sure=True)
        assert pool.stats().state == "suspended"
        press("resume")
        assert pool.stats().state == "open"
        page.find_element("css selector", ".orders input").send_keys("7")
        press("resize")
        assert pool.max_size == 7


def test_its_buttons_do_nothing_without_it(browser: Any, pool: Pool) -> None:
    with serving(browser, token=TOKEN, pools=lambda: [pool]) as server:
        console(browser)
        browser.get(server.url)
        wait(browser, lambda: text(browser, "h2") == NAME)
        browser.find_element("css selector", "[data-order=drain]").click()
        browser.switch_to.alert.accept()
        wait(browser, lambda: "token is missing or wrong" in text(browser, ".said"))

    assert pool.stats().closed == {}
    assert len(console(browser)) == 1  # the browser's own word on a 403


def test_another_page_can_order_nothing_even_with_the_token(browser: Any, pool: Pool) -> None:
    with (
        serve(token=TOKEN, pools=lambda: [pool], quiet=True) as server,
        serve(quiet=True) as elsewhere,
    ):
        browser.get(elsewhere.url.replace("127.0.0.1", "localhost"))
        browser.execute_script("document.querySelectorAll('script').forEach(one => one.remove())")
        refused = browser.execute_async_script(
            "const done = arguments[2];"
            "fetch(arguments[0], {method: 'POST', headers: {'X-Dbapi-Pool-Token': arguments[1]}})"
            ".then(() => done('answered'), error => done('refused'))",
            f"{server.url}pools/x/suspend",
            TOKEN,
        )
        browser.get("about:blank")

    assert refused == "refused"
    assert pool.stats().state == "open"


def test_it_says_when_nobody_answers_any_more(browser: Any, pool: Pool) -> None:
    with serve(pools=lambda: [pool], quiet=True) as server:
        browser.get(server.url)
        wait(browser, lambda: text(browser, "h2") == NAME)
    wait(browser, lambda: "what is below is old" in text(browser, "#trouble"))
    browser.get("about:blank")
