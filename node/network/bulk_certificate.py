"""The certificate of bulk connections: made anew at each start, and known by its digest alone.

Spec: specs/network.md#bulk-connections.
"""

import datetime as dt
import hashlib
import os
import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LIFE: Final = dt.timedelta(days=3650)
"""Nobody reads it: the other side compares the digest."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a TLS listener needs, and the SHA-256 of its certificate (DER)."""

    context: ssl.SSLContext
    pin: bytes


def new_certificate() -> Certificate:
    """Make a key and a certificate, which are never on disk."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bulk")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFE)
        .not_valid_after(now + LIFE)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pin = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return Certificate(_listening(secret + text), pin)


def dialling_context() -> ssl.SSLContext:
    """Return a context that checks no certificate: the caller compares its digest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def pin_of(tls: ssl.SSLSocket) -> bytes:
    """Return the SHA-256 of the certificate at the other end."""
    return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").digest()


def _listening(chain: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # No session is resumed.
    handle = os.memfd_create("certificate", os.MFD_CLOEXEC)  # OpenSSL reads files only.
    try:
        os.write(handle, chain)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    return context
