"""The maker's key files: Ed25519, NAME.pem private (PKCS #8, encrypted where a passphrase is given), NAME.pub public.

Needs the package ``cryptography`` (the ``maker`` extra); a pile never does.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from firmware_bridge import durable
from firmware_bridge.repository import MakerError


class KeyFileError(MakerError):
    """A key file that can't be used, or is there already: says which and why."""


def make_key(folder: Path, name: str, passphrase: bytes | None) -> tuple[Path, Path]:
    """A new key as two files in ``folder``, the private one with mode 0600; never replaces one. Raises KeyFileError."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise KeyFileError(f"{path} is there already: a key is never replaced, choose another name")
    key = Ed25519PrivateKey.generate()
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_file(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection), 0o600)
    spki = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    durable.write_file(public, spki)
    return private, public


def is_encrypted(path: Path) -> bool:
    """Whether a private key file asks for a passphrase."""
    return b"BEGIN ENCRYPTED" in path.read_bytes()


def load_signer(path: Path, passphrase: bytes | None) -> CryptoSigner:
    """Raises KeyFileError, OSError."""
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: no private key in PEM, or another passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: a {type(key).__name__}, expected an Ed25519 private key")
    return CryptoSigner(key)


def load_public(path: Path) -> SSlibKey:
    """The key as metadata carry it, with the file's name for people. Raises KeyFileError, OSError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise KeyFileError(f"{path}: no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: a {type(key).__name__}, expected an Ed25519 public key")
    found = SSlibKey.from_crypto(key)
    found.unrecognized_fields["name"] = path.stem
    return found
