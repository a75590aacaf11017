"""Messages that Dovecot has compressed (``zlib_save``, ``mail_compress``).  Blocks: for a worker.

A file says by its first octets what it is packed in, as Dovecot takes it, and no
message begins like that.  ``S=`` and ``W=`` of its name are sizes of the message,
not of the file.  What comes out is bounded: at each step, and in all.
"""

from __future__ import annotations

import bz2
import errno
import lzma
import os
import re
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gateway.errors import SizeChanged
from gateway.interfaces import IBody, Run
from gateway.model import Form
from gateway.store.maildir.folders.files import CHUNK, open_message, store_error
from gateway.store.maildir.folders.scan import stored_size
from gateway.store.maildir.uids.uidlist import base_of

HEAD = 16
"""Octets that tell what a file is packed in."""

MOST = 512 * 1024 * 1024
"""Octets of the largest message that is unpacked; a small file could say it has any number."""

STREAMS = 1000
"""How many compressed streams one file may be made of."""

MEMORY = 128 * 1024 * 1024
"""What an XZ stream may take to unpack; what ``xz -9`` makes takes half of it."""

EXTRA = "install pop3gw[compression]"


class Stream(Protocol):
    """As the decompressors of Python's ``bz2`` and ``lzma`` are."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing comes out without new octets."""

    @property
    def unused_data(self) -> bytes:
        """What follows the stream's end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next octets, up to this number; raises the library's error."""


class Gzip:
    """A ``Stream`` of zlib's, which checks length and CRC."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing comes out without new octets."""
        return not self._full

    @property
    def unused_data(self) -> bytes:
        """What follows the stream's end."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next octets, up to this number; raises ``zlib.error``."""
        made = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        # Then zlib may have more, though it has taken all that it was given.
        self._full = len(made) == max_length
        return made


class Lz4:
    """A ``Stream`` of Dovecot's own: blocks of LZ4, each after its length (``iostream-lz4.h``)."""

    MAGIC = b"Dovecot-LZ4\x0d\x2a\x9b\xc5"
    LARGEST = 1024 * 1024
    """Octets in one block; Dovecot writes 64 KiB."""

    unused_data = b""

    def __init__(self) -> None:
        self.eof = False
        self.needs_input = True
        self._block = import_module("lz4.block")
        self._data = b""
        self._size = 0

    def decompress(self, data: bytes, max_length: int) -> bytes:  # noqa: ARG002
        """The next block or ``b""``; raises ``ValueError`` or lz4's own ``RuntimeError``.

        A block may be larger than ``max_length``, but it has its own bound.
        """
        self._data += data
        block = self._next_block()
        self.needs_input = block is None
        if block is None:
            # It does not tell its end: the file ends between two blocks.
            self.eof = not (data or self._data) and self._size > 0
            return b""
        made: bytes = self._block.decompress(block, uncompressed_size=self._size)
        return made

    def _next_block(self) -> bytes | None:
        begin = len(self.MAGIC) + 4
        if not self._size and len(self._data) >= begin:
            self._size = self._bounded(self._data[begin - 4 : begin])
            self._data = self._data[begin:]
        if not self._size or len(self._data) < 4:
            return None
        end = 4 + self._bounded(self._data[:4])
        if len(self._data) < end:
            return None
        block, self._data = self._data[4:end], self._data[end:]
        return block

    def _bounded(self, number: bytes) -> int:
        octets = int.from_bytes(number, "big")
        if not 0 < octets <= self.LARGEST:
            raise ValueError(f"a block of {octets} octets")
        return octets


def _zstd() -> Stream:
    try:
        # Python 3.14 has it.
        module = import_module("compression.zstd")
    except ModuleNotFoundError:
        module = import_module("backports.zstd")
    stream: Stream = module.ZstdDecompressor()
    return stream


def _encrypted() -> Stream:
    raise ValueError("only Dovecot has the keys")


class Kind(NamedTuple):
    """One way to pack a message."""

    name: str
    begins: re.Pattern[bytes]
    """How such a file begins, in at most ``HEAD`` octets."""

    start: Callable[[], Any]
    """Makes a ``Stream``; raises ``ModuleNotFoundError`` without its library."""


KINDS = (
    Kind("gzip", re.compile(rb"\x1f\x8b"), Gzip),
    # Level, and the mark of the first block or of the end.
    Kind("bzip2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
    Kind(
        "xz",
        re.compile(rb"\xfd7zXZ\0"),
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY),
    ),
    Kind("lz4", re.compile(re.escape(Lz4.MAGIC)), Lz4),
    Kind("zstd", re.compile(rb"\x28\xb5\x2f\xfd"), _zstd),
    # Not compressed, but nothing that a client could read either.
    Kind("mail_crypt", re.compile(rb"CRYPTED\x03\x07"), _encrypted),
)


