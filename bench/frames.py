"""Modbus frames to values, without a line: beside minimalmodbus, pymodbus and libmodbus.

All get the same 125 bytes and check unit, function, byte count and checksum. libmodbus (C) calls select() and read() on
its way, which its program replaces with a copy out of memory. Its public interface decodes into an array.
"""

import os
import pty
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import minimalmodbus

from agent.power.instrument import Instrument
from agent.power.port import open_port
from bench.peers import MissingError, Peer
from bench.sample import Sample, Target, compare, in_turns, per_call, per_statement, ratio
from cext import rtu

COUNT = 60
REQUEST = rtu.read_request(1, 3, 0, COUNT)
ANSWER = rtu.frame(1, 3, bytes([2 * COUNT]) + bytes(range(2 * COUNT)))
VALUES = [256 * octet + octet + 1 for octet in range(0, 2 * COUNT, 2)]
ROUNDS = 41
C_CALLS, IN_A_CALL = 20, 1000


def main() -> list[Target]:
    return [*decoding(), *typed_reads()]


def decoding() -> list[Target]:
    sides: dict[str, Sample] = {
        "ours, list": _ours(rtu.register_list),
        "ours, array": _ours(rtu.registers),
        "minimalmodbus, list": _checked(_minimalmodbus),
        "pymodbus, list": _checked(_pymodbus()),
    }
    with ExitStack() as stack:
        try:
            c_program = stack.enter_context(Peer("decode"))
            sides["libmodbus (C), array"] = lambda: c_program.measure(C_CALLS).cpu_us / IN_A_CALL
        except MissingError as missing:
            print(missing)
        samples = in_turns(sides, ROUNDS)
    what = f"decode a {len(ANSWER)}-byte answer to {COUNT} integers"
    compare(what, samples)
    ours = samples["ours, list"]
    targets = [
        Target(what, "minimalmodbus", ratio(samples["minimalmodbus, list"], ours), 200, is_least=True),
        Target(what, "pymodbus", ratio(samples["pymodbus, list"], ours), 35, is_least=True),
        Target(
            f"{what}: array, as the agent takes them",
            "pymodbus",
            ratio(samples["pymodbus, list"], samples["ours, array"]),
            35,
            is_least=True,
        ),
    ]
    if "libmodbus (C), array" in samples:
        got = ratio(samples["ours, array"], samples["libmodbus (C), array"])
        targets.append(Target(f"{what}: array", "libmodbus (C)", got, 0.8))
    return targets


def _ours(values: Callable[[bytes], Any]) -> Sample:
    """What ``Instrument`` does with an answer. A function around these two calls would be a fifth of the array's time;
    the others take microseconds."""
    assert list(values(rtu.check_answer(REQUEST, ANSWER))) == VALUES
    return per_statement(
        "values(check(request, answer))", values=values, check=rtu.check_answer, request=REQUEST, answer=ANSWER
    )


def _checked(call: Callable[[], Any]) -> Sample:
    assert list(call()) == VALUES
    return per_call(call)


def _minimalmodbus() -> Any:
    payload = minimalmodbus._extract_payload(ANSWER, 1, "rtu", 3)
    return minimalmodbus._parse_payload(
        payload, 3, 0, None, 0, COUNT, 0, False, 0, minimalmodbus._Payloadformat.REGISTERS
    )


def _pymodbus() -> Callable[[], Any]:
    from pymodbus.framer import FramerRTU
    from pymodbus.pdu import DecodePDU

    framer = FramerRTU(DecodePDU(is_server=False))

    def decode() -> Any:
        _, answer = framer.handleFrame(ANSWER, 1, 0)
        assert answer is not None
        return answer.registers

    return decode


class StockWithoutLine(minimalmodbus.Instrument):  # type: ignore[misc]  # minimalmodbus has no types
    def _communicate(self, request: bytes, number_of_bytes_to_read: int) -> bytes:
        return ANSWER


class OursWithoutLine(Instrument):
    def _communicate(self, request: bytes, number_of_bytes_to_read: int = 0) -> bytes:
        return rtu.check_answer(request, ANSWER)  # what the line does on its way


def typed_reads() -> list[Target]:
    master, slave = pty.openpty()
    with open_port(os.ttyname(slave), 115200) as port:
        stock, ours = StockWithoutLine(port, 1), OursWithoutLine(port, 1)
        samples = in_turns(
            {
                "ours": _checked(lambda: ours.read_registers(0, COUNT)),
                "ours, read_array": _checked(lambda: ours.read_array(0, COUNT)),
                "minimalmodbus": _checked(lambda: stock.read_registers(0, COUNT)),
            }
        )
    os.close(slave)
    os.close(master)
    what = f"read_registers({COUNT}) of minimalmodbus' interface, no I/O"
    compare(what, samples)
    return [Target(what, "minimalmodbus", ratio(samples["minimalmodbus"], samples["ours"]), 30, is_least=True)]
