"""Cache options: whether scores are cached, where, and how many."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from lbr_cli.cache.location import DEFAULT_SIZE, CacheLocation, cache_location
from lbr_cli.commands.command import OptionGroup

CacheDir = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", envvar="LBR_CACHE_DIR", help="Folder of the score cache.", show_default="the user's cache folder"
    ),
]
CacheSize = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        envvar="LBR_CACHE_SIZE",
        help="Maximum size of the score cache; least recently used scores are evicted.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions(OptionGroup):
    heading: ClassVar[str] = "Cache"

    cache: Annotated[
        bool | None,
        typer.Option("--cache/--no-cache", envvar="LBR_CACHE", help="Reuse and store scores.", show_default="on"),
    ] = None
    cache_dir: CacheDir = None
    cache_size: CacheSize = DEFAULT_SIZE

    def location(self) -> CacheLocation | None:
        """Return where the cache is, or None without one."""
        if self.cache is False:
            self.refuse(("cache_dir", "cache_size"), "no scores are cached")
            return None
        return cache_location(self.cache_dir, self.cache_size)
