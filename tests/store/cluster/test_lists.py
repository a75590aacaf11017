"""Lists of a bucket, as servers differ in how they write the names of objects."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from gateway.store.cluster.bodies.blobs import BEGIN, Blobs, Marker
from gateway.store.cluster.bodies.keys import object_name
from played_server import requests_of

KEY = UUID(int=7)

OURS = object_name(KEY)

ENCODED = "<EncodingType>url</EncodingType>"

NAMES = [
    # As a server writes a name, what else its list says, and the name.
    (OURS.replace("/", "%2F"), ENCODED, OURS),
    (OURS, "", OURS),
    (OURS.replace("/", "%2F"), "", OURS.replace("/", "%2F")),
    ("a+b%2Bc%25%01", ENCODED, "a b+c%\x01"),
    ("a%20b%EF%BF%BE", ENCODED, "a b\ufffe"),
    ("a+b%2Bc%25", "", "a+b%2Bc%25"),
    ("a&#x01;b&#x1F;c&#x1;", "", "a\x01b\x1fc\x01"),
    ("a\ufffeb\uffffc&#13;", "", "a\ufffeb\uffffc\r"),
]


class ListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.server, requests = requests_of(2)
        self.blobs = Blobs(requests)

    def asked(self) -> dict[str, list[str]]:
        """What is asked for."""
        target = self.server.transports[-1].value().split()[1].decode()
        return parse_qs(urlsplit(target).query, keep_blank_values=True)

    def say(self, xml: str, has_more: str = "true") -> None:
        """Answer the request that is open."""
        transport = self.server.transports[-1]
        transport.clear()
        text = f"<List>{xml}<IsTruncated>{has_more}</IsTruncated></List>".encode()
        transport.protocol.dataReceived(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        )

    def test_a_list_of_bodies_goes_on_after_its_last_name_as_the_server_means_it(self) -> None:
        for written, says, name in NAMES:
            asked = self.blobs.list()
            self.assertEqual(self.asked()["encoding-type"], ["url"])
            token = "<NextContinuationToken>a&#x01;</NextContinuationToken>"
            self.say(f"{says}{token}<C><Key>{written}</Key><Size>9</Size></C>")
            listed = self.successResultOf(asked)
            self.assertEqual(listed.keys, [KEY] if name == OURS else [])
            self.assertEqual(listed.after, name)
            self.blobs.list(listed.after)
            self.assertEqual(self.asked()["start-after"], [name])
            self.say("")

    def test_a_list_of_uploads_goes_on_after_its_marker_as_the_server_means_it(self) -> None:
        for written, says, name in NAMES:
            asked = self.blobs.uploads()
            self.assertEqual(self.asked()["encoding-type"], ["url"])
            marker = f"<NextKeyMarker>{written}</NextKeyMarker>"
            marker += "<NextUploadIdMarker>2~a%2Bb</NextUploadIdMarker>"
            one = f"<U><Key>{written}</Key><UploadId>1%2B</UploadId></U>"
            self.say(f"{says}{marker}{one}")
            uploads = self.successResultOf(asked)
            found = [(KEY, "1%2B")] if name == OURS else []
            self.assertEqual(uploads.found, found)
            self.assertEqual(uploads.after, Marker(name, "2~a%2Bb"))
            self.blobs.uploads(uploads.after)
            self.assertEqual(self.asked()["key-marker"], [name])
            self.assertEqual(self.asked()["upload-id-marker"], ["2~a%2Bb"])
            self.say("<NextKeyMarker>z</NextKeyMarker>")

    def test_a_marker_of_a_list_that_is_whole_is_not_followed(self) -> None:
        # Ceph writes one there too.
        asked = self.blobs.uploads()
        self.say("<NextKeyMarker>&#x01;</NextKeyMarker>", has_more="false")
        self.assertEqual(self.successResultOf(asked).after, BEGIN)
