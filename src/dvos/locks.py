"""Opening files and locking them, the same on POSIX and Windows; links are never followed.

A lock lasts until its handle is closed or the process ends, and is not inherited. Windows knows
neither locks on folders nor ``O_NOFOLLOW``, denies others to write what is locked, and lets nobody
remove an open file. So there a folder is locked by a file in it, a byte is locked that no file of
ours reaches, and an open file needs no lock against removal.
"""

import errno
import os
import sys
from pathlib import Path

#: Whether a file that is open can be renamed and removed, so that only a lock protects it.
OPEN_FILES_CAN_GO = sys.platform != "win32"

if sys.platform == "win32":
    import msvcrt

    #: The file by which a folder is locked.
    _OF_FOLDER = ".dvos-lock"
    #: The C library counts to 2**31 here.
    _BYTE = 2**31 - 2

    def open_file(path: Path | str, flags: int) -> int:
        """Open a file with the flags of :func:`os.open`, never a link, binary, not inherited."""
        if Path(path).is_symlink():
            raise OSError(errno.ELOOP, "is a link", str(path))
        return os.open(path, flags | os.O_BINARY | os.O_NOINHERIT, 0o666)

    def open_to_lock(path: Path) -> int:
        """Open what is there, a file or a folder, to lock it."""
        if path.is_dir():
            return open_file(path / _OF_FOLDER, os.O_RDWR | os.O_CREAT)
        return open_file(path, os.O_RDWR)

    def lock(handle: int, *, wait: bool = False) -> None:
        """Lock an open file, whose position moves; BlockingIOError if another holds it."""
        os.lseek(handle, _BYTE, os.SEEK_SET)
        while True:
            try:
                # Waiting, the C library tries for ten seconds.
                msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    raise BlockingIOError(errno.EAGAIN, "is locked") from error
            else:
                return

else:
    import fcntl

    def open_file(path: Path | str, flags: int) -> int:
        """Open a file with the flags of :func:`os.open`, never a link, not inherited."""
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def open_to_lock(path: Path) -> int:
        """Open what is there, a file or a folder, to lock it."""
        return open_file(path, os.O_RDONLY | os.O_NONBLOCK)

    def lock(handle: int, *, wait: bool = False) -> None:
        """Lock an open file; BlockingIOError if another holds it, OSError if there are no locks."""
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
