"""FTPS: explicit TLS, the server's certificate checked before the account is said; also on vsftpd, which is picky."""

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.errors import FtpUnreachable, LoginRefused, NoFile
from firmware_bridge.ftp import Source, Tls
from sim.ftp_server import Cut, FtpServer
from tests.certificates import Authority, KeyPair
from tests.fetch_helpers import IMAGE, MIB, Yard, asked, scripted_server, source_at, vsftpd


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "Test CA")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("server", "IP:127.0.0.1")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def server(yard: Yard, pair: KeyPair) -> Iterator[FtpServer]:
    with FtpServer(yard.shelf, certificate=(pair.cert, pair.key)) as server:
        yield server


def secure(server: FtpServer, authority: Authority) -> Source:
    return source_at(server, tls=Tls.EXPLICIT, ca_file=str(authority.cert))


def test_control_and_data_are_encrypted(yard: Yard, server: FtpServer, authority: Authority) -> None:
    yard.fetch(secure(server, authority))
    assert yard.into.read_bytes() == IMAGE
    words = [line.split(" ")[0] for line in server.asked]
    assert words[:6] == ["AUTH", "USER", "PASS", "PBSZ", "PROT", "TYPE"]


def test_a_transfer_that_breaks_goes_on(yard: Yard, server: FtpServer, authority: Authority) -> None:
    server.faults.cut, server.faults.after, server.faults.times = Cut.ABORT, 500_000, 1
    yard.fetch(secure(server, authority))
    assert yard.into.read_bytes() == IMAGE
    assert len(asked(server, "RETR")) == 2


def test_data_that_end_without_tls_saying_so_are_not_whole(yard: Yard, server: FtpServer, authority: Authority) -> None:
    """Whoever sits on the line can close it; only the control connection's 226 is worth something."""
    server.faults.cut, server.faults.after, server.faults.times = Cut.RESET, 500_000, 1
    yard.fetch(secure(server, authority))
    assert yard.into.read_bytes() == IMAGE


def refused(yard: Yard, source: Source) -> str:
    with pytest.raises(FtpUnreachable) as failed:
        yard.fetch(source)
    return str(failed.value)


def test_a_certificate_of_another_authority_is_refused_before_the_account_is_said(
    yard: Yard, server: FtpServer, tmp_path: Path
) -> None:
    told = refused(yard, secure(server, Authority(tmp_path, "Other CA")))
    assert "asked AUTH, its certificate is not accepted: unable to get local issuer certificate" in told
    assert set(server.asked) == {"AUTH TLS"}


@pytest.mark.parametrize(
    ("names", "days", "fault"),
    [
        ("DNS:ftp.example.com", 30, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("IP:127.0.0.1", -1, "certificate has expired"),
    ],
)
def test_a_certificate_for_another_name_or_time_is_refused(
    yard: Yard, authority: Authority, names: str, days: int, fault: str
) -> None:
    pair = authority.sign("wrong", names, days)
    with FtpServer(yard.shelf, certificate=(pair.cert, pair.key)) as server:
        assert f"its certificate is not accepted: {fault}" in refused(yard, secure(server, authority))
        assert set(server.asked) == {"AUTH TLS"}


def test_a_server_without_tls_is_refused_before_the_account_is_said(yard: Yard, authority: Authority) -> None:
    with FtpServer(yard.shelf) as server:
        assert "asked AUTH, got '500 Command \"AUTH\" not understood.'" in refused(yard, secure(server, authority))
        assert set(server.asked) == {"AUTH TLS"}


def test_a_server_that_wants_tls_says_so_to_whom_comes_without(yard: Yard, server: FtpServer) -> None:
    with pytest.raises(LoginRefused, match="asked USER, got '550 SSL/TLS required on the control channel"):
        yard.fetch(source_at(server))


def test_words_from_before_the_handshake_are_not_heard(yard: Yard, authority: Authority, pair: KeyPair) -> None:
    """Whoever sits on the line could put a 230 behind the 234 (CVE-2021-23957 and its kin)."""
    with FtpServer(yard.shelf, certificate=(pair.cert, pair.key)) as server:

        def in_the_middle(client: socket.socket) -> None:
            with socket.create_connection((server.host, server.port)) as upstream:
                client.sendall(upstream.recv(4096))
                upstream.sendall(client.recv(4096))
                client.sendall(upstream.recv(4096) + b"230 you are in\r\n230 really\r\n")
                _relay(client, upstream)

        with scripted_server(in_the_middle) as port:
            source = Source("127.0.0.1", port, "firmware", "wrong", "fw.bin", Tls.EXPLICIT, str(authority.cert))
            with pytest.raises(LoginRefused, match="asked PASS, got '530"):
                yard.fetch(source)


def _relay(client: socket.socket, upstream: socket.socket) -> None:
    while True:
        for ready in select.select([client, upstream], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            (upstream if ready is client else client).sendall(data)


def test_a_missing_ca_file_is_named(yard: Yard) -> None:
    told = refused(yard, Source("127.0.0.1", 1, "a", "b", "c", Tls.EXPLICIT, "/nowhere/ca.pem"))
    assert told.startswith("ca_file /nowhere/ca.pem: No such file or directory")


# ---- vsftpd ----


def of_vsftpd(port: int, **wishes: object) -> Source:
    settings = {"host": "127.0.0.1", "port": port, "user": "ftp", "password": "secret", "path": "fw.bin"}
    return Source(**(settings | wishes))  # type: ignore[arg-type]


def test_vsftpd_serves_and_resumes(yard: Yard, tmp_path: Path) -> None:
    def stop_at_2_mib(done: int, total: int | None) -> None:
        if done >= 2 * MIB:
            raise InterruptedError

    with vsftpd(tmp_path, yard.shelf) as port:
        with pytest.raises(InterruptedError):
            yard.fetch(of_vsftpd(port), on_progress=stop_at_2_mib)
        yard.fetch(of_vsftpd(port))
        assert yard.into.read_bytes() == IMAGE
        assert MIB <= yard.progress[0][0] <= 2 * MIB + 1024


def test_vsftpd_refuses_a_wrong_password_and_an_unknown_file(yard: Yard, tmp_path: Path) -> None:
    with vsftpd(tmp_path, yard.shelf) as port:
        with pytest.raises(LoginRefused, match="asked PASS, got '530 Login incorrect"):
            yard.fetch(of_vsftpd(port, password="wrong"))
        with pytest.raises(NoFile, match="asked RETR, got '550 Failed to open file"):
            yard.fetch(of_vsftpd(port, path="no.bin"))


def test_vsftpd_with_tls_wants_the_same_session_for_the_data_and_a_goodbye(
    yard: Yard, tmp_path: Path, authority: Authority, pair: KeyPair
) -> None:
    options = [
        "ssl_enable=YES", "allow_anon_ssl=YES", "force_anon_logins_ssl=YES", "force_anon_data_ssl=YES",
        "require_ssl_reuse=YES", "strict_ssl_write_shutdown=YES",
        f"rsa_cert_file={pair.cert}", f"rsa_private_key_file={pair.key}",
    ]  # fmt: skip
    with vsftpd(tmp_path, yard.shelf, *options) as port:
        yard.fetch(of_vsftpd(port, tls=Tls.EXPLICIT, ca_file=str(authority.cert)))
        assert yard.into.read_bytes() == IMAGE
        assert yard.waits.seconds == []
        with pytest.raises(LoginRefused, match=r"asked (USER|PASS), got '530 .*encryption"):
            yard.fetch(of_vsftpd(port))
