"""The signature of a request to S3: AWS Signature Version 4.

The source is "Authenticating Requests: Using the Authorization Header" of the Amazon S3 API
reference.  docs/cluster.md says why no library makes it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

from attrs import define, field

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The SHA-256 of nothing."""

METHOD = "AWS4-HMAC-SHA256"


@define
class Signer:
    """Signs with one key."""

    region: str
    access_key: str
    secret_key: str = field(repr=False)
    now: Callable[[], float] = time.time
    _second: int = field(default=-1, init=False)
    _stamp: str = field(default="", init=False)
    _scope: str = field(default="", init=False)
    _key: bytes = field(default=b"", init=False, repr=False)

    def signed(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        digest: str = EMPTY,
    ) -> dict[str, str]:
        """All headers of the request.

        ``path`` and ``query`` as they are sent, the query sorted; ``headers``: the others, with
        ``host``, in lower case; ``digest``: the SHA-256 of the body, in hex: with it the server
        stores what we meant, or nothing.  Valid for minutes: sign anew for each attempt.
        """
        if int(self.now()) != self._second:
            self._begin_second()
        signed = {**headers, "x-amz-content-sha256": digest, "x-amz-date": self._stamp}
        names = sorted(signed)
        lines = [f"{name}:{signed[name]}" for name in names]
        named = ";".join(names)
        request = "\n".join([method, path, query, *lines, "", named, digest])
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = f"{METHOD}\n{self._stamp}\n{self._scope}\n{hashed}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"{METHOD} Credential={self.access_key}/{self._scope},"
            f" SignedHeaders={named}, Signature={signature}"
        )
        return signed

    def _begin_second(self) -> None:
        self._second = int(self.now())
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._second))
        scope = f"{self._stamp[:8]}/{self.region}/s3/aws4_request"
        if scope != self._scope:
            self._scope = scope
            self._key = f"AWS4{self.secret_key}".encode()
            for part in scope.split("/"):
                self._key = hmac.digest(self._key, part.encode(), "sha256")
