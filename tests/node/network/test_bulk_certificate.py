"""A certificate is made anew, and known by its digest.

Spec: specs/network.md#bulk-connections.
"""

import socket
import ssl
import threading

from node.network.bulk_certificate import dialling_context, new_certificate, pin_of


def test_the_other_end_shows_the_certificate_of_the_pin() -> None:
    certificate = new_certificate()
    assert certificate.pin != new_certificate().pin
    ours, theirs = socket.socketpair()
    shown: list[bytes] = []

    def dial() -> None:
        with dialling_context().wrap_socket(theirs) as tls:
            shown.append(pin_of(tls))

    thread = threading.Thread(target=dial)
    thread.start()
    with certificate.context.wrap_socket(ours, server_side=True) as tls:
        assert tls.version() == "TLSv1.3"
        thread.join(60)
    assert shown == [certificate.pin]


def test_no_older_version_is_spoken() -> None:
    for context in (dialling_context(), new_certificate().context):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
