"""What a page costs its visitor, as the browser itself measures it: the first paint, and what moved without being asked."""

from selenium import webdriver

from tests.tools.patience import wait_until

PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SHIFTS = """
const done = arguments[0];
const name = ({ node, previousRect: before, currentRect: now }) =>
    `${node?.nodeName}#${node?.id}.${node?.className}: ${before.x},${before.y} -> ${now.x},${now.y}`;
const observer = new PerformanceObserver((list) => {
    const shifts = list.getEntries().filter((entry) => !entry.hadRecentInput);
    done(shifts.map((entry) => `${entry.value.toFixed(4)} ${entry.sources.map(name).join("; ")}`));
});
observer.observe({ type: "layout-shift", buffered: true });
requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done([]), 100)));
"""


def first_paint(browser: webdriver.Chrome, url: str, times: int = 5) -> float:
    """The shortest time to the first contentful paint of so many visits, in milliseconds: the others waited for the machine."""
    measured: list[float] = []
    for _ in range(times):
        browser.get("about:blank")
        browser.get(url)
        measured.append(wait_until(lambda: browser.execute_script(PAINT), 10, f"a paint of {url}"))
    return min(measured)


def layout_shifts(browser: webdriver.Chrome) -> list[str]:
    """All that moved since the page was opened, and not because a visitor did something; what it was, from where to where."""
    found = browser.execute_async_script(SHIFTS)
    assert isinstance(found, list)
    return found
