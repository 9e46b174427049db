"""An on-disk cache of one byte string per item, which survives being killed at any moment without ever lying.

Two files. ``<name>.data`` holds the byte strings one after another, in the order they came. ``<name>.index`` holds a
header that names the key and one record per item: where its bytes lie, a checksum of the input they belong to and a
checksum of the bytes. A record is written only after its bytes are on the disk, so bytes without a record are
overwritten by the next run, and a record whose bytes do not match is dropped when it is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
import weakref
import zlib
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)
MAGIC = b"modelpress-teacher-cache-1\n".ljust(32, b"\0")
RECORD = np.dtype([("offset", "<i8"), ("size", "<i8"), ("source", "<u4"), ("check", "<u4")])
COMMIT_BYTES, COMMIT_SECONDS = 64 * 2**20, 10.0
SAMPLE, SAMPLE_SHARE, MARGIN = 256, 0.05, 1.2  # when, and how surely, the first items predict the size of the whole


class CacheUnavailable(Exception):
    """No cache this time: in use by another process, or too large. Says why."""


class ItemCache:
    """``items`` byte strings, by number. Holds an exclusive lock from opening to :meth:`close`.

    Raises:
        CacheUnavailable: another process holds it, or its data would outgrow ``limit_bytes``.
        OSError: the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str, key: str, items: int, limit_bytes: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = {kind: folder / f"{name}.{kind}" for kind in ("data", "index", "lock")}
        self._descriptors = [_locked(self._paths["lock"])]
        weakref.finalize(self, _close, self._descriptors, os.getpid())
        self.limit_bytes = min(limit_bytes, shutil.disk_usage(folder).free / 2 + self._size("data"))
        self._header = MAGIC + hashlib.sha256(f"{key}\n{items}".encode()).digest()
        self._records = self._read_index(items)
        self._data = self._open("data")
        self._index = self._open("index")
        self._drop_beyond(os.fstat(self._data).st_size)
        self._end = int((self._records["offset"] + self._records["size"]).max(initial=0))
        self.filled = int(np.count_nonzero(self._records["size"]))
        self._verified = np.zeros(items, dtype=bool)
        self._pending: list[int] = []
        self._committed_at, self._committed_end = time.monotonic(), self._end

    def get(self, item: int, source: int) -> bytes | None:
        """The bytes stored for ``item`` if they came from the same ``source`` (a checksum of the input)."""
        if not 0 <= item < len(self._records):
            return None
        record = self._records[item]
        if not record["size"] or record["source"] != source:
            return None
        found = os.pread(self._data, int(record["size"]), int(record["offset"]))
        if not self._verified[item] and _check(found, item) != record["check"]:
            log.warning("Cached teacher output of item %d is damaged; it is computed again.", item)
            self._records[item] = (0, 0, 0, 0)
            self.filled -= 1
            return None
        self._verified[item] = True
        return found

    def put(self, item: int, source: int, data: bytes) -> None:
        """Store ``data``, unless the item is held already: then this one is an augmented form of it."""
        if not 0 <= item < len(self._records) or self._records[item]["size"] or not data:
            return
        self._refuse_above_limit(len(data))
        if os.pwrite(self._data, data, self._end) != len(data):
            raise OSError("short write")
        self._records[item] = (self._end, len(data), source, _check(data, item))
        self._verified[item] = True
        self.filled += 1
        self._end += len(data)
        self._pending.append(item)
        if self._end - self._committed_end > COMMIT_BYTES or time.monotonic() - self._committed_at > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Bytes to the disk first, then the records that vouch for them."""
        if self._pending:
            os.fsync(self._data)
            for item in self._pending:
                os.pwrite(self._index, self._records[item].tobytes(), len(self._header) + item * RECORD.itemsize)
            os.fsync(self._index)
        self._pending.clear()
        self._committed_at, self._committed_end = time.monotonic(), self._end

    def close(self) -> None:
        """Commit and give up the lock. Safe to call twice."""
        if self._descriptors:
            try:
                self.commit()
            finally:
                _close(self._descriptors, os.getpid())

    def delete(self) -> None:
        """Remove the files and give up the lock."""
        for kind in ("index", "data"):
            self._paths[kind].unlink(missing_ok=True)
        self._pending.clear()
        _close(self._descriptors, os.getpid())

    def _open(self, kind: str) -> int:
        descriptor = os.open(self._paths[kind], os.O_RDWR | os.O_CREAT, 0o644)
        self._descriptors.append(descriptor)
        return descriptor

    def _size(self, kind: str) -> int:
        return self._paths[kind].stat().st_size if self._paths[kind].exists() else 0

    def _read_index(self, items: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """The records on disk, or a new empty index where there is none that fits the key."""
        path, size = self._paths["index"], len(self._header) + items * RECORD.itemsize
        found = path.read_bytes() if path.exists() else b""
        if len(found) != size or not found.startswith(self._header):
            if found:
                log.warning("Teacher cache %s is damaged or belongs to another key; it is built again.", path.name)
            found = self._header.ljust(size, b"\0")
            fresh = path.with_suffix(".new")
            fresh.write_bytes(found)
            os.replace(fresh, path)
        return np.frombuffer(found, dtype=RECORD, offset=len(self._header)).copy()

    def _drop_beyond(self, size: int) -> None:
        """Forget records that point outside the data file."""
        offset, length = self._records["offset"], self._records["size"]
        outside = (offset < 0) | (length < 0) | (length > size) | (offset > size - length)
        if outside.any():
            log.warning("Teacher cache: %d outputs are missing on disk; they are computed again.", outside.sum())
        self._records[outside] = 0

    def _refuse_above_limit(self, size: int) -> None:
        items, expected = len(self._records), 0.0
        if self.filled >= max(SAMPLE, SAMPLE_SHARE * items):
            expected = self._end / self.filled * items / MARGIN
        wanted = max(self._end + size, expected)
        if wanted > self.limit_bytes:
            raise CacheUnavailable(
                f"it needs at least {wanted / 1e9:.2g} GB, allowed are {self.limit_bytes / 1e9:.2g} GB "
                "(its limit, or half of the free disk)"
            )


def _check(data: bytes, item: int) -> int:
    """Checksum of the bytes and of whose they are."""
    return zlib.crc32(data, zlib.crc32(item.to_bytes(8, "little")))


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise CacheUnavailable(f"another process uses {path.name}") from error
    return descriptor


def _close(descriptors: list[int], owner: int) -> None:
    """Unlock for certain: a data-loading worker forked meanwhile holds copies of the descriptors."""
    if descriptors and os.getpid() == owner:
        fcntl.flock(descriptors[0], fcntl.LOCK_UN)
    while descriptors:
        os.close(descriptors.pop())
