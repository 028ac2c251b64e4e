"""A machine to do docs/operations/brokers.md on.

What stands in for the machine's own: a root folder for /etc, and small programs for what would ask for root or the
network (sudo, apt, chgrp, systemctl). Everything else is the real thing: openssl, rabbitmqctl, RabbitMQ,
mosquitto, the router and the agent.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sim.broker import ServerTls, ShippedMosquitto, free_port
from sim.rabbitmq import RabbitMq

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations" / "brokers.md"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Block:
    kind: str  # sh, text or toml
    text: str
    before: str  # the paragraph above it


def blocks() -> list[Block]:
    found, paragraph = [], [""]
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("```"):
            text = list(iter(lambda: next(lines), "```"))
            found.append(Block(line.removeprefix("```"), "\n".join(text), " ".join(paragraph)))
        elif line:
            paragraph = [line] if paragraph[-1] == "" else [*paragraph, line]
        else:
            paragraph = [*paragraph, ""]
    return found


PROGRAMS = {
    "sudo": '[ "$1" != -u ] || shift 2; exec "$@"',
    # What is to be installed must exist, and is there already; for a package of ours the clone itself stands in.
    "apt": 'shift; case $1 in ./*.deb) exit 0;; esac; exec dpkg-query -W "$@"',
    "chgrp": "exit 0",
    "install": """
for word; do
    shift
    if [ "$word" = -g ]; then skip=1; elif [ -n "$skip" ]; then skip=; else set -- "$@" "$word"; fi
done
exec /usr/bin/install "$@\"""",
}


class Machine:
    """Runs the page's commands in their order."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.work = folder / "clone"  # what the operator sees as the repository
        self._bin = folder / "bin"
        self._metrics_port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        etc = self.root / "etc"
        for name in ("rabbitmq", "mosquitto", "pile-agent/tls", "pile-router"):
            (etc / name).mkdir(parents=True)
        self.rabbit = RabbitMq(folder / "rabbit", _tls(etc / "rabbitmq"), source=etc / "rabbitmq")
        self.mosquitto = ShippedMosquitto(folder / "mosquitto", _tls(etc / "mosquitto"), source=etc / "mosquitto")
        self._tls_port, self._plain_port = self.rabbit.tls_port, self.rabbit.port
        self._prepare()

    def _prepare(self) -> None:
        self.work.mkdir()
        for name in ("brokers", "systemd"):
            (self.work / name).symlink_to(ROOT / name)
        (self.work / "numbers.txt").write_text("".join(f"{n:010}\n" for n in (*range(1, 51), 99999)))
        for name, script in PROGRAMS.items():
            self._program(self._bin / name, script)
        environment = {key: value for key, value in self.rabbit.environment.items() if os.environ.get(key) != value}
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items())
        self._program(self._bin / "rabbitmqctl", f'{exports}exec {RabbitMq.scripts()}/rabbitmqctl "$@"')
        router_config = self.root / "etc" / "pile-router" / "router.toml"
        self._program(self._bin / "pile-router", _with_config("-m router", router_config, "piles"))
        agent_config = self.root / "etc" / "pile-agent" / "pile.toml"
        self._program(self._bin / "pile-agent", _with_config(str(BIN / "pile-agent"), agent_config, ""))

    def _program(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    # --- what the page says ---

    def do(self, command: str) -> str:
        """What it prints. Raises AssertionError when it fails."""
        words = [word for word in shlex.split(command) if word != "sudo"]
        if words[0] == "systemctl":
            self._systemctl(words[1:])
            return ""
        environment = {**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}:/usr/sbin", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["sh", "-c", self.here(command)],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def here(self, text: str) -> str:
        """With this machine's folders, ports and name of the broker."""
        text = re.sub(r"(?<![\w.])/(etc|opt)/", rf"{self.root}/\1/", text)
        text = text.replace("broker.example", "localhost").replace("9108", str(self._metrics_port))
        ports = {
            "5672": self.rabbit.amqp_port,
            "5671": self.rabbit.amqps_port,
            "8883": self._tls_port,
            "1883": self._plain_port,
        }
        for shipped, ours in ports.items():
            text = re.sub(rf"(?<!\d){shipped}(?!\d)", str(ours), text)
        return text

    def write(self, block: Block) -> None:
        """A configuration whose file the paragraph above names."""
        name = re.findall(r"`(/etc/[\w/.-]+|platform\.toml)`", block.before)[0]
        text = self.here(block.text)
        if name.endswith("pile.toml"):
            own = f'data_dir = "{self.root}"\nsocket = "{self.root}/control.sock"\n'
            text = text.replace("[broker]", f"{own}\n[broker]", 1)
            for paper in ("ca.crt", "0000012345.crt", "0000012345.key"):  # "go to that pile", says the page
                shutil.copy(self.root / "etc/pile-ca" / paper, self.root / "etc/pile-agent/tls")
        if name.endswith("router.toml"):
            text += f'\n[metrics]\nlisten = "127.0.0.1:{self._metrics_port}"\n'
        if name == "platform.toml":
            pile = (self.root / "etc/pile-agent/pile.toml").read_text()
            text = re.sub(r"\[broker\].*(?=\[\[line\]\])", text + "\n\n", pile, flags=re.DOTALL)
        path = self.work / name if name == "platform.toml" else Path(self.here(name))
        path.write_text(text)

    def _systemctl(self, words: list[str]) -> None:
        service = words[-1]
        if service == "rabbitmq-server":
            self.rabbit.restart()
        elif service == "mosquitto":
            self._tls_port, self._plain_port = self.mosquitto.tls_port, self.mosquitto.port
            self.mosquitto.restart()
        elif service == "pile-router":
            unit = (ROOT / "systemd/pile-router.service").read_text()
            command = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)[0]
            _, *arguments = shlex.split(self.here(command))
            self._start(service, [str(self._bin / "pile-router"), *arguments])
        elif service == "pile-agent":
            self._start(service, [str(self._bin / "pile-agent"), "run"])
        else:
            assert words == ["daemon-reload"]

    def _start(self, service: str, command: list[str]) -> None:
        self._processes[service] = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
        )

    def switch_off(self) -> None:
        for process in self._processes.values():
            process.terminate()
            process.wait(20)
        self.mosquitto.stop()
        self.rabbit.stop()


def _tls(folder: Path) -> ServerTls:
    return ServerTls(folder / "tls/broker.crt", folder / "tls/broker.key", folder / "tls/ca.crt")


def _with_config(program: str, config: Path, without: str) -> str:
    """A program that finds its configuration below the root folder, as it finds it in /etc otherwise."""
    run = f"exec {sys.executable} {program}"
    return (
        f'case " $* " in *" --config "*|" {without} "*) {run} "$@";; esac\n'
        f'command=$1; shift; {run} "$command" --config {config} "$@"'
    )
