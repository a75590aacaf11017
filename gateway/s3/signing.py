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
    _keyed: hmac.HMAC | None = field(default=None, init=False, repr=False)
    """The key of the day has been fed to it: a copy costs a third of a new one."""

    def fields(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        digest: str = EMPTY,
    ) -> str:
        """The fields that are signed and their signature, as lines of the request's head.

        ``path`` and ``query`` as they are sent, the query sorted; ``headers``: ``host`` and
        others, in lower case, before ``x-amz-`` in the alphabet; ``digest``: the SHA-256 of the
        body, in hex: with it the server stores what we meant, or nothing.  Valid for minutes:
        sign anew for each attempt.
        """
        if int(self.now()) != self._second:
            self._begin_second()
        names = sorted(headers)
        lines = "".join([f"{name}:{headers[name]}\n" for name in names])
        lines += f"x-amz-content-sha256:{digest}\nx-amz-date:{self._stamp}\n"
        named = f"{';'.join(names)};x-amz-content-sha256;x-amz-date"
        request = f"{method}\n{path}\n{query}\n{lines}\n{named}\n{digest}"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        assert self._keyed is not None
        signature = self._keyed.copy()
        signature.update(f"{METHOD}\n{self._stamp}\n{self._scope}\n{hashed}".encode())
        return lines.replace("\n", "\r\n") + (
            f"authorization:{METHOD} Credential={self.access_key}/{self._scope},"
            f" SignedHeaders={named}, Signature={signature.hexdigest()}\r\n"
        )

    def _begin_second(self) -> None:
        self._second = int(self.now())
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._second))
        scope = f"{self._stamp[:8]}/{self.region}/s3/aws4_request"
        if scope != self._scope:
            self._scope = scope
            key = f"AWS4{self.secret_key}".encode()
            for part in scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._keyed = hmac.new(key, digestmod="sha256")
