"""The router's configuration: what is good, and every fault of one that is not, at once."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from router.config import AmqpOutputConfig, ConfigError, MqttOutputConfig, Tls, load_config

ROOT = Path(__file__).parents[1]


def written(folder: Path, text: str) -> Path:
    path = folder / "router.toml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_a_user_is_enough_for_a_router_beside_its_broker(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, '[input]\nusername = "router"'))
    assert config.input.hosts == (("127.0.0.1", 5672),)
    assert (config.input.exchange, config.input.routing_key) == ("cdz_command_topic_exchange", "klc.command.qik")
    assert (config.input.queue, config.input.parked_queue) == ("pile_router", "pile_router_parked")
    assert config.output == AmqpOutputConfig("cdz_command_topic_exchange", 60)
    assert config.metrics == ("127.0.0.1", 9108)


def test_an_mqtt_output_with_certificates_and_a_password_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3same\nsecond line")
    (tmp_path / "ca.crt").touch()
    config = load_config(
        written(
            tmp_path,
            f"""
[input]
hosts = ["broker1:5671", "[::1]:5671"]
[input.tls]
ca_file = "{tmp_path}/ca.crt"
cert_file = "{tmp_path}/ca.crt"
[output]
kind = "mqtt"
[output.mqtt]
host = "mosquitto"
username = "router"
password_file = "{tmp_path}/password"
""",
        )
    )
    assert config.input.hosts == (("broker1", 5671), ("::1", 5671))
    assert config.input.tls == Tls(f"{tmp_path}/ca.crt", f"{tmp_path}/ca.crt", "")
    assert isinstance(config.output, MqttOutputConfig)
    assert (config.output.host, config.output.password, config.output.tls) == ("mosquitto", "s3same", None)
    assert "s3same" not in repr(config)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    text = """
colour = "red"
[input]
hosts = ["broker", "broker:0"]
queue = "qik_pricechange"
queue_type = "stream"
routing_key = "klc.command.qik.#"
prefetch = 0
password = "s3same"
heartbeat = 5
[input.tls]
ca_file = "/no/ca.crt"
[output]
retry_s = true
[output.mqtt]
host = "mosquitto"
[metrics]
listen = "0.0.0.0:9108"
[router]
log_level = "loud"
"""
    assert faults(tmp_path, text) == [
        "colour: unknown",
        "input.queue_type = 'stream', expected one of classic, quorum",
        "input.prefetch = 0, expected an integer 1..65535",
        "input.heartbeat: unknown",
        "output.retry_s = True, expected an integer",
        "router.log_level = 'loud', expected one of debug, info, warning, error",
        "input.queue = 'qik_pricechange', expected a queue of the router's own: that one has its consumer",
        "input.routing_key = 'klc.command.qik.#', expected a key that does not match what the router itself "
        "publishes, klc.command.qik.<pile>",
        "input.username = '', expected the user whose password is given",
        "input.hosts = 'broker', expected host:port",
        "input.hosts = 'broker:0', expected host:port",
        "input.tls.ca_file = '/no/ca.crt', expected a file that exists",
        "output.mqtt: only with output.kind = 'mqtt'",
        "metrics.listen = '0.0.0.0:9108', expected a loopback address, as 127.0.0.1:9108",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[input]\nusername='a'\nhosts = []", "input.hosts = [], expected a list of texts"),
        ("[input]\nusername='a'\nhosts = 'a:1'", "input.hosts = 'a:1', expected a list of texts"),
        ("[input]\nusername='a'\npassword = 5", "input.password = ***, expected text"),
        ("[input]\nusername='a'\nqueue = ''", "input.queue = '', expected text that is not empty"),
        (
            "[input]\nusername='a'\nparked_queue = 'pile_router'",
            "input.parked_queue = 'pile_router', expected another queue than input.queue",
        ),
        (
            "[input]\nusername='a'\nparked_queue = 'qik_pricechange'",
            "input.parked_queue = 'qik_pricechange', expected a queue of the router's own: that one has its consumer",
        ),
        ("[input]\nusername='a'\n[output]\nkind = 'kafka'", "output.kind = 'kafka', expected one of amqp, mqtt"),
        (
            "[input]\nusername='a'\n[output]\nkind = 'mqtt'\n[output.mqtt]\ntopic_prefix = '#'",
            "output.mqtt.topic_prefix = '#', expected text without +, # or control character",
        ),
        (
            "[input]\nusername='a'\npassword_file = '/no/file'",
            "input.password_file = '/no/file', expected a file with a password: No such file or directory",
        ),
        ("[input]\nusername='a'\n[tls]\nca_file = 'x'", "tls: unknown"),
        ("[input]\nusername='a'\n[metrics]\nlisten = 5", "metrics.listen = 5, expected text"),
        ("", "input.username = '', expected a user, or a certificate in input.tls.cert_file"),
        ("[input]\nusername='a'\n[output]\nretry_s = 1201", "output.retry_s = 1201, expected an integer 1..1200"),
    ],
)
def test_one_fault(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text) == [fault]


def test_another_output_exchange_may_have_the_same_keys(tmp_path: Path) -> None:
    text = "[input]\nusername = 'a'\nrouting_key = '#'\n[output]\nexchange = 'piles'"
    assert load_config(written(tmp_path, text)).input.routing_key == "#"


def test_a_file_that_is_not_there_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")
    assert faults(tmp_path, "[input")[0].startswith("not TOML")


def test_the_program_says_so_and_ends_with_78(tmp_path: Path) -> None:
    path = written(tmp_path, "[input]\nusername = 'a'\nprefetch = 0\nqueue = ''")
    for command in ("run", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "router", command, "--config", str(path)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 78
        assert len(done.stderr.splitlines()) == 2


def test_a_port_of_counters_that_is_taken_ends_it_with_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = written(tmp_path, f'[input]\nusername = "a"\n[metrics]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"')
        done = subprocess.run(
            [sys.executable, "-m", "router", "run", "--config", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
