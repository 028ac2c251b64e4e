"""Reaching a broker: TLS, and every way a dial can fail, in words. For the pile's link and for pile-router."""

import errno
import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an agent without TLS does not load it
    import ssl

# OpenSSL's X509_V_ERR_* numbers, as ssl.SSLCertVerificationError.verify_code gives them.
_CERTIFICATE_FAULTS = {
    9: "its certificate is not valid yet, or our clock is wrong",
    10: "its certificate has expired, or our clock is wrong",
    18: "its certificate is signed by itself and not in our CA file",
    19: "its certificate comes from an authority that is not in our CA file",
    20: "its certificate comes from an authority that is not in our CA file",
    21: "its certificate comes from an authority that is not in our CA file",
    23: "its certificate has been revoked",
    62: "its certificate is for another host name",
    64: "its certificate is for another IP address",
}

# OpenSSL's names of what the other side said, or of what broke.
_FAULTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a client certificate and got none",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the TLS handshake: usually it requires a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that our client certificate is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused our client certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused our client certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "it refused our client certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it refused our TLS version",
    "WRONG_VERSION_NUMBER": "this port does not speak TLS",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection during the TLS handshake: does this port speak TLS?",
}


_SOCKET_FAULTS = {
    errno.ECONNREFUSED: "connection refused, no broker listens there",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EHOSTUNREACH: "the host is unreachable",
    errno.ECONNRESET: "the connection was reset",
    errno.EPIPE: "the connection was closed",
}


class TlsFilesError(Exception):
    """A file can't be used; the text names it."""


def client_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> "ssl.SSLContext":
    """Checks the broker's certificate and host name. PEM files, read now; without ``ca_file`` the system's authorities,
    without ``key_file`` the key is in ``cert_file``. Raises TlsFilesError."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except OSError as error:  # ssl.SSLError is one
        raise TlsFilesError(f"cannot use CA file {ca_file}: {_file_fault(error)}") from error
    if cert_file:
        try:
            # An encrypted key would make OpenSSL ask a terminal that is not there for its password.
            context.load_cert_chain(cert_file, key_file or None, password=lambda: "")
        except (OSError, ValueError) as error:
            what = f"client certificate {cert_file} with key {key_file or cert_file}"
            raise TlsFilesError(f"cannot use {what}: {_file_fault(error)}") from error
    return context


def dial_fault(error: BaseException, timeout_s: float, with_tls: bool) -> str:
    """Why name lookup, TCP (in ``timeout_s``) or the TLS handshake failed."""
    fault = _handshake_fault(error) if with_tls else ""
    if fault:
        return fault
    if isinstance(error, (socket.gaierror, UnicodeError)):  # UnicodeError: of an impossible host name
        return _name_fault(error)
    if isinstance(error, TimeoutError):
        return f"no answer in {timeout_s:g} s"
    if isinstance(error, OSError) and error.errno in _SOCKET_FAULTS:
        return _SOCKET_FAULTS[error.errno]
    return str(error) or type(error).__name__


def _name_fault(error: Exception) -> str:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "the name cannot be looked up now, no name server answers"
    return "name not found"


def _handshake_fault(error: BaseException) -> str:
    verify_code = getattr(error, "verify_code", None)  # only ssl.SSLCertVerificationError has one
    if verify_code is not None:
        return _CERTIFICATE_FAULTS.get(
            verify_code, f"its certificate is refused: {getattr(error, 'verify_message', error)}"
        )
    if isinstance(error, ConnectionResetError):
        return _FAULTS["UNEXPECTED_EOF_WHILE_READING"]
    return alert(str(error))


def alert(text: str) -> str:
    """The meaning of OpenSSL's ``[SSL: NAME] …``; "" when ``text`` is no TLS error."""
    match = re.search(r"\[SSL(?:: ([A-Z0-9_]+))?\]", text)
    if match is None:
        return ""
    return _FAULTS.get(match[1], f"TLS failed, {text}")


def last_words(sock: socket.socket) -> str:
    """The alert of a broker that refused our certificate, from a socket about to be closed; "" if there is none.

    In TLS 1.3 it refuses after our side of the handshake is over: what we send next fails first, without telling why.
    """
    try:
        sock.recv(1)
    except OSError as error:
        return str(error) if alert(str(error)) else ""
    return ""


def errno_text(text: str) -> str:
    """The meaning of an OSError that is known by its text only; "" when ``text`` is none."""
    match = re.search(r"\[Errno (\d+)\] (.*)", text)
    return _SOCKET_FAULTS.get(int(match[1]), match[2]) if match else ""


def _file_fault(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.EACCES) else ""
    return words or "not a PEM file of the right kind"
