"""Hook of mkdocs: pages and pictures that lie outside docs/ join the site under their paths in the repository.

The site has the README of the benchmarks, CONTRIBUTING and CHANGELOG as pages. A link of a page to another file of the
repository (`../benchmarks/results/x.png`) brings that file in; one to a folder becomes plain text.
"""

import os
import pathlib
import re

from mkdocs.structure.files import File, InclusionLevel

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages, and every file outside docs/ that a page links to."""
    sources = {file.src_uri: DOCS / file.src_uri for file in files if file.src_uri.endswith(".md")}
    sources |= {page: ROOT / page for page in PAGES}
    for page in PAGES:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
    known = {file.src_uri for file in files}
    for source in sources.values():
        for match in LINK.finditer(source.read_text()):
            target = (source.parent / match[3]).resolve()
            uri = _uri(target)
            if target.is_file() and not target.is_relative_to(DOCS) and uri not in known:
                known.add(uri)
                outside = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, uri, abs_src_path=str(target), inclusion=outside))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links between files of the repository into links between pages of the site."""
    source = pathlib.Path(page.file.abs_src_path)
    here = page.file.src_uri

    def link(match):
        image, text, path, anchor = match.groups()
        target = (source.parent / path).resolve()
        if target.is_dir() or not target.exists():
            return text if target.is_dir() else match[0]
        return f"{image}[{text}]({os.path.relpath(_uri(target), os.path.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(link, markdown)


def _uri(path):
    """Where a file lies in the site: files of docs/ at the top, others under their path in the repository."""
    for root in (DOCS, ROOT):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return str(path)
