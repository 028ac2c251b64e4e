"""One login to an FTP server (RFC 959, RFC 3659; FTPS: RFC 4217 with explicit TLS): passive, binary, read only.

Knows no retries and no disk. Whatever the network or the server does wrong comes out as an error of
``firmware_bridge.errors`` that names host, port, path and what was asked, and that holds neither account nor password,
not even one that the server repeats.
"""

import contextlib
import ftplib
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import NamedTuple, ParamSpec, Self, TypeVar

from firmware_bridge.errors import DownloadFailed, FirmwareError, FtpUnreachable, LoginRefused, NoFile

ANSWER_BYTES = 1 << 16  # of one answer, all its lines
SHOWN_CHARACTERS = 200  # of an answer, in an error

_P = ParamSpec("_P")
_T = TypeVar("_T")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_PLACE = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]+))?", re.ASCII)
_UNSENDABLE = re.compile("[\r\n\0]")
_LOGIN = ("USER", "PASS", "ACCT")
_BROKEN = (ftplib.Error, OSError, EOFError, ValueError, OverflowError)


class Tls(Enum):
    OFF = "off"
    EXPLICIT = "explicit"  # AUTH TLS, PROT P


_SCHEMES = {"ftp": Tls.OFF, "ftps": Tls.EXPLICIT}


class Address(NamedTuple):
    host: str
    port: int
    tls: Tls


@dataclass(frozen=True, slots=True)
class Source:
    """A file on a server. ``path`` goes there as it is, in ``encoding``; without ``user`` the login is anonymous.

    ``ca_file``: PEM, whom to trust for the server's certificate; empty: whom the system trusts.
    """

    host: str
    port: int
    user: str = field(repr=False)
    password: str = field(repr=False)
    path: str
    tls: Tls = Tls.OFF
    ca_file: str = ""
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Remote:
    """What the server tells of the file: SIZE in bytes and MDTM as text, where it knows these commands."""

    size: int | None
    mdtm: str | None


class RestRefused(DownloadFailed):
    """The server does not resume there; the file can be had from its beginning."""


_RETR_REFUSALS: dict[str, type[FirmwareError]] = {
    "530": LoginRefused,
    "532": LoginRefused,
    "550": NoFile,
    "553": NoFile,
    "554": RestRefused,  # RFC 1123 4.1.3.4: the position is none of this file
}


def parse_address(text: str) -> Address:
    """113's FTP address: ``host``, ``host:port``, ``[v6]:port``, each also as ``ftp://…/`` or, for TLS, ``ftps://…/``.

    Raises ``ValueError`` that names what is wrong.
    """
    if "@" in text:
        raise ValueError("FTP address: has an @, but account and password are fields of their own")
    scheme, separator, place = text.rpartition("://")
    tls = _SCHEMES.get(scheme.lower()) if separator else Tls.OFF
    if tls is None:
        raise ValueError(f"FTP address {text!r}: {scheme!r}, expected ftp or ftps")
    place, _, folder = place.partition("/")
    if folder:
        raise ValueError(f"FTP address {text!r}: folder {folder!r}, but the path is the order's")
    parts = _PLACE.fullmatch(place)
    if parts is None:
        raise ValueError(f"FTP address {text!r}: expected host, host:port or [IPv6 address]:port")
    host = parts["host"] if parts["v6"] is None else parts["v6"]
    if not _is_host(host, is_v6=parts["v6"] is not None):
        raise ValueError(f"FTP address {text!r}: {host!r} is neither a host name nor an IP address")
    port = int((parts["port"] or str(ftplib.FTP_PORT))[:6])
    if not 1 <= port <= 65535:
        raise ValueError(f"FTP address {text!r}: port {parts['port']}, expected 1..65535")
    return Address(host, port, tls)


def _is_host(host: str, *, is_v6: bool) -> bool:
    if not is_v6 and host.strip("0123456789."):
        return _HOST.fullmatch(host) is not None
    try:
        return ipaddress.ip_address(host).version == (6 if is_v6 else 4)
    except ValueError:
        return False


class _Session(ftplib.FTP_TLS):
    """ftplib, but its answers are bounded in length and time, and a TLS data connection resumes the control's session.

    Servers (vsftpd, ProFTPD, FileZilla) refuse a data connection with another session than the control connection's.
    """

    def __init__(
        self, source: Source, context: ssl.SSLContext | None, stall_s: float, check: Callable[[], None]
    ) -> None:
        super().__init__(context=context, timeout=stall_s, encoding=source.encoding)
        self.asked = ""  # the last command, without its argument
        self._check = check
        self._heard = bytearray()
        self._room = ANSWER_BYTES

    def putcmd(self, line: str) -> None:
        self.asked = line.split(" ", 1)[0]
        self._room = ANSWER_BYTES
        super().putcmd(line)

    def getline(self) -> str:
        while (end := self._heard.find(b"\n")) < 0:
            self._hear()
        line = bytes(self._heard[:end])
        del self._heard[: end + 1]
        return line.rstrip(b"\r").decode(self.encoding, "replace")

    def _hear(self) -> None:
        assert self.sock is not None
        self._check()
        data = self.sock.recv(4096)
        if not data:
            raise EOFError
        self._room -= len(data)
        if self._room < 0:
            raise ValueError(f"an answer of more than {ANSWER_BYTES} bytes")
        self._heard += data

    def auth(self) -> str:
        answer = super().auth()
        self._heard.clear()  # what came before the handshake, anybody may have written
        return answer

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if isinstance(self.sock, ssl.SSLSocket):
            data = self.context.wrap_socket(data, server_hostname=self.host, session=self.sock.session)
        return data, size


