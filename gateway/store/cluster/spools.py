"""Records of fixed length in temporary files: more than memory can hold.  Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from struct import Struct
from typing import IO, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from gateway.store.cluster.sql.rows import Stored

T = TypeVar("T")


class Spool(Generic[T]):
    """One file of records."""

    def __init__(self, file: IO[bytes], record: Struct, make: Any, split: Any) -> None:
        """``make`` makes a value of the fields of a record, ``split`` the fields of a value."""
        self._file = file
        self._record = record
        self._make = make
        self._split = split
        self.count = 0

    def add(self, value: T) -> None:
        """Write a value."""
        self._file.write(self._record.pack(*self._split(value)))
        self.count += 1

    def batches(self, most: int) -> Iterator[list[T]]:
        """All values in the order in which they were written, up to ``most`` at a time."""
        self._file.seek(0)
        while data := self._file.read(most * self._record.size):
            yield [self._make(*fields) for fields in self._record.iter_unpack(data)]


class Object(NamedTuple):
    """A body as the bucket lists it."""

    body: UUID
    octets: int


def rows_spool(files: ExitStack, path: str) -> Spool[Stored]:
    """For messages with bodies, until ``files`` is closed."""

    def make(body: bytes, mailbox: int, uid: int, octets: int) -> Stored:
        return Stored(UUID(bytes=body), mailbox, uid, octets)

    file = files.enter_context(open(path, "w+b"))  # noqa: SIM115
    return Spool(file, Struct(">16sqqq"), make, lambda one: (one.body.bytes, *one[1:]))


def objects_spool(files: ExitStack, path: str) -> Spool[Object]:
    """For bodies, until ``files`` is closed."""

    def make(body: bytes, octets: int) -> Object:
        return Object(UUID(bytes=body), octets)

    file = files.enter_context(open(path, "w+b"))  # noqa: SIM115
    return Spool(file, Struct(">16sq"), make, lambda one: (one.body.bytes, one.octets))
