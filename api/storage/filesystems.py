"""Which file system a path lies on: SQLite's WAL does not work on those that several hosts share."""

from __future__ import annotations

from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "smbfs", "ceph", "panfs", "afs",
        "fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse", "pvfs2", "orangefs", "wekafs", "9p",
    }
)  # fmt: skip


def file_system_type(path: Path, mounts: str | None = None) -> str:
    """Return the type of the mount that holds `path`, as /proc/mounts names it; '' if unknown."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
    resolved = path.resolve()
    best, best_type = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " ").replace("\\011", "\t"))
        # A later mount on the same point hides the earlier one, hence >=.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, best_type = len(point.parts), fields[2]
    return best_type


def is_network_file_system(path: Path) -> bool:
    """Tell whether several hosts may have this file open, as on the homes of most clusters."""
    return file_system_type(path) in NETWORK_FILE_SYSTEMS