class Connection:
    """A login, ready to read ``source.path``. ``stall_s``: how long the server may be silent.

    ``check`` is called at each piece of an answer, and raises when enough is enough: a server that sends a byte now and
    then is never silent.
    """

    def __init__(self, source: Source, stall_s: float, check: Callable[[], None]) -> None:
        _check_words(source)
        self._source = source
        self._ftp = _Session(source, _context(source), stall_s, check)
        try:
            self._do(self._log_in)
        except BaseException:
            self._ftp.close()
            raise

    def remote(self) -> Remote:
        return self._do(self._remote)

    def blocks(self, block: int, offset: int) -> Iterator[bytes]:
        """The file from ``offset`` on, at most ``block`` bytes at a time; ends when the server calls it complete."""
        data = self._do(self._ftp.transfercmd, f"RETR {self._source.path}", offset or None)
        with data:
            while received := self._do(data.recv, block):
                yield received
            _end_tls(data)
        self._do(self._ftp.voidresp)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with contextlib.suppress(OSError):
                self._ftp.putcmd("QUIT")  # its answer is not worth waiting for
        self._ftp.close()

    def _log_in(self) -> None:
        source, ftp = self._source, self._ftp
        ftp.connect(source.host, source.port)
        assert ftp.sock is not None
        # The control connection is silent while data flow, and a router may forget it.
        ftp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        ftp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        if source.tls is Tls.EXPLICIT:
            ftp.auth()
        ftp.login(source.user, source.password, secure=False)  # secure: it is already
        if source.tls is Tls.EXPLICIT:
            ftp.prot_p()
        ftp.voidcmd("TYPE I")  # SIZE counts bytes only so

    def _remote(self) -> Remote:
        size = self._told("SIZE")
        return Remote(None if size is None else int(size), self._told("MDTM"))

    def _told(self, command: str) -> str | None:
        try:
            answer = self._ftp.sendcmd(f"{command} {self._source.path}")
        except ftplib.error_perm:
            return None  # it does not know the command; what it thinks of the path, RETR will tell
        return answer[4:].strip() if answer.startswith("213 ") else None

    def _do(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return step(*args, **kwargs)
        except _BROKEN as error:
            problem = self._problem(error)
        raise problem  # out here, so that the server's words do not hang on it as its context

    def _problem(self, error: Exception) -> FirmwareError:
        source, asked = self._source, self._ftp.asked
        kind: type[FirmwareError] = DownloadFailed if asked == "RETR" else FtpUnreachable
        if isinstance(error, ftplib.error_perm):
            kind = _refusal(asked, str(error)[:3], kind)
        return kind(f"{source.host}:{source.port} {source.path!r}: {self._fact(error)}")

    def _fact(self, error: Exception) -> str:
        asked = self._ftp.asked
        what = f"asked {asked}, " if asked else "connecting, "
        if isinstance(error, ftplib.Error):
            return f"{what}got {self._without_secrets(str(error))!r}"
        if isinstance(error, TimeoutError):
            return f"{what}got nothing in {self._ftp.timeout:g} s"
        if isinstance(error, EOFError):
            return f"{what}the server closed the connection"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{what}its certificate is not accepted: {error.verify_message}"
        if isinstance(error, OSError):
            what = "connecting for data, " if asked in ("PASV", "EPSV") else what
            return f"{what}{error.strerror or error}"
        return f"{what}got an answer that is none"

    def _without_secrets(self, answer: str) -> str:
        """One printable line of it."""
        secrets = [self._source.password]
        if self._ftp.asked in _LOGIN:
            secrets.append(self._source.user)
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            answer = re.sub(re.escape(secret), "***", answer, flags=re.IGNORECASE)
        return " ".join(answer.split())[:SHOWN_CHARACTERS]


def _check_words(source: Source) -> None:
    """What can't be said in one line to the server is refused before it is dialled."""
    if fault := _fault(source.path, source.encoding) or ("" if source.path else "is empty"):
        raise NoFile(f"path {source.path!r}: {fault}")
    for name, value in (("account", source.user), ("password", source.password)):
        if fault := _fault(value, source.encoding):
            raise LoginRefused(f"{source.host}:{source.port}: the {name} {fault}")


def _fault(text: str, encoding: str) -> str:
    if _UNSENDABLE.search(text):
        return "has a line break or a NUL"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return f"can't be written in {encoding}"
    return ""


def _refusal(asked: str, code: str, otherwise: type[FirmwareError]) -> type[FirmwareError]:
    """What a permanent refusal (5yz) means, where it is not just a broken try."""
    if asked in _LOGIN:
        return LoginRefused
    if asked == "REST":
        return RestRefused
    return _RETR_REFUSALS.get(code, otherwise) if asked == "RETR" else otherwise


def _context(source: Source) -> ssl.SSLContext | None:
    if source.tls is Tls.OFF:
        return None
    try:
        return ssl.create_default_context(cafile=source.ca_file or None)
    except OSError as error:
        raise FtpUnreachable(f"ca_file {source.ca_file}: {error.strerror}") from error


def _end_tls(data: socket.socket) -> None:
    """Say goodbye: vsftpd can be told to report a failure without. Should it fail, the data are here all the same."""
    if isinstance(data, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            data.unwrap()
