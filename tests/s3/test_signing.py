"""Signatures of requests to S3, beside those that botocore makes."""

from __future__ import annotations

import hashlib
import time
from typing import Any
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.signing import EMPTY, Signer

HOST = "s3.example.org"


class _Auth(S3SigV4Auth):  # type: ignore[misc]
    """Signs with a digest that is known, at the time that the request says."""

    def payload(self, request: Any) -> str:
        """The digest."""
        digest: str = request.context["digest"]
        return digest

    def _modify_request_before_signing(self, request: Any) -> None:
        super()._modify_request_before_signing(request)
        request.context["timestamp"] = request.context["now"]
        del request.headers["X-Amz-Date"]
        request.headers["X-Amz-Date"] = request.context["now"]


def by_botocore(
    signer: Signer, method: str, path: str, query: str, headers: dict[str, str], digest: str
) -> str:
    """The header ``Authorization``."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=headers)
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(signer.now())))
    request.context.update(digest=digest, now=now)
    auth = _Auth(Credentials(signer.access_key, signer.secret_key), "s3", signer.region)
    auth.add_auth(request)
    found: str = request.headers["Authorization"]
    return found


def fields(lines: str) -> dict[str, str]:
    """Fields by their names."""
    found = {}
    for line in lines.removesuffix("\r\n").split("\r\n"):
        name, _, value = line.partition(":")
        found[name] = value
    return found


TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/+=", min_size=1)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
QUERIES = st.dictionaries(st.text("abcxyz-", min_size=1, max_size=6), TEXTS, max_size=4)


@given(
    moment=st.floats(0, 4e9),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    region=st.sampled_from(["us-east-1", "eu-central-1", "default"]),
    key=TOKENS,
    secret=TOKENS,
    name=TEXTS,
    query=QUERIES,
    ranged=st.booleans(),
    body=st.binary(max_size=30),
)
def test_a_request_has_the_signature_that_botocore_makes(
    moment: float,
    method: str,
    region: str,
    key: str,
    secret: str,
    name: str,
    query: dict[str, str],
    ranged: bool,
    body: bytes,
) -> None:
    signer = Signer(region, key, secret, now=lambda: moment)
    path = f"/mail/{quote(name)}"
    asked = urlencode(sorted(query.items()), quote_via=quote)
    headers = {"range": "bytes=5-9"} if ranged else {}
    digest = hashlib.sha256(body).hexdigest() if body else EMPTY
    signed = fields(signer.fields(method, path, asked, {**headers, "host": HOST}, digest))
    assert signed.keys() >= {*headers, "host"}
    expected = by_botocore(signer, method, path, asked, headers, digest)
    assert signed["authorization"] == expected
    assert signed["x-amz-content-sha256"] == digest


def test_a_request_is_signed_with_the_time_of_that_request() -> None:
    now = [86_399.9]
    signer = Signer("us-east-1", "key", "secret", now=lambda: now[0])
    headers = {"host": HOST}
    before = fields(signer.fields("GET", "/", "", headers))
    now[0] = 86_400.0
    after = fields(signer.fields("GET", "/", "", headers))
    assert (before["x-amz-date"], after["x-amz-date"]) == ("19700101T235959Z", "19700102T000000Z")
    assert "/19700102/" in after["authorization"]
    assert after["authorization"] == by_botocore(signer, "GET", "/", "", {}, EMPTY)


def test_the_secret_key_is_in_no_text_of_a_signer() -> None:
    signer = Signer("us-east-1", "key", "a secret")
    signer.fields("GET", "/", "", {"host": HOST})
    assert "secret" not in repr(signer)
    assert "HMAC object" not in repr(signer)
