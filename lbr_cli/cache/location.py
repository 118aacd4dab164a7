"""Where the cache is, its maximum size, and whether processes can share it on that file system."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lbr_cli.errors import UsageError

NAME = "scores.sqlite"
DEFAULT_SIZE = "2GB"
NO_FOLDER = Path(os.devnull)
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
MOUNTS = Path("/proc/self/mounts")
# file systems shared by several machines, also virtual ones, or without shared memory: WAL does not work on them
NETWORKED = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "wekafs"),
    *("fakeowner", "fuse.grpcfuse", "fuse.osxfs", "fuse.vmhgfs-fuse", "prl_fs", "vboxsf", "virtiofs"),
    *("fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone"),
    *("fuse.s3fs", "fuse.sshfs"),
}


@dataclass(frozen=True, slots=True)
class CacheLocation:
    """The folder of the cache, and its maximum size in bytes."""

    folder: Path
    limit: int

    @property
    def file(self) -> Path:
        return self.folder / NAME

    @property
    def files(self) -> list[Path]:
        """The database and the files that SQLite keeps beside it while the database is open."""
        return [self.folder / f"{NAME}{ending}" for ending in ("", "-wal", "-shm", "-journal")]

    def problem(self) -> str:
        """Return why the folder cannot hold a cache; "" if no reason is known."""
        if self.folder == NO_FOLDER:
            return "there is no home folder; choose a folder with --cache-dir"
        network = network_file_system(self.file)
        return f"{self.folder} is on a network file system ({network})" if network else ""


def cache_location(folder: str | None = None, size: str = DEFAULT_SIZE) -> CacheLocation:
    """Return the location in `folder`, or in the user's cache folder. Raises UsageError for an invalid option.

    A ~ at the start is the home folder: no shell expands it in a crontab, an env file or --cache-dir=~/x.
    """
    limit = parse_size(size)
    if folder is None:
        from platformdirs import user_cache_path

        try:
            return CacheLocation(user_cache_path("lbr", appauthor=False), limit)
        except RuntimeError:  # a user without a home
            return CacheLocation(NO_FOLDER, limit)
    if not folder:
        raise UsageError("--cache-dir: empty folder name")
    expanded = os.path.expanduser(folder)
    if expanded.startswith("~"):
        raise UsageError(f"--cache-dir {folder}: unknown home folder", hint="begin with ./ for a folder of this name")
    return CacheLocation(Path(expanded), limit)


def parse_size(size: str) -> int:
    """Return the bytes of a size such as "500 MB". Raises UsageError for an invalid one."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([KMGT]?)B?", size.strip().upper(), re.ASCII)
    if match is None:
        raise UsageError(f"--cache-size {size}: invalid size", hint="use a number and a unit, such as 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2]])


def network_file_system(path: Path) -> str:
    """Return the type of the network file system that holds a path; "" for a local disk or an unknown system."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
    except OSError:
        return ""
    resolved = Path(os.path.realpath(path))
    inner, inner_type = Path("/"), ""
    for line in lines:  # a later mount covers an earlier one
        _, mounted, type_, *_ = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted))
        if resolved.is_relative_to(point) and point.is_relative_to(inner):
            inner, inner_type = point, type_
    return inner_type if inner_type in NETWORKED else ""
