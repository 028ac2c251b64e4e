"""docs/operations/brokers.md, done: every command of the page against the real servers (tests/page_machine.py)."""

import re
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from broker_helpers import Pile
from page_machine import PAGE, ROOT, Machine, blocks

from agent.config import load_config as load_agent_config
from router.config import TABLES, MqttOutputConfig, load_config


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    yield machine
    machine.switch_off()


def as_expected(said: str, expected: str) -> bool:
    """``…`` stands for anything."""
    pattern = ".*".join(re.escape(part.strip("\n")) for part in expected.split("…"))
    return re.search(pattern, said, re.DOTALL) is not None


def patiently(command: Callable[[], str], expected: str) -> str:
    """What it says when it says the expected; at the latest after 30 s, as what a service does is not done at once."""
    deadline = time.monotonic() + 30
    while not as_expected(said := command(), expected) and time.monotonic() < deadline:
        time.sleep(0.2)
    return said


def test_the_page_is_done_step_by_step(machine: Machine) -> None:
    page = blocks()
    for index, block in enumerate(page):
        if block.kind == "toml" and re.search(r"\.toml`", block.before):
            machine.write(block)
        if block.kind != "sh":
            continue
        *first, last = block.text.splitlines()
        for command in first:
            machine.do(command)
        following = page[index + 1] if index + 1 < len(page) else None
        if following is not None and following.kind == "text":
            said = patiently(lambda last=last: machine.do(last), following.text)  # type: ignore[misc]
            assert as_expected(said, following.text), said
        else:
            machine.do(last)


def test_afterwards_a_pile_that_logged_in_once_at_mosquitto_has_its_command(machine: Machine) -> None:
    """The step with -E, and the message published while nobody was there."""
    config = load_agent_config(machine.root / "etc/pile-agent/pile.toml").link
    with Pile(replace(config, port=machine.mosquitto.tls_port, backoff_first_s=0.1)) as pile:
        pile.run_until(lambda: pile.received)
    assert pile.received == [b"127.0.0.1,API:2.0.2,100,1795354495622,0000012345"]


def test_the_mqtt_output_on_the_page_is_a_configuration(tmp_path: Path) -> None:
    text = next(block.text for block in blocks() if 'kind = "mqtt"' in block.text)
    path = tmp_path / "router.toml"
    path.write_text(text)
    output = load_config(path).output
    assert isinstance(output, MqttOutputConfig)
    assert (output.host, output.username, output.password) == ("127.0.0.1", "router", "R0uter")


def test_every_key_of_the_router_stands_on_the_page() -> None:
    table = PAGE.read_text().partition("### The router's configuration")[2].partition("###")[0]
    for name, keys in TABLES.items():
        for key in keys:
            tls_of_mqtt = name == "output.mqtt.tls" and "`output.mqtt.tls.*`" in _ticks(table)
            assert f"`{name}.{key}`" in _ticks(table) or f"`{key}`" in _ticks(table) or tls_of_mqtt, f"{name}.{key}"


def _ticks(text: str) -> str:
    """``a.b`, `c`` also as ``a.b`, `a.c``: only the first key of a row has its table."""
    return re.sub(r"\.(\w+)`", r".\1` `\1`", text) + text


def test_every_sentence_of_the_pile_on_the_page_is_one_it_says() -> None:
    table = PAGE.read_text().partition("## What the pile says")[2]
    source = (ROOT / "agent/link/reasons.py").read_text() + (ROOT / "agent/reach.py").read_text()
    words = " ".join(re.sub(r'"\s*\n\s*f?"', "", source).split())
    for row in re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)[1:]:
        for piece in filter(None, (part.strip(" :()") for part in row.replace("client id …", "…").split("…"))):
            assert piece in words, piece


def test_the_block_reader_sees_them_all() -> None:
    assert len(blocks()) == PAGE.read_text().count("\n```") // 2
    assert {block.kind for block in blocks()} == {"sh", "text", "toml"}
    assert (
        tomllib.loads(next(block.text for block in blocks() if block.kind == "toml"))["input"]["username"] == "router"
    )
