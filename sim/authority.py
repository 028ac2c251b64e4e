"""A certificate authority for thousands of piles: some 0.3 ms a certificate, where the openssl command takes 60."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sim.broker import ServerTls

_DAYS = 30


class FleetAuthority:
    """In its folder: ``ca.crt``, the broker's pair, and one file with certificate and key for each pile it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("pile authority")
        constraint = x509.BasicConstraints(ca=True, path_length=0)
        own = self._builder(self._name, self._key.public_key()).add_extension(constraint, critical=True)
        self.cert_file = folder / "ca.crt"
        self.cert_file.write_bytes(own.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def broker_tls(self) -> ServerTls:
        address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._builder(_name("broker"), key.public_key()).add_extension(address, critical=False)
        cert_file, key_file = self._folder / "broker.crt", self._folder / "broker.key"
        cert_file.write_bytes(cert.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        key_file.write_bytes(_key_text(key))
        return ServerTls(cert_file, key_file, self.cert_file)

    def sign(self, pile: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._builder(_name(pile), key.public_key()).sign(self._key, SHA256())
        self.file_of(pile).write_bytes(cert.public_bytes(Encoding.PEM) + _key_text(key))

    def file_of(self, pile: str) -> Path:
        return self._folder / f"{pile}.pem"

    def context_of(self, pile: str) -> ssl.SSLContext:
        """As the agent's: the broker must be of this authority, and the pile shows its certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert_file)
        context.load_cert_chain(self.file_of(pile))
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=_DAYS),
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
