"""Reading a message piece by piece."""

from __future__ import annotations

from gateway.interfaces import IBody


async def next_piece(body: IBody) -> bytes:
    """The next octets; ``b""`` at the end.  Raises as ``IBody.read`` fails."""
    data = body.read_now()
    return await body.read() if data is None else data
