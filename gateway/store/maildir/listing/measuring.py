"""Measure messages: what RETR sends of a file.  Blocks: call it in a thread."""

from __future__ import annotations

import os

from gateway.store.maildir.folders.files import CHUNK, open_message, version_of
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.listing.compressed import HEAD, Unpacked, kind_of
from gateway.store.maildir.listing.snapshot import CLAIMED, PACKED, Size
from gateway.wire.body import Measure, canonical


def size_of(octets: int, status: os.stat_result, form: int = CLAIMED) -> Size:
    """Record a size with the status of its file."""
    return Size(octets, form, False, status.st_size, version_of(status), status.st_ctime_ns)


def measure(place: Place, file: str, *, exact: bool, convert_cr: bool) -> Size:
    """Read a whole message and count the octets that RETR sends.  Blocks.

    Not ``exact``: the size of the file.  Raises ``OSError`` that names the file.
    """
    try:
        opened, status = open_message(*place.reach(file))
    except OSError as error:
        error.filename = place.at(file)
        raise
    try:
        data = os.read(opened, CHUNK if exact else HEAD)
        kind = kind_of(data[:HEAD])
        if kind is not None:
            counted, packed = Measure(convert_cr=convert_cr), Unpacked(opened, kind, place.at(file))
            while data := packed.read():
                counted.feed(data)
            return _unpacked_size(counted, status, exact=exact)
        if not exact:
            return size_of(status.st_size, status)
        if data and len(data) == status.st_size:
            # Most messages: what RETR will do with it takes less than to count.
            text, form = canonical(data, convert_cr=convert_cr)
            is_whole = data.endswith((b"\n", b"\r") if convert_cr else b"\n")
            version, changed = version_of(status), status.st_ctime_ns
            return Size(len(text), form, is_whole, len(data), version, changed)
        counted, stored = Measure(convert_cr=convert_cr), 0
        while data:
            counted.feed(data)
            stored += len(data)
            # A file that grows meanwhile has another version.
            data = os.read(opened, CHUNK) if stored < status.st_size else b""
    except OSError as error:
        error.filename = place.at(file)
        raise
    finally:
        os.close(opened)
    size = size_of(counted.octets, status, counted.form)
    return size._replace(whole=counted.whole, stored=stored)


def _unpacked_size(counted: Measure, status: os.stat_result, *, exact: bool) -> Size:
    if not exact:
        return size_of(counted.length, status, PACKED)
    return size_of(counted.octets, status, counted.form | PACKED)._replace(whole=counted.whole)
