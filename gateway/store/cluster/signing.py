"""The signature of a request to S3: Signature Version 4, by botocore."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from attrs import define, field
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The SHA-256 of nothing."""


class _Auth(S3SigV4Auth):  # type: ignore[misc]
    """Takes the digest of the content, which is not at hand as a whole."""

    def payload(self, request: Any) -> str:
        """The digest: with it the server stores what we meant, or nothing."""
        digest: str = request.context["digest"]
        return digest


@define(slots=False)
class Signer:
    """Signs with one key."""

    region: str
    access_key: str
    secret_key: str = field(repr=False)

    @cached_property
    def _auth(self) -> _Auth:
        return _Auth(Credentials(self.access_key, self.secret_key), "s3", self.region)

    def signed(
        self, method: str, url: str, headers: Mapping[str, str], digest: str = EMPTY
    ) -> dict[str, str]:
        """All headers of the request; ``digest``: the SHA-256 of its body, in hex.

        Valid for minutes: sign anew for each attempt.
        """
        request = AWSRequest(method, url, headers=headers)
        request.context["digest"] = digest
        self._auth.add_auth(request)
        return dict(request.headers.items())
