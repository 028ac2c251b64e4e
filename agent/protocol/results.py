"""What the platform and the pile say in numbers (docs/protocol.md): results, statuses, stop reasons, record types."""

from enum import IntEnum


class Result(IntEnum):
    """The outcome of a command, as a reply carries it. From 10 on the body is one field of plain text."""

    OK = 0
    ACCEPTED = 1
    DEFERRED = 2
    DUPLICATE = 3
    MALFORMED = 10
    WRONG_PILE = 11
    NO_SUCH_GUN = 12
    OUT_OF_RANGE = 13
    NOT_SUPPORTED = 14
    EXPIRED = 15
    NOT_PLUGGED = 20
    OCCUPIED = 21
    RESERVED = 22
    INSUFFICIENT_BALANCE = 23
    FAULT = 24
    BUSY = 25
    NO_TARIFF = 26
    NOT_CHARGING = 27
    ORDER_MISMATCH = 28
    START_TIMEOUT = 29
    NO_RECORD = 30
    OFFLINE_LIMIT = 31
    DEVICE_SILENT = 40
    DEVICE_REFUSED = 41
    NOT_APPLIED = 42
    NO_CREDENTIALS = 50
    FTP_UNREACHABLE = 51
    FTP_LOGIN_REFUSED = 52
    FTP_NO_FILE = 53
    DOWNLOAD_FAILED = 54
    NOT_AUTHENTIC = 55
    WRONG_HARDWARE = 56
    VERSION_REFUSED = 57
    NO_SPACE = 58
    INSTALL_FAILED = 59
    ROLLED_BACK = 60
    INTERNAL = 99

    @property
    def is_error(self) -> bool:
        """The body says in words what was wrong."""
        return self >= Result.MALFORMED

    @property
    def is_final(self) -> bool:
        """No further reply to the same command follows."""
        return self not in (Result.ACCEPTED, Result.DEFERRED)


RESULT_MEANINGS = {
    Result.OK: "done",
    Result.ACCEPTED: "a final reply follows",
    Result.DEFERRED: "waits until the pile is idle; a final reply follows",
    Result.DUPLICATE: "seen before; the first outcome stands",
    Result.MALFORMED: "the line breaks a rule of this page",
    Result.WRONG_PILE: "the inner pile number differs from the header's",
    Result.NO_SUCH_GUN: "this pile has no such gun",
    Result.OUT_OF_RANGE: "a well-formed value outside its range",
    Result.NOT_SUPPORTED: "this version does not carry out that command",
    Result.EXPIRED: "the command is older than command_ttl",
    Result.NOT_PLUGGED: "no car is plugged in at the gun",
    Result.OCCUPIED: "the gun is charging another order",
    Result.RESERVED: "another account holds a reservation",
    Result.INSUFFICIENT_BALANCE: "no money to charge with",
    Result.FAULT: "the gun or the pile has a fault",
    Result.BUSY: "updating or rebooting",
    Result.NO_TARIFF: "the pile has no tariff to bill by",
    Result.NOT_CHARGING: "there is no charge to stop",
    Result.ORDER_MISMATCH: "the gun charges another order",
    Result.START_TIMEOUT: "no current flowed in time",
    Result.NO_RECORD: "there is no record of that kind",
    Result.OFFLINE_LIMIT: "the limit of offline records is reached",
    Result.DEVICE_SILENT: "no answer on the serial line",
    Result.DEVICE_REFUSED: "the device answered with a Modbus exception",
    Result.NOT_APPLIED: "the value read back differs from the value written",
    Result.NO_CREDENTIALS: "114 came without a 113 before it",
    Result.FTP_UNREACHABLE: "the FTP server can't be reached",
    Result.FTP_LOGIN_REFUSED: "the FTP server refused the login",
    Result.FTP_NO_FILE: "the FTP server has no such file",
    Result.DOWNLOAD_FAILED: "the file could not be fetched whole",
    Result.NOT_AUTHENTIC: "the file's signatures do not prove it",
    Result.WRONG_HARDWARE: "the file is for other hardware",
    Result.VERSION_REFUSED: "the version is not the one announced, or older than allowed",
    Result.NO_SPACE: "too little disk space",
    Result.INSTALL_FAILED: "the installation failed; the old version runs",
    Result.ROLLED_BACK: "the new version failed its trial; the old version runs",
    Result.INTERNAL: "a fault of the agent itself",
}


