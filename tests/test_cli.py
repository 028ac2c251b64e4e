"""Every subcommand of ``pile-agent`` as a process of its own: what it prints, and with which exit code."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from site_helpers import FAST, working

from agent.protocol.commands import COMMANDS
from agent.version import VERSION
from sim.broker import Mosquitto, free_port
from sim.site import PILE, Site
from sim.watch import Watch

PROGRAM = [sys.executable, "-m", "agent.cli.main"]
AT_ONCE_S = 15  # an emulated processor takes seconds to start Python; "send" itself would wait 90
GUN_QUERY = f"127.0.0.1,API:2.0.2,103,1795305600000,{PILE},1"
GUN_QUERY_JSON = {
    "ip": "127.0.0.1",
    "version": "API:2.0.2",
    "command": 103,
    "timestamp": 1795305600000,
    "pile": PILE,
    "data": {"gun": 1},
}


def pile_agent(*arguments: str | Path, stdin: str = "", timeout_s: float = 30) -> "subprocess.CompletedProcess[str]":
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), baud=115_200, settings={"line": FAST}) as site:
        yield site


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[Watch]:
    """One agent for all who only talk to it."""
    with working(site) as watch:
        yield watch


@pytest.fixture
def config(running: Watch) -> Path:
    return running.site.config_file


@pytest.fixture
def idle_config(tmp_path: Path) -> Path:
    """Of an agent that does not run: no board and no broker are there."""
    path = tmp_path / "pile.toml"
    path.write_text(
        f'[pile]\nnumber = "{PILE}"\ndata_dir = "{tmp_path}"\nsocket = "{tmp_path}/control.sock"\n'
        f'[broker]\nhost = "127.0.0.1"\nport = {free_port()}\n'
        f'[[line]]\nport = "{tmp_path}/no-port"\n[[line.device]]\nguns = [1]\n'
    )
    return path


# ---- help ----


def test_help_teaches_the_first_steps() -> None:
    done = pile_agent("--help")

    assert done.returncode == 0
    for word in ("run", "check", "send", "status", "watch", "decode", "encode", "make demo", "Exit codes: 0 good"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["run", "check", "send", "status", "watch", "decode", "encode"])
def test_every_subcommand_has_a_help(command: str) -> None:
    done = pile_agent(command, "--help")
    assert done.returncode == 0
    assert f"usage: pile-agent {command}" in done.stdout


def test_help_of_send_lists_every_command_with_its_fields() -> None:
    listed = pile_agent("send", "--help").stdout
    for number in COMMANDS:
        assert f"\n  {number} " in listed
    assert "101 start or stop" in " ".join(listed.split())
    assert "period_s= timeout_s=" in listed


def test_version() -> None:
    assert pile_agent("--version").stdout == f"pile-agent {VERSION}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["send"], ["send", "one"], ["decode", "--utc-offset"]])
def test_wrong_usage_exits_2_and_says_what_is_expected(arguments: list[str]) -> None:
    done = pile_agent(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: pile-agent")


# ---- run ----


def test_run_ends_within_5_s_of_sigterm_with_exit_code_0(idle_config: Path) -> None:
    agent = start_agent(idle_config)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(5) == 0
    assert not (idle_config.parent / "control.sock").exists()


def test_run_ends_at_ctrl_c(idle_config: Path) -> None:
    agent = start_agent(idle_config)
    agent.send_signal(signal.SIGINT)
    assert agent.wait(5) == 0


def test_run_with_a_bad_configuration_lists_every_fault_and_exits_78(tmp_path: Path) -> None:
    path = tmp_path / "pile.toml"
    path.write_text("[pile]\nnumber = 12345\n[broker]\nport = 0\nspeed = 1\n[[line]]\nbaud = 9601\n")

    done = pile_agent("run", "--config", path)

    assert done.returncode == 78
    for fault in ("pile.number = 12345", "broker.host is missing", "broker.port = 0", "broker.speed is unknown",
                  "line[0].port is missing", "line[0].baud = 9601", "[[line[0].device]] expected"):  # fmt: skip
        assert fault in done.stderr


def test_run_without_a_configuration_exits_78(tmp_path: Path) -> None:
    done = pile_agent("run", "--config", tmp_path / "none.toml")
    assert (done.returncode, done.stderr) == (78, f"{tmp_path}/none.toml: No such file or directory\n")


def test_run_beside_another_agent_names_it_and_exits_1(idle_config: Path) -> None:
    agent = start_agent(idle_config)
    try:
        done = pile_agent("run", "--config", idle_config)
        assert done.returncode == 1
        assert f"another agent (pid {agent.pid}) is using it" in done.stderr
        assert "Traceback" not in done.stderr
        assert pile_agent("status", "--config", idle_config).returncode == 0  # the first one was not disturbed
    finally:
        agent.kill()
        agent.wait()


def test_run_with_a_socket_that_cannot_be_made_names_it_and_exits_1(idle_config: Path) -> None:
    (idle_config.parent / "control.sock").mkdir()
    done = pile_agent("run", "--config", idle_config)
    assert done.returncode == 1
    assert f"Address already in use: '{idle_config.parent}/control.sock'" in done.stderr


def start_agent(config: Path) -> "subprocess.Popen[str]":
    """Runs, and has a signal handler, once it logs."""
    agent = subprocess.Popen([*PROGRAM, "run", "--config", str(config)], stderr=subprocess.PIPE, text=True)
    assert agent.stderr is not None
    while f"pile {PILE}, version" not in agent.stderr.readline():
        assert agent.poll() is None
    return agent


# ---- check ----


def test_check_says_in_short_what_a_good_configuration_has(config: Path, running: Watch) -> None:
    done = pile_agent("check", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"pile {PILE}: good\n"
        f"  broker 127.0.0.1:{running.site.broker.port}, commands on klc/command/qik\n"
        f"  {running.site.port} at 115200 baud\n"
        "    board: unit 1, profile reference, guns 1, 2\n"
    )


def test_check_names_every_fault_and_exits_78(idle_config: Path) -> None:
    idle_config.write_text(idle_config.read_text().replace("guns = [1]", 'guns = [2]\nprofile = "none"\nunit = 0'))
    done = pile_agent("check", "--config", idle_config)
    assert (done.returncode, done.stdout) == (78, "")
    assert "line[0].device[0].unit = 0: expected an integer 1..247" in done.stderr
    assert "line[0].device[0].profile" in done.stderr
    assert done.stderr.endswith("2 faults\n")


# ---- status and watch ----


def test_status_for_people(config: Path, running: Watch) -> None:
    done = pile_agent("status", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"pile {PILE}, version {VERSION}, up ")
    assert lines[1] == f"broker 127.0.0.1:{running.site.broker.port}: connected; 0 messages wait"
    assert lines[3].startswith("gun 1: idle, 0.0 V, 0.0 A, 0.0 kW, 1000.0 kWh meter, 25.0 °C")
    assert lines[5] == f"{running.site.port} at 115200 baud: open"
    assert lines[6].startswith("  board: answers; ")


def test_status_as_json(config: Path) -> None:
    (line,) = pile_agent("status", "--json", "--config", config).stdout.splitlines()
    status = json.loads(line)
    assert (status["pile"], status["link"]["connected"]) == (PILE, True)
    assert [gun["status"] for gun in status["guns"]] == ["idle", "idle"]


def test_watch_shows_one_snapshot_after_another(config: Path) -> None:
    command = [*PROGRAM, "watch", "--json", "--config", str(config)]
    # A shell's background job, which this run may be, has Ctrl-C ignored, and hands that down.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    assert watch.stdout is not None
    try:
        uptimes = [json.loads(watch.stdout.readline())["uptime_s"] for _ in range(3)]
    finally:
        watch.send_signal(signal.SIGINT)
    assert uptimes[2] > uptimes[0]
    assert watch.wait(5) == 130


@pytest.mark.parametrize("command", ["status", "watch"])
def test_without_an_agent_there_is_nothing_to_show(idle_config: Path, command: str) -> None:
    done = pile_agent(command, "--config", idle_config)
    assert done.returncode == 1
    assert done.stderr == f"{idle_config.parent}/control.sock: no agent answers here (No such file or directory)\n"


def test_status_of_an_agent_that_hangs_up(idle_config: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(idle_config.parent / "control.sock"))
        server.listen()
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        done = pile_agent("status", "--config", idle_config)
    assert done.returncode == 1
    assert "control.sock: " in done.stderr


def test_status_with_a_bad_configuration_exits_78(tmp_path: Path) -> None:
    assert pile_agent("status", "--config", tmp_path / "none.toml").returncode == 78


# ---- send ----


def test_send_prints_the_replies_up_to_the_final_one(config: Path) -> None:
    done = pile_agent("send", "--config", config, "107", "period_s=30", "timeout_s=90")
    assert (done.returncode, done.stderr) == (0, "")
    reply = json.loads(done.stdout)
    assert (reply["command"], reply["result"], reply["data"]) == (107, 0, {"period_s": 30, "timeout_s": 90})


def test_send_exits_1_when_the_final_reply_is_an_error(config: Path) -> None:
    fields = ["type=1", "gun=1", "account=U1", "balance_fen=0", "prepaid_fen=500", "free_fen=0", "order=00042"]
    done = pile_agent("send", "--config", config, "101", *fields)
    assert done.returncode == 1
    reply = json.loads(done.stdout)
    assert (reply["meaning"], reply["message"]) == ("NOT_PLUGGED", "no car is plugged in at gun 1")


def test_send_waits_no_longer_than_told(idle_config: Path, site: Site) -> None:
    """There is a broker, but no agent."""
    text = idle_config.read_text().replace(f'"{PILE}"', '"nobody"')
    idle_config.write_text(_with_port(text, site.broker.port))
    done = pile_agent("send", "--config", idle_config, "--timeout", "0.5", "100")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no final reply within 0.5 s\n")


def test_send_without_a_broker_says_so_at_once(idle_config: Path) -> None:
    done = pile_agent("send", "--config", idle_config, "100", timeout_s=AT_ONCE_S)
    assert done.returncode == 1
    assert done.stderr.endswith(": connection refused, no broker listens there\n")


def test_send_with_a_wrong_password_says_so_at_once(idle_config: Path, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", users={"pile": "right"}) as broker:
        text = _with_port(idle_config.read_text(), broker.port)
        idle_config.write_text(text.replace("[broker]", '[broker]\nusername = "pile"\npassword = "wrong-secret"'))
        done = pile_agent("send", "--config", idle_config, "100", timeout_s=AT_ONCE_S)
    assert done.returncode == 1
    assert "refused the login (user pile, client id platform-" in done.stderr
    assert "wrong-secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["107", "period_s=30"], "timeout_s"),
        (["107", "period_s=x", "timeout_s=90"], "period_s = 'x': expected a number"),
        (["107", "period_s"], "period_s: expected FIELD=VALUE"),
        (["107", "period_s=30", "timeout_s=90", "speed=1"], "speed"),
        (["103", "gun=0"], "gun = 0: expected"),
        (["200"], "command = 200: expected"),
    ],
)
def test_send_checks_the_command_before_anything_is_sent(idle_config: Path, arguments: list[str], said: str) -> None:
    done = pile_agent("send", "--config", idle_config, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _with_port(config: str, port: int) -> str:
    head, _, tail = config.partition("\nport = ")
    return f"{head}\nport = {port}\n{tail.partition(chr(10))[2]}"


# ---- decode and encode ----


def test_decode_and_encode_are_each_others_reverse() -> None:
    lines = "".join(f"127.0.0.1,API:2.0.2,{number},1795305600000,{PILE}{_data(number)}\n" for number in COMMANDS)

    decoded = pile_agent("decode", stdin=lines)
    encoded = pile_agent("encode", stdin=decoded.stdout)

    assert (decoded.returncode, decoded.stderr, encoded.returncode, encoded.stderr) == (0, "", 0, "")
    assert encoded.stdout == lines


def test_decode_writes_one_object_a_line_and_exits_1_if_any_failed() -> None:
    bad = GUN_QUERY.removesuffix("1") + "one"
    done = pile_agent("decode", stdin=f"{GUN_QUERY}\n{bad}\n{GUN_QUERY}\n")
    assert done.returncode == 1
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert objects[0] == objects[2] == GUN_QUERY_JSON
    assert objects[1] == {
        "error": {"result": 10, "field": "gun", "message": "gun = 'one': expected a gun's number from 1"},
        "line": 2,
    }


def test_encode_writes_one_line_an_object_and_exits_1_if_any_failed() -> None:
    done = pile_agent("encode", stdin=f"{json.dumps(GUN_QUERY_JSON)}\nnonsense\n")
    assert (done.returncode, done.stdout) == (1, f"{GUN_QUERY}\n")
    assert json.loads(done.stderr)["line"] == 2


def test_decode_of_replies() -> None:
    done = pile_agent("decode", "--replies", stdin=f"0.0.0.0,API:2.0.2,107,1,{PILE},7,0,30,90\n")
    assert json.loads(done.stdout)["data"] == {"period_s": 30, "timeout_s": 90}


def test_a_wrong_offset_is_refused() -> None:
    done = pile_agent("decode", "--utc-offset", "8")
    assert (done.returncode, done.stderr) == (1, "--utc-offset = 8: expected +HH:MM or -HH:MM\n")


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    """As in ``pile-agent decode | head -1``."""
    command = subprocess.Popen(
        [*PROGRAM, "decode"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdin is not None
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdin.write(f"{GUN_QUERY}\n")
    command.stdin.flush()
    assert json.loads(command.stdout.readline()) == GUN_QUERY_JSON
    command.stdout.close()
    command.stdin.write(f"{GUN_QUERY}\n")
    command.stdin.close()
    assert command.wait(5) == 1
    assert command.stderr.read() == ""


def test_a_reader_of_status_that_goes_away(config: Path) -> None:
    command = subprocess.Popen(
        [*PROGRAM, "watch", "--config", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.readline()
    command.stdout.close()
    assert command.wait(5) == 1
    assert command.stderr.read() == ""


def _data(number: int) -> str:
    example: Any = COMMANDS[number].example
    return f",{example}" if example else ""
