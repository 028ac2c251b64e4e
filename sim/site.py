"""A whole charging site on this machine: broker, FTP server, power board on a serial line, real agent, platform.

    with Site(folder) as site:
        site.board({"do": "plug", "gun": 1})
        site.publish(site.command(100, ()))
        site.wait_for(lambda happening: …, timeout_s=5)

What happens anywhere arrives in one queue, in order of time: frames on the serial line, what the board did, what the
pile answered, what the agent logged.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO, Any, Self

from agent.cli.platform_client import PlatformClient
from agent.cli.show import ask
from agent.link.config import LinkConfig
from agent.protocol.codec import Codec, Reply
from sim.broker import Broker, EmbeddedBroker
from sim.ftp_server import FtpServer
from sim.installation import Installation
from sim.maker import Maker
from sim.relay import Relay

PILE = "0000012345"
IP, API_VERSION = "127.0.0.1", "API:2.0.2"
SOCKET = "control.sock"
READY_S = 15.0
BEGUN, OVER = b"BEGUN", b"OVER"  # to the watchdog, beside what the agent says
FTP_LOGIN = ("firmware", "pa55-of-R9")  # a password that stands nowhere else, to be searched for

CHARGING = "price = 100000\nservice_fee = 50000"  # 1.50 yuan per kWh


@dataclass(frozen=True)
class Happening:
    """``kind``: frame, board, reply, log, ended, restarted (the agent was); ``at``: monotonic seconds."""

    at: float
    kind: str
    what: Any


class Site:
    """Everything runs between ``__enter__`` and ``__exit__``; all it starts it stops.

    ``settings`` are lines for the agent's configuration by section (``{"line": "watchdog_s = 5"}``), ``platform`` are
    fields of the platform's own ``LinkConfig``. ``with_network``: the agent reaches its broker through a ``network``
    that can be cut. ``maker``: whose firmware the pile trusts; the agent is then started by the launcher, and again
    whenever it ends. ``watchdog_s``: it is ended when it has not said for so long that it is alive, as systemd does.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: Broker | None = None,
        baud: int = 9600,
        guns: int = 2,
        speedup: float = 1.0,
        settings: Mapping[str, str] | None = None,
        platform: Mapping[str, Any] | None = None,
        with_network: bool = False,
        maker: Maker | None = None,
        watchdog_s: float | None = None,
    ) -> None:
        self.folder = folder
        self.broker = broker or EmbeddedBroker(folder / "broker")
        self.network = Relay((self.broker.host, self.broker.port)) if with_network else None
        self.ftp_folder = _made(folder / "ftp")
        self.ftp = FtpServer(self.ftp_folder, *FTP_LOGIN)
        self.config_file = folder / "pile.toml"
        self.reboot_mark = folder / "linux-board-rebooted"
        self.codec = Codec()
        self.happenings: SimpleQueue[Happening] = SimpleQueue()
        self.port = ""
        self.agent_program: Sequence[str] = ("-m", "agent.cli.main")  # what Python runs as `pile-agent`
        self.installation: Installation | None = None
        if maker is not None:
            firmware = _made(folder / "data") / "firmware"
            self.installation = Installation(folder / "install", firmware, maker.root)
            self.agent_program = self.installation.program
        self._baud, self._guns = baud, guns
        self._settings = {"line": "poll_ms = 500", "charging": CHARGING} | dict(settings or {})
        self._link = LinkConfig(
            host=self.broker.host, port=self.broker.port, pile=PILE, client_id="", **(platform or {})
        )
        self._board_command = [sys.executable, "-m", "sim.power_board", "--baud", str(baud), "--guns", str(guns),
                               "--speedup", str(speedup)]  # fmt: skip
        self._stack = ExitStack()
        self._agent: subprocess.Popen[str] | None = None
        self._is_wanted = False
        self._agent_lock = threading.RLock()  # who kills the agent must not meet who starts it again
        self._watchdog_s = watchdog_s
        self._watchdog: socket.socket | None = None
        self._environment = dict(os.environ)
        self._board: subprocess.Popen[str]
        self._board_answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._platform: PlatformClient

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.broker)
            self._stack.enter_context(self.ftp)
            if self.network is not None:
                self._stack.enter_context(self.network)
            if self.installation is not None:
                self.installation.start()
                self._stack.callback(self.installation.stop)
            self._start_board()
            if self._watchdog_s is not None:
                self._start_watchdog(self._watchdog_s)
            self._stack.callback(self.stop_agent)
            self.config_file.write_text(self._config(), encoding="utf-8")
            # Its session waits for it, as a platform's queue does.
            self._platform = self._stack.enter_context(PlatformClient(self._link, self._reply_came, "platform"))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ---- the agent ----

    def start_agent(self) -> None:
        """Run the real agent in its own process; its log joins the happenings."""
        command = [sys.executable, *self.agent_program, "run", "--config", str(self.config_file)]
        with self._agent_lock:
            agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self._environment)
            self._agent, self._is_wanted = agent, True
            if self._watchdog is not None:
                self._watchdog.sendto(BEGUN, self._watchdog.getsockname())
        assert agent.stderr is not None
        threading.Thread(target=self._read_log, args=(agent, agent.stderr), daemon=True).start()

    @property
    def agent_pid(self) -> int:
        assert self._agent is not None
        return self._agent.pid

    def kill_agent(self) -> None:
        """End it as a power cut does, or systemd: with the process that fetches firmware for it."""
        with self._agent_lock:
            assert self._agent is not None
            self._is_wanted = False
            if self._agent.poll() is None:
                self._agent.send_signal(signal.SIGSTOP)  # it must not begin another one now
                workers = _children(self._agent.pid)
                self._agent.kill()
                self._agent.wait()
                for pid in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def stop_agent(self) -> int | None:
        """End it by SIGTERM; its exit code."""
        if self._agent is None:
            return None
        with self._agent_lock:
            self._is_wanted = False
            self._agent.terminate()
        try:
            return self._agent.wait(READY_S)
        except subprocess.TimeoutExpired:
            self.kill_agent()
            raise

    def status(self) -> dict[str, Any]:
        """What ``pile-agent status --json`` prints. Raises ``NoAgentError`` when none runs."""
        snapshot: dict[str, Any] = json.loads(next(ask(self.folder / SOCKET, "status")))
        return snapshot

    def bill(self, order: str) -> dict[str, Any]:
        """What ``pile-agent bill --json`` prints; ``{}`` when there is no bill."""
        return next(iter(self._shown("bill", order)), {})

    def records(self, *options: str) -> list[dict[str, Any]]:
        """What ``pile-agent records --json`` prints with these options."""
        return self._shown("records", *options)

    def updates(self) -> list[dict[str, Any]]:
        """What ``pile-agent updates --json`` prints."""
        return self._shown("updates")

    def _shown(self, *arguments: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "agent.cli.main", *arguments, "--json", "--config", str(self.config_file)]
        printed = subprocess.run(command, capture_output=True).stdout
        return [json.loads(line) for line in printed.splitlines()]

    # ---- the platform ----

    def command(self, number: int, data: Sequence[Any], timestamp: int | None = None, pile: str = PILE) -> bytes:
        """A command's line, for this pile and stamped now unless told otherwise."""
        stamp = timestamp if timestamp is not None else time.time_ns() // 1_000_000
        return self.codec.encode(IP, API_VERSION, number, stamp, pile, data)

    def publish(self, *lines: bytes) -> None:
        for line in lines:
            self._platform.publish(line)

    def wait_for_platform(self) -> None:
        """Until the platform has found its broker again."""
        self._platform.wait_until_ready()

    # ---- the power board ----

    def board(self, command: dict[str, Any]) -> dict[str, Any]:
        """Have something done at the board (``python -m sim.power_board --help`` lists it); its answer."""
        assert self._board.stdin is not None
        self._board.stdin.write(json.dumps(command) + "\n")
        self._board.stdin.flush()
        return self._board_answers.get(timeout=READY_S)

    # ---- what happens ----

    def next(self, timeout_s: float) -> Happening | None:
        """The next happening; ``None`` when there is none in time."""
        try:
            return self.happenings.get(timeout=max(timeout_s, 0))
        except Empty:
            return None

    def wait_for(self, wanted: Callable[[Happening], bool], timeout_s: float = READY_S) -> Happening:
        """The first happening that is ``wanted``; those before it are passed over. Raises ``TimeoutError``."""
        deadline = time.monotonic() + timeout_s
        while (happening := self.next(deadline - time.monotonic())) is not None:
            if wanted(happening):
                return happening
        raise TimeoutError(f"nothing of the kind within {timeout_s} s")

    def wait_reply(self, number: int, *results: int, timeout_s: float = READY_S) -> Reply:
        """The next reply to (or report of) that command with one of those results."""
        happening = self.wait_for(
            lambda one: one.kind == "reply" and one.what.command == number and one.what.result in results, timeout_s
        )
        reply: Reply = happening.what
        return reply

    def _tell(self, kind: str, what: Any) -> None:
        self.happenings.put(Happening(time.monotonic(), kind, what))

    def _reply_came(self, line: bytes) -> None:
        self._tell("reply", self.codec.decode_reply(line))

    def _read_log(self, agent: "subprocess.Popen[str]", stderr: IO[str]) -> None:
        for line in stderr:
            self._tell("log", line.rstrip("\n"))
        code = agent.wait()
        with self._agent_lock:
            if self.installation is not None and self._is_wanted and agent is self._agent:
                self._tell("restarted", code)
                self.start_agent()
            else:
                self._tell("ended", code)

    def _start_watchdog(self, seconds: float) -> None:
        """systemd's part: listen to what the agent says of itself, and end one that says nothing."""
        address = self.folder / "notify"
        self._watchdog = listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(address))
        listener.settimeout(seconds)
        self._environment["NOTIFY_SOCKET"] = str(address)
        thread = threading.Thread(target=self._watch_agent, args=(listener,), name="watchdog", daemon=True)
        thread.start()

        def end() -> None:
            listener.sendto(OVER, str(address))
            thread.join()
            listener.close()

        self._stack.callback(end)

    def _watch_agent(self, listener: socket.socket) -> None:
        while True:
            try:
                if listener.recv(64) == OVER:
                    return
            except TimeoutError:
                with self._agent_lock:
                    if self._agent is not None and self._is_wanted:
                        self._agent.kill()

    def _start_board(self) -> None:
        self._board = subprocess.Popen(self._board_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stack.callback(self._stop_board)
        assert self._board.stdout is not None
        self.port = json.loads(self._board.stdout.readline())["port"]
        threading.Thread(target=self._read_board, args=(self._board.stdout,), daemon=True).start()

    def _stop_board(self) -> None:
        assert self._board.stdin is not None
        self._board.stdin.close()
        self._board.wait(READY_S)

    def _read_board(self, stdout: IO[str]) -> None:
        for line in stdout:
            said = json.loads(line)
            if "frame" in said:
                self._tell("frame", said)
            elif "board" in said:
                self._tell("board", said["board"])
            else:
                self._board_answers.put(said)

    def _config(self) -> str:
        more = self._settings.get
        return f"""\
[pile]
number = "{PILE}"
data_dir = "{_made(self.folder / "data")}"
socket = "{self.folder / SOCKET}"
reboot_command = ["touch", "{self.reboot_mark}"]
{more("pile", "")}

[broker]
host = "{self.broker.host}"
port = {self.network.port if self.network is not None else self.broker.port}
mode = "{self._link.mode}"
{more("broker", "")}

[[line]]
port = "{self.port}"
baud = {self._baud}
{more("line", "")}

[[line.device]]
guns = {list(range(1, self._guns + 1))}

[charging]
{more("charging", "")}
{self._firmware()}"""

    def _firmware(self) -> str:
        if self.installation is None:
            return ""
        more = self._settings.get("firmware", "")
        return f"""
[firmware]
install_dir = "{self.installation.root}"
{more}
"""


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
