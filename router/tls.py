"""The TLS context of a connection to a broker."""

import ssl

from router.config import Tls


class TlsFilesError(Exception):
    """A file can't be used; the text names it."""


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Checks the broker's certificate and host name. Raises ``TlsFilesError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
        else:
            context.load_default_certs()
        if tls.cert_file:
            # An encrypted key would make OpenSSL ask a terminal that is not there for its password.
            context.load_cert_chain(tls.cert_file, tls.key_file or None, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = " or ".join(one for one in (tls.ca_file, tls.cert_file, tls.key_file) if one)
        raise TlsFilesError(f"cannot use {files}: {error}") from error
    return context
