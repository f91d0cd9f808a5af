"""The built pages are committed, so that nobody needs Node to see them: they are what the source gives."""

import subprocess
from pathlib import Path

from freshet.demos.gallery import DEMOS, STATIC
from tests.tools.need import ROOT, require, require_npm_packages
from tests.tools.patience import seconds


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_committed_build_is_what_the_source_gives(tmp_path: Path) -> None:
    npm = require("npm")
    frontend = require_npm_packages(ROOT / "frontend")
    done = subprocess.run(
        [npm, "run", "build", "--", "--outDir", str(tmp_path)],
        cwd=frontend,
        capture_output=True,
        text=True,
        timeout=seconds(50),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built, committed = contents(tmp_path), contents(STATIC)
    different = sorted(name for name in built.keys() | committed.keys() if built.get(name) != committed.get(name))
    assert not different, f"run `make frontend` and commit {different}"


def test_every_demo_has_a_page_and_what_a_page_loads_is_ours() -> None:
    assert {page.parent.name for page in STATIC.glob("*/index.html")} == {demo.name for demo in DEMOS}
    for file in STATIC.rglob("*.html"):
        for attribute in ("src=", "href="):
            for part in file.read_text().split(attribute)[1:]:
                assert not part.lstrip("\"'").startswith(("http:", "https:", "//", "data:")), f"{file}: {part[:60]}"