def kind_of(head: bytes) -> Kind | None:
    """What a file that begins so is packed in."""
    return next((kind for kind in KINDS if kind.begins.match(head)), None)


class Unpacked:
    """The octets of a message that is packed in an open file, from front to back."""

    def __init__(self, file: int, kind: Kind, path: str) -> None:
        """``path`` is for what is raised, and may tell the message's size."""
        self._file = file
        self._kind = kind
        self._path = path
        self._at = 0
        self._made = 0
        self._streams = 0
        self._stream: Stream | None = None

    def read(self) -> bytes:
        """The next octets, or ``b""`` at the end.

        Raises ``OSError``, with ``EBADMSG`` where it cannot be unpacked.
        """
        while True:
            stream = self._stream or self._begin()
            wanted = stream.needs_input
            data = os.pread(self._file, CHUNK, self._at) if wanted else b""
            self._at += len(data)
            made = self._step(stream, data)
            if made:
                return made
            if stream.eof:
                if not self._is_followed(stream):
                    self._check_length()
                    return b""
                self._stream = None
            elif wanted and not data:
                raise self._damaged("it ends too early")

    def _step(self, stream: Stream, data: bytes) -> bytes:
        if stream.eof:
            return b""
        try:
            made = stream.decompress(data, CHUNK)
        except (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError) as error:
            raise self._damaged(str(error)) from None
        except Exception as error:
            # Zstandard's own class is known only where there is the library.
            if isinstance(error, MemoryError) or type(error).__name__ != "ZstdError":
                raise
            raise self._damaged(str(error)) from None
        self._made += len(made)
        if self._made > MOST:
            raise self._damaged(f"the message has more than {MOST} octets")
        return made

    def _begin(self) -> Stream:
        self._streams += 1
        if self._streams > STREAMS:
            raise self._damaged(f"it has more than {STREAMS} streams")
        try:
            self._stream = self._kind.start()
        except ModuleNotFoundError:
            raise self._damaged(EXTRA) from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        assert self._stream is not None
        return self._stream

    def _is_followed(self, stream: Stream) -> bool:
        """Whether another stream follows; and go there."""
        self._at -= len(stream.unused_data)
        head = os.pread(self._file, HEAD, self._at)
        if head and kind_of(head) is not self._kind:
            raise self._damaged("something else follows its end")
        return bool(head)

    def _check_length(self) -> None:
        """LZ4 does not tell where it ends, but ``S=`` in the name does, and Dovecot writes it."""
        named = stored_size(base_of(os.path.basename(self._path)))
        if self._kind.start is Lz4 and named is not None and self._made < named:
            raise self._damaged("it ends too early")

    def _damaged(self, why: str) -> OSError:
        reason = f"a message packed by {self._kind.name} cannot be read: {why}"
        return OSError(errno.EBADMSG, reason, self._path)


def unpacked(file: int, path: str) -> Unpacked | None:
    """What gives the message in an open file that is packed; None for any other."""
    kind = kind_of(os.pread(file, HEAD, 0))
    return None if kind is None else Unpacked(file, kind, path)


def is_packed(path: str) -> bool:
    """Whether a message file is packed.  Raises ``OSError``."""
    file, _ = open_message(path)
    try:
        return kind_of(os.pread(file, HEAD, 0)) is not None
    finally:
        os.close(file)


def begins_packed(file: int) -> bool | None:
    """Whether an open file is packed; None where the disk would have to be waited for."""
    buffer = bytearray(HEAD)
    try:
        got = os.preadv(file, (buffer,), 0, os.RWF_NOWAIT)
    except OSError:
        return None
    return kind_of(bytes(buffer[:got])) is not None


@implementer(IBody)
class UnpackedBody:
    """A message that is packed in an open file."""

    __slots__ = ("_ended", "_file", "_no_nuls", "_packed", "_path", "_run", "form")

    def __init__(self, file: int, form: Form, *, path: str, no_nuls: bool, run: Run) -> None:
        """``path`` is for the log."""
        self.form = form
        self._file = file
        self._packed: Unpacked | None = None
        self._ended = False
        self._path = path
        self._no_nuls = no_nuls
        self._run = run

    def read_now(self) -> bytes | None:
        """None, since to unpack takes a worker; ``b""`` at the end."""
        return b"" if self._ended else None

    def read(self) -> Deferred[bytes]:
        """The next octets, unpacked on a worker."""
        return self._run(self._next)

    def _next(self) -> bytes:
        try:
            if self._packed is None:
                self._packed = unpacked(self._file, self._path)
            if self._packed is None:
                raise SizeChanged(f"{self._path}: was written to after it was listed")
            data = self._packed.read()
        except OSError as error:
            raise store_error(error, self._path) from error
        self._ended = not data
        return data.replace(b"\0", b"\x80") if self._no_nuls else data

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
