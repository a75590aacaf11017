"""Uploads that S3, or a proxy before it, answers with 200 and has not stored."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import GatewayError, StoreDown
from gateway.s3.connection import Content
from gateway.s3.requests import LONGEST
from gateway.store.cluster.bodies.blobs import Blobs, Upload
from played_server import requests_of

XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'

RESULT = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"

IN_NAMESPACE = (
    b'<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"</CompleteMultipartUploadResult>"
)

ERROR = b"<Code>InternalError</Code></Error>"

FAILED = [
    XML + b"<Error>" + ERROR,
    XML + b" " * 500 + b"<Error>" + ERROR,
    b" " * 500 + XML + b"<Error>" + ERROR,
    XML + b'<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' + ERROR,
    XML + b'<s3:Error xmlns:s3="x">' + ERROR.replace(b"/Error", b"/s3:Error"),
]

NOTHING_SAID = [
    b"",
    b" " * 500,
    b"<html>maintenance</html>",
    b"<CompleteMultipartUploadResult>",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + RESULT,
    b'<?xml version="1.0" encoding="none"?>' + RESULT,
]

PARTS = b"rest of it"

NOT_THERE = b"<Error><Code>NoSuchKey</Code></Error>"


def answer(text: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    """What a server says."""
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, more, len(text), text)


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.server, requests = requests_of(2)
        self.blobs = Blobs(requests)

    def say(self, said: bytes) -> bytes:
        """Answer the request that is open; returns it."""
        transport = self.server.transports[-1]
        asked = transport.value()
        transport.clear()
        transport.protocol.dataReceived(said)
        return asked

    def ended(self, said: bytes) -> tuple[Upload, Deferred[None]]:
        """An upload in parts, of which the end is answered so."""
        upload = self.blobs.new()
        sent = upload.part(Content([PARTS[:4]]))
        self.say(answer(b"<R><UploadId>u</UploadId></R>"))
        self.say(answer(b"", more=b'ETag: "x"\r\n'))
        self.successResultOf(sent)
        finished = upload.finish(Content([PARTS[4:]]))
        self.say(answer(b"", more=b'ETag: "y"\r\n'))
        self.assertIn(b"POST /mail/", self.say(said))
        return upload, finished

    def is_stored(self, upload: Upload) -> bool:
        """Whether a drop removes the object, and not the upload."""
        upload.drop()
        return b"uploadId" not in self.server.transports[-1].value()

    def test_the_result_of_s3_in_whatever_namespace_says_that_a_body_is_stored(self) -> None:
        for text in (RESULT, XML + b" " * 500 + RESULT, b"\n " + XML + RESULT, IN_NAMESPACE):
            upload, finished = self.ended(answer(text))
            self.successResultOf(finished)
            self.assertTrue(self.is_stored(upload))

    def test_an_error_after_200_is_one_wherever_white_space_and_namespaces_are(self) -> None:
        for text in FAILED:
            upload, finished = self.ended(answer(text))
            failure = self.failureResultOf(finished, StoreDown)
            self.assertIn("InternalError", str(failure.value))
            self.assertFalse(self.is_stored(upload))

    def test_any_other_answer_says_nothing_and_the_body_is_asked_for(self) -> None:
        for text in NOTHING_SAID:
            _, finished = self.ended(answer(text))
            self.assertNoResult(finished)
            self.assertIn(b"GET /mail/", self.say(answer(PARTS)))
            self.successResultOf(finished)
            self.fails_unless_there(self.ended(answer(text)))

    def test_so_it_is_where_an_attempt_that_was_not_answered_has_ended_the_upload(self) -> None:
        gone = answer(b"<Error><Code>NoSuchUpload</Code></Error>", b"404 Not Found")
        _, finished = self.ended(gone)
        self.say(answer(PARTS))
        self.successResultOf(finished)
        self.fails_unless_there(self.ended(gone))

    def fails_unless_there(self, begun: tuple[Upload, Deferred[Any]]) -> None:
        """Of an upload that asks for its body: it fails if there is none."""
        upload, finished = begun
        self.say(answer(NOT_THERE, b"404 Not Found"))
        self.failureResultOf(finished, StoreDown)
        self.assertFalse(self.is_stored(upload))

    def test_a_body_of_another_length_is_not_the_one_that_was_sent(self) -> None:
        for found in (PARTS[:-1], PARTS + b"!"):
            upload, finished = self.ended(answer(b""))
            self.say(answer(found))
            self.failureResultOf(finished, StoreDown)
            self.assertFalse(self.is_stored(upload))

    def test_an_answer_without_end_is_not_kept_in_memory(self) -> None:
        _, finished = self.ended(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b" " * (LONGEST // 4)
        for _ in range(5):
            self.server.transports[-1].protocol.dataReceived(b"%x\r\n%s\r\n" % (len(piece), piece))
        error: GatewayError = self.failureResultOf(finished, StoreDown).value
        self.assertIn("more than", str(error))
        self.assertTrue(self.server.transports[-1].aborted)

    def test_a_page_of_a_proxy_is_no_answer_to_a_whole_body_either(self) -> None:
        page = answer(b"<html>maintenance</html>")
        for found, is_there in ((answer(PARTS), True), (page, False)):
            finished = self.blobs.new().finish(Content([PARTS]))
            self.say(page)
            self.say(found)
            if is_there:
                self.successResultOf(finished)
            else:
                self.failureResultOf(finished, StoreDown)
