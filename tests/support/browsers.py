"""Headless Chromium, which sees every request and every word of its console.

Debian's packages chromium and chromium-driver, over selenium. Must never know what is looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import servers

# No word to anybody but the page under test.
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1200,1000",
)  # fmt: skip
PATIENCE = 30.0
"""Seconds for a page to show what it should."""


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A browser with a profile of its own in that folder. Skips, or fails where `chromium` is
    required, if there is none."""
    browser = shutil.which("chromium")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        servers.missing("chromium", "Chromium and its driver are not installed")
    try:
        from selenium import webdriver
    except ImportError as exc:
        servers.missing("chromium", f"selenium is not installed ({exc})")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in (*_OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Not through the proxies that the environment names, and no driver from elsewhere.
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    page = webdriver.Chrome(options, webdriver.ChromeService(driver, env=env))
    try:
        yield page
    finally:
        page.quit()


def console(page: Any) -> list[str]:
    """What the console has said since it was last asked."""
    return [entry["message"] for entry in page.get_log("browser")]


def requests(page: Any) -> list[str]:
    """The addresses that were asked for since then."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
