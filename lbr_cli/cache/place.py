"""Where the cache lies, how large it may get, and whether the disk is one that processes can share."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lbr_cli.errors import UsageError

NAME = "scores.sqlite"
DEFAULT_SIZE = "2GB"
NOWHERE = Path(os.devnull)
UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
MOUNTS = Path("/proc/self/mounts")
# file systems on which processes of several machines meet, or that have no shared memory: WAL does not work there
NETWORKED = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf"),
}
NETWORKED_FUSE = {
    *("fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone"),
    *("fuse.s3fs", "fuse.sshfs"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and how many bytes the cache in it may take."""

    folder: Path
    limit: int

    @property
    def file(self) -> Path:
        return self.folder / NAME

    @property
    def files(self) -> list[Path]:
        """The database and the files that SQLite keeps beside it while the database is open."""
        return [self.folder / f"{NAME}{ending}" for ending in ("", "-wal", "-shm", "-journal")]

    def trouble(self) -> str:
        """Why no cache can be kept here, as far as that can be told without trying; else ""."""
        if self.folder == NOWHERE:
            return "there is no home folder to keep it in; name one with --cache-dir"
        network = network_of(self.file)
        return f"{self.folder} lies on a network file system ({network})" if network else ""


def place(folder: str | None = None, size: str = DEFAULT_SIZE) -> Place:
    """`folder` None is the user's own cache folder. UsageError for a size that is none."""
    if folder is None:
        from platformdirs import user_cache_path

        try:
            return Place(user_cache_path("lbr", appauthor=False), in_bytes(size))
        except RuntimeError:  # a user without a home
            return Place(NOWHERE, in_bytes(size))
    if not folder:
        raise UsageError("--cache-dir: an empty name")
    return Place(Path(folder), in_bytes(size))


def in_bytes(size: str) -> int:
    """ "500 MB" -> 500000000."""
    told = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([KMGT]?)B?", size.strip().upper(), re.ASCII)
    if told is None:
        raise UsageError(f"--cache-size {size}: not a size", hint="a number and a unit: 500MB, 2GB")
    return int(float(told[1]) * UNITS[told[2]])


def network_of(path: Path) -> str:
    """The name of the network file system that holds a path; "" for a local disk, and where nobody tells."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    resolved = Path(os.path.realpath(path))
    inner, kind = Path("/"), ""
    for line in lines:  # later ones lie over earlier ones
        _, mounted, its_kind, *_ = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted))
        if resolved.is_relative_to(point) and point.is_relative_to(inner):
            inner, kind = point, its_kind
    return kind if kind in NETWORKED | NETWORKED_FUSE else ""
