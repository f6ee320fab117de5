"""Hooks for mkdocs: include pages from the top of the repository, and reject an incomplete API reference."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mirror

ROOT = Path(__file__).parents[1]
PLACES = {
    "SECURITY.md": "explanation/security.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "mirror.toml": "reference/settings.md",
}
API = "reference/api.md"

_LINK = re.compile(r"(?<=\]\()(?P<target>[^()#:\s]+)(?=[#)])")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages at the top of the repository."""
    for name, place in PLACES.items():
        if name.endswith(".md"):
            files.append(File.generated(config, place, content=(ROOT / name).read_text()))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate links that work in the repository to links that work in the site."""
    place = page.file.src_uri
    origin = next((name for name in PLACES if PLACES[name] == place and page.file.generated_by), f"docs/{place}")

    def translate(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link["target"]))
        if path not in PLACES and not path.startswith("docs/"):
            return link[0]
        return posixpath.relpath(PLACES.get(path, path.removeprefix("docs/")), posixpath.dirname(place))

    return _LINK.sub(translate, markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Reject an API reference that lacks a public name."""
    if page.file.src_uri == API:
        missing = [name for name in mirror.__all__ if f'id="mirror.{name}"' not in html]
        if missing:
            raise PluginError(f"{API} lacks {', '.join(missing)}")
