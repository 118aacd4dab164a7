"""Mode, owner and POSIX ACL of a file that a new one replaces.

The new file gets those of the old one, as far as the file system and the rights of this user allow. If one cannot be
kept, access is never wider than before, and a warning names it; the job does not fail, because its result is finished.
POSIX ACLs are kept on Linux only; ACLs of macOS and of NFSv4 are not read.

ACL layout: the value of the extended attribute `system.posix_acl_access` is a version (32 bits) and entries of tag
(16 bits), permissions (16) and id (32), all little-endian (linux/posix_acl_xattr.h).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import sys
from dataclasses import dataclass
from typing import Self

from lbr_cli.formats.sinks import Warn

ACL_NAME = "system.posix_acl_access"
ACL_HEADER = struct.pack("<I", 2)
ACL_ENTRY = struct.Struct("<HHI")
GROUP_OBJ, MASK = 0x04, 0x10
NO_ACL = {errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
GROUP_BITS = 0o070

Acl = list[tuple[int, int, int]]  # (tag, permissions, id) of each entry


@dataclass(frozen=True, slots=True)
class Permissions:
    """Owner, mode and ACL of a file. `acl` is None without an ACL, and empty if there is one that cannot be read."""

    user: int
    group: int
    mode: int
    acl: Acl | None

    @classmethod
    def of(cls, path: str) -> Self | None:
        """Return the permissions of a file; None if it does not exist."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        return cls(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), _read_acl(path))

    def apply(self, number: int, name: str, warn: Warn) -> None:
        """Set the permissions of the file open as `number`, so far private; warn about those that cannot be kept."""
        status = _set_owner(number, self.user, self.group)
        mode, acl = self.mode, self.acl
        if (status.st_uid, status.st_gid) != (self.user, self.group):
            now = f"{status.st_uid}:{status.st_gid}"
            warn(f"{name}: owner {self.user}:{self.group} of the old file cannot be kept; the owner is now {now}")
            mode &= 0o777  # setuid and setgid belong to the old owner
        if status.st_gid != self.group:  # the new group has other members
            mode, acl = _limit_group(mode, acl)
        if acl is None:
            if not _remove_acl(number):  # inherited from the folder
                mode &= ~GROUP_BITS
                warn(f"{name}: the ACL inherited from the folder cannot be removed; group access is removed instead")
        elif not (acl and _set_acl(number, acl)):
            _remove_acl(number)
            mode = mode & ~GROUP_BITS | _group_bits(acl)
            warn(f"{name}: the ACL of the old file cannot be kept; its users and groups may have lost access")
        try:
            os.fchmod(number, mode)
        except OSError as error:
            now = f"{stat.S_IMODE(os.fstat(number).st_mode):04o}"
            if now != f"{mode:04o}":
                reason = error.strerror or error
                warn(f"{name}: mode {mode:04o} of the old file cannot be kept; the mode is now {now}: {reason}")


def _set_owner(number: int, user: int, group: int) -> os.stat_result:
    """Change owner and group as far as allowed, and return the file's status. Only root can change the owner."""
    status = os.fstat(number)
    if (status.st_uid, status.st_gid) == (user, group):
        return status
    try:
        os.fchown(number, user, group)
    except OSError:
        if status.st_gid != group:
            with contextlib.suppress(OSError):
                os.fchown(number, -1, group)
    return os.fstat(number)


def _limit_group(mode: int, acl: Acl | None) -> tuple[int, Acl | None]:
    """Limit the owning group to the access of all others. With an ACL, the group bits of the mode are its mask."""
    if acl is None:
        return mode & ~GROUP_BITS | (mode & GROUP_BITS & (mode & 0o007) << 3), None
    others = mode & 0o007
    return mode, [(tag, bits & others if tag == GROUP_OBJ else bits, who) for tag, bits, who in acl]


def _group_bits(acl: Acl) -> int:
    """Return the access of the owning group under an ACL, as mode bits; none if the ACL is unknown."""
    bits = {tag: bits for tag, bits, _ in acl}
    return (bits.get(GROUP_OBJ, 0) & bits.get(MASK, 0o7)) << 3


def _read_acl(file: str | int) -> Acl | None:
    if sys.platform != "linux":
        return None
    try:
        data = os.getxattr(file, ACL_NAME)
    except OSError as error:
        return None if error.errno in NO_ACL else []
    entries = data.removeprefix(ACL_HEADER)
    if len(entries) == len(data) or len(entries) % ACL_ENTRY.size:
        return []
    return list(ACL_ENTRY.iter_unpack(entries))


def _set_acl(number: int, acl: Acl) -> bool:
    if sys.platform != "linux":
        return False
    try:
        os.setxattr(number, ACL_NAME, ACL_HEADER + b"".join(ACL_ENTRY.pack(*entry) for entry in acl))
    except OSError:
        return False
    return True


def _remove_acl(number: int) -> bool:
    """Remove an ACL; return whether the file has none."""
    if sys.platform == "linux" and _read_acl(number) is not None:
        with contextlib.suppress(OSError):
            os.removexattr(number, ACL_NAME)
    return _read_acl(number) is None
