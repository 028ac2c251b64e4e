"""Certificates for the TLS tests, made by the ``openssl`` command in a few dozen milliseconds."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    cert: Path
    key: Path


class Authority:
    """A certificate authority in ``folder`` that signs what it is asked to."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        _openssl(*_new_key(self._pair), "-x509", "-days", "30", "-subj", f"/CN={name}", "-out", str(self._pair.cert))

    @property
    def cert(self) -> Path:
        return self._pair.cert

    def sign(self, name: str, alt_names: str, days: int = 30) -> KeyPair:
        """A certificate for ``alt_names`` ("DNS:a,IP:1.2.3.4"). With negative ``days`` it expired that long ago."""
        pair = KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request = self._folder / f"{name}.csr"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alt_names}\n")
        _openssl(*_new_key(pair), "-subj", f"/CN={name}", "-out", str(request))
        authority = ["-CA", str(self._pair.cert), "-CAkey", str(self._pair.key), "-CAcreateserial"]
        output = ["-days", str(days), "-extfile", str(extensions), "-out", str(pair.cert)]
        _openssl("x509", "-req", "-in", str(request), *authority, *output)
        return pair


def _new_key(pair: KeyPair) -> list[str]:
    return ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(pair.key)]


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
