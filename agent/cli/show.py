"""``pile-agent status`` and ``watch``: what the running agent says of itself."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.cli.exits import FAILED, OK
from agent.config import load_config
from agent.pile.firmware import Stage
from agent.protocol.commands import OPERATIONS

CLEAR = "\x1b[H\x1b[2J"
BAR_WIDTH = 20
ANSWER_S = 5.0  # a watched agent speaks each second
RESTART_S = 30.0  # an agent that has ended for an upgrade is back by then
LOOK_S = 0.2
RESTARTING = (Stage.ARMING, Stage.TRIAL, Stage.COMMITTING)
MEANINGS = {
    Stage.WAITING: "until no gun has a charge",
    Stage.ARMING: "the next start will try it",
    Stage.TRIAL: "it must show that it works",
    Stage.COMMITTING: "it is made final",
}


def show(path: Path, request: str, as_json: bool) -> int:
    """Print one snapshot (``status``), or one after another (``watch``) until the agent ends for good."""
    address = load_config(path).socket
    try:
        line = _show_one_agent(address, request, as_json)
        while request == "watch" and _restarts(json.loads(line)):
            _wait_for_agent(address)
            line = _show_one_agent(address, request, as_json)
    except NoAgentError as error:
        print(f"{address}: {error}", file=sys.stderr)
        return FAILED
    return OK


def _show_one_agent(address: Path, request: str, as_json: bool) -> str:
    """Print what one process says, to its end; the last line."""
    line = ""
    for line in ask(address, request):
        _print(line, as_json, clear=request == "watch" and sys.stdout.isatty())
    return line


def _restarts(snapshot: dict[str, Any]) -> bool:
    """It has ended so that another release of it begins."""
    return bool(snapshot["upgrade"]) and snapshot["upgrade"]["stage"] in RESTARTING


def _wait_for_agent(address: Path) -> None:
    """Raises ``NoAgentError``."""
    deadline = time.monotonic() + RESTART_S
    while True:
        try:
            next(ask(address, "status"))
            return
        except NoAgentError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(LOOK_S)


class NoAgentError(Exception):
    """No agent answers at the socket, or it refuses to; the text says why."""


def ask(address: Path, request: str) -> Iterator[str]:
    """The JSON lines a running agent sends to ``request``. Raises ``NoAgentError``."""
    is_answered = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_S)
        for line in _lines(sock, address, request):
            if line.startswith('{"error"'):
                raise NoAgentError(json.loads(line)["error"])
            is_answered = True
            yield line
    if not is_answered:
        raise NoAgentError("the agent closed the connection without an answer")


def _lines(sock: socket.socket, address: Path, request: str) -> Iterator[str]:
    try:
        sock.connect(str(address))
        sock.sendall(request.encode() + b"\n")
        with sock.makefile(encoding="utf-8") as lines:
            yield from lines
    except TimeoutError as error:
        raise NoAgentError(f"the agent did not answer in {ANSWER_S:g} s") from error
    except OSError as error:
        raise NoAgentError(f"no agent answers here ({error.strerror})") from error


def _print(line: str, as_json: bool, clear: bool) -> None:
    text = line.rstrip("\n") if as_json else "\n".join(readable(json.loads(line)))
    print((CLEAR if clear else "") + text, flush=True)


def readable(snapshot: dict[str, Any]) -> list[str]:
    """A snapshot as lines for people."""
    link = snapshot["link"]
    state = "connected" if link["connected"] else f"not connected: {link['reason']}"
    messages = ", ".join(f"{name} {count}" for name, count in sorted(snapshot["messages"].items())) or "none yet"
    return [
        f"pile {snapshot['pile']}, version {snapshot['version']}, up {snapshot['uptime_s']} s",
        f"broker {link['broker']}: {state}; {snapshot['outbox']} messages wait",
        f"messages: {messages}",
        *([f"nothing can be stored: {snapshot['journal']}"] if snapshot["journal"] else []),
        *_settings(snapshot),
        *(line for gun in snapshot["guns"] for line in _gun(gun)),
        *(line for one in snapshot["lines"] for line in _line(one)),
    ]


def _settings(snapshot: dict[str, Any]) -> Iterator[str]:
    site, parameters = snapshot["site"], snapshot["parameters"]
    if site:
        operation = OPERATIONS[site["operation"]]
        yield f"site: station {site['station']}, region {site['region']}, bay {site['bay']}, {operation}"
    if parameters:
        board = parameters["board"]
        limit_a = board["current_limit_da"] / 10
        yield f"set by 106: {limit_a:g} A, {board['mode']}, {board['phases']} phase(s), {parameters['guns']} guns"
    if snapshot["is_configuring"]:
        yield "a 106 is under way"
    if snapshot["upgrade"]:
        yield _upgrade(snapshot["upgrade"])


def _upgrade(upgrade: dict[str, Any]) -> str:
    words = f"upgrade {upgrade['record_id']} to {upgrade['version']}: {upgrade['stage']}"
    if upgrade["stage"] in (Stage.DOWNLOADING, Stage.FLASHING):
        return f"{words} {bar(upgrade['percent'])}"
    text = upgrade["text"] or MEANINGS.get(upgrade["stage"])
    return f"{words}{f': {text}' if text else ''}"


def bar(percent: int) -> str:
    """Progress as ``[######··············]  30 %``."""
    done = percent * BAR_WIDTH // 100
    return f"[{'#' * done}{'·' * (BAR_WIDTH - done)}] {percent:3} %"


def _gun(gun: dict[str, Any]) -> Iterator[str]:
    reading, session = gun["reading"], gun["session"]
    measured = f", {_measured(reading)}" if reading else ""
    yield f"gun {gun['gun']}: {gun['status']}{measured}"
    if session:
        cap = f" of {session['cap_fen']}" if session["cap_fen"] is not None else ""
        so_far = f"{session['energy_wh']} Wh, {session['total_fen']}{cap} fen"
        yield f"  order {session['order']}: {session['phase']}, {so_far}"


def _measured(reading: dict[str, Any]) -> str:
    parts = [
        (reading["voltage_dv"], 10, "V"),
        (reading["current_da"], 10, "A"),
        (reading["power_w"], 1000, "kW"),
        (reading["energy_wh"], 1000, "kWh meter"),
        (reading["temperature_dc"], 10, "°C"),
    ]
    shown = [f"{value / scale:.1f} {unit}" for value, scale, unit in parts if value is not None]
    if reading["soc_pct"] is not None:
        shown.append(f"{reading['soc_pct']} %")
    return ", ".join([*shown, *reading["faults"]])


def _line(line: dict[str, Any]) -> Iterator[str]:
    yield f"{line['port']} at {line['baud']} baud: {line['reason'] or 'open'}"
    for device in line["devices"]:
        faults = f"; faults: {', '.join(device['faults'])}" if device["faults"] else ""
        yield (
            f"  {device['name']}: {device['reason'] or 'answers'}; {device['transactions']} transactions, "
            f"{device['retries']} repeated, {device['failures']} failed, {device['refusals']} refused{faults}"
        )
