"""113's FTP address, in every form a platform writes it."""

import pytest

from firmware_bridge.ftp import Tls, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ftp.example.com", ("ftp.example.com", 21, Tls.OFF)),
        ("10.0.0.7:2121", ("10.0.0.7", 2121, Tls.OFF)),
        ("ftp://ftp.example.com", ("ftp.example.com", 21, Tls.OFF)),
        ("ftp://ftp.example.com/", ("ftp.example.com", 21, Tls.OFF)),
        ("FTP://10.0.0.7:2121/", ("10.0.0.7", 2121, Tls.OFF)),
        ("ftps://ftp.example.com:990/", ("ftp.example.com", 990, Tls.EXPLICIT)),
        ("[2001:db8::7]:2121", ("2001:db8::7", 2121, Tls.OFF)),
        ("ftps://[2001:db8::7]", ("2001:db8::7", 21, Tls.EXPLICIT)),
        ("file_server-2.lan.", ("file_server-2.lan.", 21, Tls.OFF)),
    ],
)
def test_an_address_is_host_port_and_tls(text: str, expected: tuple[str, int, Tls]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'' is neither a host name nor an IP address"),
        ("ftp://", "'' is neither"),
        ("http://example.com", "'http', expected ftp or ftps"),
        ("ftp://ftp://example.com", "'ftp://ftp', expected ftp or ftps"),
        ("ftp://example.com/firmware", "folder 'firmware', but the path is the order's"),
        ("example.com:", "expected host, host:port or [IPv6 address]:port"),
        ("example.com:port", "expected host, host:port"),
        ("example.com:0", "port 0, expected 1..65535"),
        ("example.com:65536", "port 65536, expected 1..65535"),
        ("example.com:99999999999999999999", "expected 1..65535"),
        ("example.com:２１", "expected host, host:port"),
        ("2001:db8::7", "expected host, host:port or [IPv6 address]:port"),
        ("[10.0.0.7]", "'10.0.0.7' is neither"),
        ("[fe80::1%eth0]x", "expected host, host:port"),
        ("10.0.0.256", "'10.0.0.256' is neither"),
        (" example.com", "' example.com' is neither"),
        ("example.com\r\n", "'example.com\\r\\n' is neither"),
        ("-oProxy", "'-oProxy' is neither"),
    ],
)
def test_an_address_that_is_none_says_what_is_wrong(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        parse_address(text)
    assert str(refused.value).startswith("FTP address ")
    assert fault in str(refused.value)


@pytest.mark.parametrize("text", ["ftp://pile:hunter2@example.com", "pile:hunter2@example.com", "hunter2@x://y"])
def test_a_password_in_the_address_is_refused_unsaid(text: str) -> None:
    with pytest.raises(ValueError, match="account and password are fields of their own") as refused:
        parse_address(text)
    assert "hunter2" not in str(refused.value)
