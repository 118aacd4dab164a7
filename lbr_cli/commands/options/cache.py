"""Cache options: whether to cache scores, in which folder, and up to which size."""

from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.cache.location import DEFAULT_SIZE, CacheLocation, cache_location
from lbr_cli.commands.command import OptionGroup, option

CACHE_DIR = option("DIR", "Folder of the score cache.", env=True, unset="the user's cache folder")
CACHE_SIZE = option(
    "SIZE", "Maximum size of the score cache; least recently used scores are evicted.", DEFAULT_SIZE, env=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions(OptionGroup):
    heading: ClassVar[str] = "Cache"

    cache: bool | None = option(None, "Reuse and store scores.", env=True, unset="on")
    cache_dir: str | None = CACHE_DIR
    cache_size: str = CACHE_SIZE

    def location(self) -> CacheLocation | None:
        """Return the location of the cache, None if scores are not cached."""
        if self.cache is False:
            self.refuse(("cache_dir", "cache_size"), "no scores are cached")
            return None
        return cache_location(self.cache_dir, self.cache_size)
