"""The pages of the documentation: their code blocks, terminal sessions, links and headings."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Page:
    """A Markdown file of the repository."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return FENCE.sub("", self.text)

    def blocks(self, *languages: str) -> list[str]:
        """Return the code blocks of these languages in order; all code blocks if none is named."""
        return [block for language, block in FENCE.findall(self.text) if not languages or language in languages]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The commands of the terminal sessions in order, each with its output. Lines after `> ` continue a command."""
        parts = re.split(r"^\$ (.*\n(?:> .*\n)*)", "".join(self.blocks("console")), flags=re.MULTILINE)[1:]
        commands = [re.sub(r"^> ", "", part, flags=re.MULTILINE).rstrip("\n") for part in parts[::2]]
        return list(zip(commands, parts[1::2], strict=True))

    @property
    def links(self) -> list[str]:
        """The targets of links and images."""
        return LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """The fragments that lead to headings, as GitHub makes them."""
        seen: Counter[str] = Counter()
        anchors = set()
        for heading in re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE):
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
        return anchors


README = Page(ROOT / "README.md")
CONTRIBUTING = Page(ROOT / "CONTRIBUTING.md")
DOCS = [Page(path) for path in sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [README, *DOCS, CONTRIBUTING, Page(ROOT / "SECURITY.md")]
PAGES = [*GUIDES, *(Page(ROOT / name) for name in ("CHANGELOG.md", "benchmarks/README.md", "samples/README.md"))]
