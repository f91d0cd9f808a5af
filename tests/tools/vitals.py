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

NOTE = """
window.written = new Set();
const observer = new MutationObserver((records) => {
    for (const { target: it } of records) window.written.add(it.nodeType === Node.TEXT_NODE ? it.parentElement : it);
});
const observe = () => observer.observe(document, { subtree: true, childList: true, characterData: true });
// What the parser writes is no change.
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", observe);
else observe();
"""
LENGTHEN = r"""
const seen = [...document.querySelectorAll("body *")].filter((it) => it.checkVisibility());
const places = () => seen.map((it) => { const { x, y } = it.getBoundingClientRect(); return [x, y]; });
const name = (it) => `${it.tagName.toLowerCase()}#${it.id}.${it.className}`;
const number = /[0-9,]+|\u2013/;
const longer = (text) => number.exec(text)[0] === text ? "888,888" : text.replace(number, "88$&");
const figures = seen.filter((it) => window.written.has(it) && !it.children.length && number.test(it.textContent));
return figures.flatMap((figure) => {
    const [before, text] = [places(), figure.textContent];
    figure.textContent = longer(text);
    const after = places();
    const far = seen.filter((_, i) => Math.hypot(before[i][0] - after[i][0], before[i][1] - after[i][1]) >= 1);
    const said = figure.textContent;
    figure.textContent = text;
    return far.length ? [`"${said}" in ${name(figure)} moves ${far.map(name).join(" ")}`] : [];
});
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


def layout_shifts(browser: webdriver.Chrome, least: float = 0.0005) -> list[str]:
    """What moved since the page was opened, and not because a visitor did something: how much, what, and where to.

    Less than `least` is not told, where 0.1 is good, as Lighthouse says: the dot that goes with an answer's last word.
    """
    found = browser.execute_async_script(SHIFTS)
    assert isinstance(found, list)
    return [each for each in found if float(each.split()[0]) >= least]


def note_figures(browser: webdriver.Chrome) -> None:
    """From the next page on, have this window note which elements are written anew, for `moved_by_longer_figures`."""
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTE})


def moved_by_longer_figures(browser: webdriver.Chrome) -> list[str]:
    """What would leave its place if a figure that the page has written anew were longer: each, and what it moves.

    This sees today what `layout_shifts` would see on the day on which a counter gets another digit.
    """
    moved = browser.execute_script(LENGTHEN)
    assert isinstance(moved, list)
    return moved
