"""What event and alarm records say in numbers (docs/protocol.md). A number once given keeps its meaning for good."""

from enum import IntEnum


class EventCode(IntEnum):
    """Something that happened (record type 3)."""

    AGENT_STARTED = 1
    REBOOT = 2
    REBOOT_FAILED = 3
    CHARGE_STARTED = 4
    CHARGE_ENDED = 5
    START_FAILED = 6
    STOP_FAILED = 7
    CHARGE_WITHOUT_ORDER = 8
    TARIFF_SET = 9
    CAP_PASSED = 10
    RESERVATION_OPEN = 21
    RESERVATION_USED = 22
    RESERVATION_EXPIRED = 23
    CONFIGURED = 24
    CONFIGURE_FAILED = 25
    BOARD_NOT_SET = 26
    TIME_UNKNOWN = 27
    TIME_KNOWN = 28
    UPGRADE_BEGUN = 31
    UPGRADE_DONE = 32
    UPGRADE_FAILED = 33
    VERSION_DIFFERS = 34


EVENT_MEANINGS = {
    EventCode.AGENT_STARTED: "the agent runs, since now; the text has its version",
    EventCode.REBOOT: "a reboot (108) begins",
    EventCode.REBOOT_FAILED: "a controller did not take the reboot",
    EventCode.CHARGE_STARTED: "current flows for an order",
    EventCode.CHARGE_ENDED: "an order's current has ended; the text says why",
    EventCode.START_FAILED: "an accepted start came to nothing",
    EventCode.STOP_FAILED: "the power electronics did not take a stop; it is repeated",
    EventCode.CHARGE_WITHOUT_ORDER: "a charge that no order asked for; the text says whether it runs or was stopped",
    EventCode.TARIFF_SET: "a tariff (110) holds from the next start on",
    EventCode.CAP_PASSED: "a charge has cost more than its cap; the text says how much",
    EventCode.RESERVATION_OPEN: "the time of a reservation (102) has come",
    EventCode.RESERVATION_USED: "the account that reserved the gun charges there",
    EventCode.RESERVATION_EXPIRED: "a reservation's time is over and its account did not come",
    EventCode.CONFIGURED: "the parameters of a 106 are in force",
    EventCode.CONFIGURE_FAILED: "a 106 came to nothing; the text says why",
    EventCode.BOARD_NOT_SET: "a device did not take back the parameters in force; it is tried again",
    EventCode.TIME_UNKNOWN: "the pile does not know the time, or has closed a bill without; stamps count from its boot",
    EventCode.TIME_KNOWN: "the pile knows the time, or knows it better; the text says by how much stamps were moved",
    EventCode.UPGRADE_BEGUN: "an upgrade (114) begins",
    EventCode.UPGRADE_DONE: "an upgrade is in force",
    EventCode.UPGRADE_FAILED: "an upgrade came to nothing, or was rolled back; the text says why",
    EventCode.VERSION_DIFFERS: "the platform announces an upgrade (113) and takes another version for the running one",
}


class AlarmCode(IntEnum):
    """A fault, raised and later cleared (record type 4). From 101 on, so that no alarm has the number of an event."""

    DEVICE_SILENT = 101
    EMERGENCY_STOP = 102
    OVER_TEMPERATURE = 103
    OVER_CURRENT = 104
    OVER_VOLTAGE = 105
    INSULATION = 106
    CONTACTOR_STUCK = 107
    LOCK = 108
    BMS_COMMUNICATION = 109
    METER = 110
    UNPLUGGED_ON_LOAD = 111
    WATCHDOG_EXPIRED = 112
    STATE_UNKNOWN = 113
    METER_DOUBTFUL = 114
    CLOCK_NOT_SET = 115
    NO_FIRMWARE = 116
    OTHER_FAULT = 199


ALARM_MEANINGS = {
    AlarmCode.DEVICE_SILENT: "the gun's device does not answer",
    AlarmCode.EMERGENCY_STOP: "the emergency stop is pressed",
    AlarmCode.OVER_TEMPERATURE: "too hot",
    AlarmCode.OVER_CURRENT: "too much current",
    AlarmCode.OVER_VOLTAGE: "too high a voltage",
    AlarmCode.INSULATION: "the insulation resistance is too low",
    AlarmCode.CONTACTOR_STUCK: "the contactor does not open",
    AlarmCode.LOCK: "the connector's lock does not close",
    AlarmCode.BMS_COMMUNICATION: "the vehicle does not answer the gun",
    AlarmCode.METER: "the energy meter does not answer the gun",
    AlarmCode.UNPLUGGED_ON_LOAD: "the plug was pulled while current flowed",
    AlarmCode.WATCHDOG_EXPIRED: "the device has not heard the agent in time",
    AlarmCode.STATE_UNKNOWN: "the device reports a state that its profile does not list",
    AlarmCode.METER_DOUBTFUL: "the energy meter went back or jumped; that is not billed",
    AlarmCode.CLOCK_NOT_SET: "a power board's clock is not set: the agent sets it as soon as it knows the time",
    AlarmCode.NO_FIRMWARE: "a power board has no firmware: its image was erased and not replaced",
    AlarmCode.OTHER_FAULT: "a fault that only the device's maker has a name for; the text has it",
}


def alarm_of_fault(fault: str) -> AlarmCode:
    """The code for a fault's name in a device profile: the names of the reference profile have one each."""
    return AlarmCode.__members__.get(fault.upper(), AlarmCode.OTHER_FAULT)
