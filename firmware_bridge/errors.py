"""Why an update can't go on, named by consequence. Each error knows the platform's result number (docs/protocol.md)::

    FirmwareError
    ├── Transient                 tried again later, a bounded number of times
    │   ├── FtpUnreachable   51   no connection, or lost
    │   └── DownloadFailed   54   the transfer broke, stalled or ended early
    └── Permanent                 the same order would fail again
        ├── LoginRefused     52
        ├── NoFile           53
        ├── NotAuthentic     55   not signed by whom it must be, damaged, expired, older than what is trusted
        ├── WrongHardware    56   signed, but for another device or another interpreter
        ├── VersionRefused   57   signed as another version than the one ordered
        ├── NoSpace          58   the disk's reserve for billing would be touched
        └── InstallFailed    59   the self-test or the power board said no

Their text names what was asked, what was found and what was expected; never a password.
"""

from typing import ClassVar


class FirmwareError(Exception):
    """``result``: the number that 111 and 114 report."""

    result: ClassVar[int]


class Transient(FirmwareError):
    """Worth another try."""


class Permanent(FirmwareError):
    """Another try would end the same."""


class FtpUnreachable(Transient):
    result = 51


class DownloadFailed(Transient):
    result = 54


class LoginRefused(Permanent):
    result = 52


class NoFile(Permanent):
    result = 53


class NotAuthentic(Permanent):
    result = 55


class WrongHardware(Permanent):
    result = 56


class VersionRefused(Permanent):
    result = 57


class NoSpace(Permanent):
    result = 58


class InstallFailed(Permanent):
    result = 59