class GunStatus(IntEnum):
    """What a gun is doing, as replies and heartbeats carry it."""

    IDLE = 1
    PLUGGED = 2
    STARTING = 3
    CHARGING = 4
    STOPPING = 5
    ENDED = 6
    RESERVED = 7
    OUT_OF_SERVICE = 8
    FAULT = 9
    UPDATING = 10


STATUS_MEANINGS = {
    GunStatus.IDLE: "no car plugged in",
    GunStatus.PLUGGED: "a car is plugged in and does not charge",
    GunStatus.STARTING: "a start was taken; current may not flow yet",
    GunStatus.CHARGING: "current may flow",
    GunStatus.STOPPING: "a stop was taken; current still flows",
    GunStatus.ENDED: "the charge has ended, the car is still plugged in",
    GunStatus.RESERVED: "an account holds a reservation that has begun",
    GunStatus.OUT_OF_SERVICE: "taken out of service, or its device does not answer",
    GunStatus.FAULT: "a fault keeps it from charging",
    GunStatus.UPDATING: "its firmware is being updated",
}


class StopReason(IntEnum):
    """Why a charge ended."""

    PLATFORM = 1
    APP = 2
    FULL = 3
    AMOUNT_REACHED = 4
    UNPLUGGED = 5
    EMERGENCY_STOP = 6
    FAULT = 7
    DEVICE_SILENT = 8
    OFFLINE_NOT_ALLOWED = 9
    POWER_LOST = 10
    NO_CURRENT = 11
    TIME = 12
    LOCAL = 13


STOP_REASON_MEANINGS = {
    StopReason.PLATFORM: "stopped by the platform (101 type 2)",
    StopReason.APP: "stopped by the app (101 type 4)",
    StopReason.FULL: "the car is full",
    StopReason.AMOUNT_REACHED: "the money is used up",
    StopReason.UNPLUGGED: "the plug was pulled",
    StopReason.EMERGENCY_STOP: "the emergency stop was pressed",
    StopReason.FAULT: "a fault of the gun or the pile",
    StopReason.DEVICE_SILENT: "the power electronics stopped answering",
    StopReason.OFFLINE_NOT_ALLOWED: "the link was lost, and 106 forbids charging without it",
    StopReason.POWER_LOST: "the power failed; the bill is from the last checkpoint",
    StopReason.NO_CURRENT: "no current flowed for too long",
    StopReason.TIME: "the time allowed is over",
    StopReason.LOCAL: "stopped at the pile, by card or button",
}


class UpdateState(IntEnum):
    """How far an update is (reply of 111); from 10 on it is the error's ``Result``."""

    NONE = 0
    WAITING = 1
    DOWNLOADING = 2
    VERIFYING = 3
    INSTALLING = 4
    RESTARTING = 5
    DONE = 6


UPDATE_MEANINGS = {
    UpdateState.NONE: "no update was ordered",
    UpdateState.WAITING: "waits until the pile is idle",
    UpdateState.DOWNLOADING: "the file is being fetched",
    UpdateState.VERIFYING: "its signatures are being checked",
    UpdateState.INSTALLING: "it is being installed",
    UpdateState.RESTARTING: "the new version is starting its trial",
    UpdateState.DONE: "the new version runs",
}


class RecordType(IntEnum):
    """The kinds of record (104)."""

    CHARGING = 1
    PROCESS = 2
    EVENT = 3
    ALARM = 4
