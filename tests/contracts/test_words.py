"""Words that no file may use: verbs of speech for programs, and words with several meanings."""

from __future__ import annotations

import re

from support.paths import ROOT

SUFFIXES = (".py", ".md", ".toml", ".yml", ".yaml", ".html", ".js", ".css")
WORDS = re.compile(r"\b(told|tells|hears|asked|announced|stands|nobody|what is not)\b", re.IGNORECASE)
# "place" is a location in a file system: renamed into place, changed in place
PLACE = re.compile(r"(?<!in )(?<!into )\bplaces?\b", re.IGNORECASE)
# texts of examples, and this list
EXCEPT = ("samples", "tests/support/texts.py", "tests/contracts/test_words.py")


def test_no_file_uses_a_listed_word() -> None:
    paths = [path for path in ROOT.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    found = []
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith((".", *EXCEPT)) or "/." in name:
            continue
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        found += [
            f"{name}:{number}: {line.strip()}" for number, line in lines if WORDS.search(line) or PLACE.search(line)
        ]
    assert not found, "\n".join(found)
