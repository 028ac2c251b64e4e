"""Our Modbus RTU framing beside stock minimalmodbus, in one run: ``python -m bench.rtu``.

Prints medians and their ratios; nothing is asserted. Both sides get the same bytes and do the same checks.
"""

import multiprocessing
import os
import pty
import time
import tty
from array import array
from collections.abc import Callable
from statistics import median

import minimalmodbus

from agent.power.instrument import Instrument, line_on
from agent.power.port import open_port
from cext import rtu

COUNT = 60
REQUEST = rtu.read_request(1, 3, 0, COUNT)
ANSWER = rtu.frame(1, 3, bytes([2 * COUNT]) + bytes(range(2 * COUNT)))
ROUNDS = 31
TRANSACTIONS = 300

Sample = Callable[[], float]  # seconds one call costs


def main() -> None:
    decoding()
    typed_reads()
    transactions()


def decoding() -> None:
    into = array("H", [0]) * COUNT

    def stock() -> list[int]:
        payload = minimalmodbus._extract_payload(ANSWER, 1, "rtu", 3)
        values: list[int] = minimalmodbus._parse_payload(
            payload, 3, 0, None, 0, COUNT, 0, False, 0, minimalmodbus._Payloadformat.REGISTERS
        )
        return values

    compare(
        f"decode a {len(ANSWER)}-byte answer to {COUNT} integers",
        ("minimalmodbus, list", per_call(stock, 20)),
        ("ours, list", per_call(lambda: rtu.registers(rtu.check_answer(REQUEST, ANSWER)).tolist(), 2000)),
        ("ours, array", per_call(lambda: rtu.registers(rtu.check_answer(REQUEST, ANSWER)), 2000)),
        ("ours, in place", per_call(lambda: rtu.registers_into(rtu.check_answer(REQUEST, ANSWER), into), 2000)),
    )


def typed_reads() -> None:
    class StockWithoutLine(minimalmodbus.Instrument):  # type: ignore[misc]  # minimalmodbus has no types
        def _communicate(self, request: bytes, number_of_bytes_to_read: int) -> bytes:
            return ANSWER

    class OursWithoutLine(Instrument):
        def _communicate(self, request: bytes, number_of_bytes_to_read: int = 0) -> bytes:
            rtu.check_answer(request, ANSWER)  # what the line does on its way
            return ANSWER

    master, slave = pty.openpty()
    with open_port(os.ttyname(slave), 115200) as port:
        stock, ours = StockWithoutLine(port, 1), OursWithoutLine(port, 1)
        compare(
            f"read_registers({COUNT}) without I/O",
            ("minimalmodbus", per_call(lambda: stock.read_registers(0, COUNT), 20)),
            ("ours", per_call(lambda: ours.read_registers(0, COUNT), 1000)),
            ("ours, read_array", per_call(lambda: ours.read_array(0, COUNT), 1000)),
        )
    os.close(slave)
    os.close(master)


def transactions() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    device = multiprocessing.get_context("fork").Process(target=answer_at_once, args=(master,), daemon=True)
    device.start()
    with open_port(os.ttyname(slave), 115200) as port:
        stock, ours = minimalmodbus.Instrument(port, 1), Instrument(port, 1)
        gapless = rtu.Line(port.fileno(), 115200, quiet_us=0)
        port.timeout = 1.0  # what minimalmodbus waits for the whole answer
        sides = {
            "minimalmodbus, silent interval": lambda: stock.read_registers(0, COUNT),
            "ours, silent interval": lambda: ours.read_registers(0, COUNT),
            "bare line, no silent interval": lambda: gapless.transact(REQUEST),
        }
        title = f"read of {COUNT} registers, instant device on a pty, 115200 baud"
        compare(f"{title}: time", *((name, spread(call, time.perf_counter)) for name, call in sides.items()))
        compare(f"{title}: CPU", *((name, spread(call, time.thread_time)) for name, call in sides.items()))
        print(f"silent interval kept by both: {line_on(port).quiet_us / 1000:.2f} ms\n")
    device.terminate()
    device.join()
    os.close(slave)
    os.close(master)


def answer_at_once(master: int) -> None:
    while os.read(master, 256):
        os.write(master, ANSWER)


def per_call(call: Callable[[], object], number: int) -> Sample:
    def sample() -> float:
        begin = time.perf_counter()
        for _ in range(number):
            call()
        return (time.perf_counter() - begin) / number

    return sample


def spread(call: Callable[[], object], clock: Callable[[], float]) -> Sample:
    def sample() -> float:
        call()  # so that every one counted has the silent interval before it
        begin = clock()
        for _ in range(TRANSACTIONS // ROUNDS):
            call()
        return (clock() - begin) / (TRANSACTIONS // ROUNDS)

    return sample


def compare(title: str, *sides: tuple[str, Sample]) -> None:
    """Run the sides in turns, so that a busy moment of the machine falls on all, and hold them to the first."""
    samples: dict[str, list[float]] = {name: [] for name, _ in sides}
    for _ in range(ROUNDS):
        for name, sample in sides:
            samples[name].append(sample() * 1e6)
    print(f"{title}\n  {'':32} {'median':>13}  (quartiles)  {'times as fast':>16}")
    reference = median(samples[sides[0][0]])
    for name, values in samples.items():
        values.sort()
        quartiles = f"{values[len(values) // 4]:.2f}..{values[3 * len(values) // 4]:.2f}"
        print(f"  {name:32} {median(values):10.2f} µs  ({quartiles})  {reference / median(values):8.1f}x")
    print()


if __name__ == "__main__":
    main()
