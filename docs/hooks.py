"""What MkDocs calls as it builds the site: it has pages that no file has, and parts of pages that stand elsewhere."""

from generate import PAGES, completed
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, write in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return completed(markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The theme gives its search no name for screen readers."""
    return output.replace('class="md-search"', 'class="md-search" aria-label="Search"')
