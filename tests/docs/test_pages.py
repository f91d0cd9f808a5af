"""Every block of code in README, docs and examples, run as a reader would: page by page, from top to bottom."""

from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.docs.blocks import PAGES, blocks, name
from tests.docs.reader import reading, shows
from tests.tools.need import ROOT

# Blocks that cannot be run here, by page. Each says why on the page.
NOT_RUN = {
    "README.md": 2,
    "docs/guide/admin.md": 1,
    "docs/guide/authentication.md": 1,
    "docs/guide/clients.md": 2,
    "docs/guide/deployment.md": 8,
    "docs/guide/durable-streams.md": 2,
    "docs/guide/gateway.md": 1,
    "docs/guide/measuring.md": 1,
    "docs/guide/monitoring.md": 2,
    "docs/guide/tokens.md": 2,
    "docs/guide/webhooks.md": 6,
    "docs/quick-start/index.md": 1,
    "docs/quick-start/use-chat.md": 2,
    "examples/react/README.md": 1,
    "examples/use_chat/README.md": 1,
    "examples/webhooks/README.md": 3,
}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_shows_works(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    if page.is_relative_to(ROOT / "examples"):
        copytree(page.parent, folder, ignore=ignore_patterns("node_modules"))
    else:
        folder.mkdir()
    with reading(folder) as reader:
        reader.follow(blocks(page))


def test_what_is_not_run_is_counted() -> None:
    counted = {name(page): sum(bool(block.not_run) for block in blocks(page)) for page in PAGES}
    assert {page: count for page, count in counted.items() if count} == NOT_RUN


def test_what_a_page_shows_of_a_command_is_compared_with_what_it_prints() -> None:
    assert shows("published in news,\n  offset 12", "published in news, offset ...")
    assert shows("10:20:30 news 1", "09:41:07 news 1")
    assert not shows("published in news", "published in sport")
