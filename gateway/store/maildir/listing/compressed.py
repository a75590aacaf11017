"""Messages that Dovecot compressed (``zlib_save``, ``mail_compress``).  Blocks: call in a thread.

The first octets of a file tell its compression, as in Dovecot; no message begins like
that.  ``S=`` and ``W=`` of its name are sizes of the message, not of the file.  The
output is limited per step and in total.
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
"""Octets at the start that tell the compression."""

MOST = 512 * 1024 * 1024
"""Largest decompressed message in octets; a small file could expand without limit."""

STREAMS = 1000
"""Most compressed streams in a file."""

MEMORY = 128 * 1024 * 1024
"""Memory limit of XZ decompression; ``xz -9`` needs half of it."""

EXTRA = "install pop3gw[compression]"


class Stream(Protocol):
    """The interface of decompressors in Python's ``bz2`` and ``lzma``."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed."""

    @property
    def unused_data(self) -> bytes:
        """Octets after the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Up to this many decompressed octets; raises the library's error."""


class Gzip:
    """A ``Stream`` of zlib, which checks length and CRC."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed."""
        return not self._full

    @property
    def unused_data(self) -> bytes:
        """Octets after the end of the stream."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Up to this many decompressed octets; raises ``zlib.error``."""
        made = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        # zlib may have more output although it has taken all input.
        self._full = len(made) == max_length
        return made


class Lz4:
    """A ``Stream`` of Dovecot's format: LZ4 blocks with lengths (``iostream-lz4.h``)."""

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
    """A kind of compression."""

    name: str
    begins: re.Pattern[bytes]
    """The first octets of such a file, at most ``HEAD``."""

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
    # Encrypted, not compressed: a client could not read it.
    Kind("mail_crypt", re.compile(rb"CRYPTED\x03\x07"), _encrypted),
)


_BEGINS_AS_ANY = re.compile(b"|".join(kind.begins.pattern for kind in KINDS)).match


def kind_of(head: bytes) -> Kind | None:
    """The compression of a file with these first octets."""
    if _BEGINS_AS_ANY(head) is None:
        return None
    return next((kind for kind in KINDS if kind.begins.match(head)), None)


class Unpacked:
    """Reads a compressed message from an open file, from start to end."""

    def __init__(self, file: int, kind: Kind, path: str) -> None:
        """``path``: for errors, and for the size in the name."""
        self._file = file
        self._kind = kind
        self._path = path
        self._at = 0
        self._made = 0
        self._streams = 0
        self._stream: Stream | None = None

    def read(self) -> bytes:
        """The next octets, or ``b""`` at the end.

        Raises ``OSError``, with ``EBADMSG`` if it cannot be decompressed.
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
            # The error class of Zstandard exists only with its library.
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
        """Go to the next stream; False: there is none."""
        self._at -= len(stream.unused_data)
        head = os.pread(self._file, HEAD, self._at)
        if head and kind_of(head) is not self._kind:
            raise self._damaged("something else follows its end")
        return bool(head)

    def _check_length(self) -> None:
        """Check the size of an LZ4 message by ``S=`` in the name: LZ4 has no end mark."""
        named = stored_size(base_of(os.path.basename(self._path)))
        if self._kind.start is Lz4 and named is not None and self._made < named:
            raise self._damaged("it ends too early")

    def _damaged(self, why: str) -> OSError:
        reason = f"a message packed by {self._kind.name} cannot be read: {why}"
        return OSError(errno.EBADMSG, reason, self._path)


def unpacked(file: int, path: str) -> Unpacked | None:
    """A reader of the compressed message in an open file; None: not compressed."""
    kind = kind_of(os.pread(file, HEAD, 0))
    return None if kind is None else Unpacked(file, kind, path)


def is_packed(path: str) -> bool:
    """Whether a message file is compressed.  Raises ``OSError``."""
    file, _ = open_message(path)
    try:
        return kind_of(os.pread(file, HEAD, 0)) is not None
    finally:
        os.close(file)


def begins_packed(file: int) -> bool | None:
    """Whether an open file is compressed; None: reading would wait for the disk."""
    buffer = bytearray(HEAD)
    try:
        got = os.preadv(file, (buffer,), 0, os.RWF_NOWAIT)
    except OSError:
        return None
    return kind_of(bytes(buffer[:got])) is not None


@implementer(IBody)
class UnpackedBody:
    """A compressed message in an open file."""

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
        """None: decompression runs in a thread; ``b""`` at the end."""
        return b"" if self._ended else None

    def read(self) -> Deferred[bytes]:
        """The next octets, decompressed in a thread."""
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
