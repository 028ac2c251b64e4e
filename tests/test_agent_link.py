"""What the agent promises the platform while broker and agent come and go, and what it does with lines that are none
of its business."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_helpers import CONNECT, SUBSCRIBE, ScriptedBroker
from site_helpers import FAST, working

from agent.protocol.commands import Empty, SetHeartbeat
from agent.protocol.results import Result, StopReason
from sim.broker import EmbeddedBroker, Mosquitto
from sim.site import PILE, Site
from sim.story import start
from sim.watch import Watch, timestamp_of

ACCEPTED, OK, EXPIRED, MALFORMED = Result.ACCEPTED, Result.OK, Result.EXPIRED, Result.MALFORMED
OTHER_PILE = "9999999999"
TEN_MINUTES_MS = 600_000
PATIENT = {"line": f"{FAST}\nwatchdog_s = 60"}  # the board waits for the next agent, however long that takes to start


@pytest.fixture(scope="module", params=[Mosquitto, EmbeddedBroker])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    broker = request.param(folder / "broker")
    with Site(folder, broker=broker, baud=115_200, speedup=2, settings=PATIENT) as site:
        yield site


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With the broker that keeps its sessions when it is stopped."""
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, broker=Mosquitto(folder / "broker"), baud=115_200, speedup=2, settings=PATIENT) as site:
        yield site


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    with working(site) as watch:
        yield watch


@pytest.fixture
def lasting(lasting_site: Site) -> Iterator[Watch]:
    with working(lasting_site) as watch:
        yield watch


# ---- the broker is away ----


def test_reports_wait_while_the_broker_is_away(lasting: Watch) -> None:
    end_two_charges_without_broker(lasting)

    lasting.site.broker.start()

    check_both_reports_came(lasting)


def test_reports_that_wait_outlive_the_agent(watch: Watch) -> None:
    end_two_charges_without_broker(watch)

    watch.site.kill_agent()
    watch.site.broker.start()
    watch.site.wait_for_platform()
    watch.site.start_agent()

    check_both_reports_came(watch)


def end_two_charges_without_broker(watch: Watch) -> None:
    watch.charge(1, "A1")
    watch.charge(2, "A2")
    watch.site.broker.stop()
    watch.until(lambda: not watch.status()["link"]["connected"])
    watch.site.board({"do": "estop", "gun": 2})
    watch.until(lambda: not watch.phase(2))
    watch.site.board({"do": "unplug", "gun": 1})
    watch.until(lambda: not watch.phase(1))


def check_both_reports_came(watch: Watch) -> None:
    watch.until(lambda: len(watch.reports(101)) == 2, timeout_s=15)
    ended = [(report.body.order, report.body.stop_reason) for report in watch.reports(101)]
    assert ended == [("A2", StopReason.EMERGENCY_STOP), ("A1", StopReason.UNPLUGGED)]
    watch.until(lambda: watch.status() and watch.status()["outbox"] == 0)


# ---- the agent is away ----


def test_commands_wait_at_the_broker_while_the_agent_is_away(watch: Watch) -> None:
    watch.charge(1, "B1")
    watch.site.kill_agent()
    now_ms = time.time_ns() // 1_000_000
    stale = watch.send(101, start(2, "B2"), now_ms - TEN_MINUTES_MS)
    stop = watch.stop(1, "B1")
    period = watch.send(107, SetHeartbeat(20, 60))
    watch.until(lambda: watch.noted("gun 1: contactor closed"))

    watch.site.start_agent()

    watch.until_answered(stop, ACCEPTED, OK)
    assert watch.results(stale) == [EXPIRED]
    assert watch.results(period) == [OK]
    in_order = [timestamp_of(line) for line in (stale, stop, period)]
    answered = [reply.request_timestamp for reply in watch.answers() if reply.request_timestamp in in_order]
    assert answered[:3] == in_order


def test_a_start_that_waits_at_the_broker_meets_an_agent_that_has_looked_at_its_boards(watch: Watch) -> None:
    watch.site.kill_agent()
    watch.site.board({"do": "plug", "gun": 1})
    line = watch.send(101, start(1, "B1"))

    watch.site.start_agent()

    watch.until_answered(line, ACCEPTED, OK)


def test_commands_wait_at_a_broker_that_is_restarted(lasting: Watch) -> None:
    lasting.charge(1, "C1")
    lasting.site.kill_agent()
    line = lasting.stop(1, "C1")
    lasting.site.wait_for_platform()

    lasting.site.broker.restart()
    lasting.site.start_agent()

    lasting.until_answered(line, ACCEPTED, OK)


# ---- lines of others, and of nobody ----


def test_garbage_is_answered_where_it_is_ours_and_dropped_otherwise(watch: Watch) -> None:
    nobodys = [b"", b"\x00\xff\xfe", b",,,,,", b"not a line", b"a" * 70_000, b"ip,API:2.0.2,101,1," + b"9" * 40]
    ours = {
        "2001": f"ip,API:2.0.2,101,2001,{PILE}",
        "2002": f"ip,API:2.0.2,107,2002,{PILE},thirty,90",
        "2003": f"ip,API:2.0.2,100,2003,{PILE},",
        "2004": f"ip,API:2.0.2,112,2004,{PILE},surplus",
        "2005": f"ip,API:2.0.2,106,2005,{PILE},1,2",
    }
    watch.site.publish(*nobodys, *(line.encode() for line in ours.values()), b"ip,API:2.0.2,101,\xff")
    last = watch.send(100, Empty())

    watch.until_answered(last, OK)

    answers = [(reply.request_timestamp, reply.result) for reply in watch.answers()[:-1]]
    assert answers == [(timestamp, MALFORMED) for timestamp in ours]
    bodies = {reply.request_timestamp: reply.body for reply in watch.answers()[:-1]}
    assert bodies["2002"] == "period_s = 'thirty': expected an integer from 1"
    assert len(watch.logged("a message dropped as")) == 2  # once as unreadable, once as foreign; then only counted


def test_a_thousand_commands_for_other_piles_between_fifty_of_ours(watch: Watch) -> None:
    now_ms = time.time_ns() // 1_000_000
    own = [watch.site.command(100, Empty(), now_ms + number) for number in range(50)]
    for number, line in enumerate(own):
        foreign = [watch.site.command(112, Empty(), number * 20 + i, OTHER_PILE) for i in range(20)]
        watch.site.publish(*foreign[:10], line, *foreign[10:])

    watch.until_answered(own[-1], OK, timeout_s=20)
    watch.until(lambda: watch.status()["messages"].get("foreign") == 1000)

    assert [reply.request_timestamp for reply in watch.answers()] == [str(now_ms + number) for number in range(50)]
    assert len(watch.logged("a message dropped as foreign")) == 1


def test_in_routed_mode_the_pile_has_a_topic_of_its_own(tmp_path: Path) -> None:
    routed = Site(tmp_path, platform={"mode": "routed"}, baud=115_200, settings={"line": FAST})
    with routed as site, working(site) as watch:
        site.publish(site.command(100, Empty(), 1, OTHER_PILE))  # a router's mistake
        line = watch.send(100, Empty())
        watch.until_answered(line, OK)
        assert watch.logged(f"listening on klc/command/qik/{PILE}")
        assert [reply.pile for reply in watch.answers()] == [PILE]


# ---- a broker that refuses ----


def test_a_wrong_password_is_said_once_and_never_shown(tmp_path: Path) -> None:
    users = {"platform": "platform-secret", "pile": "another"}
    settings = {"pile": 'log_level = "debug"', "broker": 'username = "pile"\npassword = "pile-secret"', "line": FAST}
    platform = {"username": "platform", "password": "platform-secret"}
    broker = Mosquitto(tmp_path / "broker", users=users)
    with Site(tmp_path, broker=broker, settings=settings, platform=platform, baud=115_200) as site:
        watch = Watch(site)
        site.start_agent()
        watch.until(lambda: watch.status() and watch.status()["link"]["attempts"] >= 2)
        watch.until(lambda: watch.logged("refused the login"))

        reason = watch.status()["link"]["reason"]
        assert reason == (
            f"127.0.0.1:{broker.port} refused the login (user pile, client id {PILE}): "
            "not authorised (a wrong password, or this user may not connect)"
        )
        assert len(watch.logged("refused the login")) == len(watch.logged("level=warning room=link")) == 1

        users["pile"] = "pile-secret"  # the operator puts it right
        broker.restart()
        watch.until_working(timeout_s=20)
        assert "pile-secret" not in str(watch.status()) + "".join(watch.logged(""))


def test_a_refused_subscription_is_said_once_and_tried_again(tmp_path: Path) -> None:
    answers = {CONNECT: bytes.fromhex("20 02 00 00"), SUBSCRIBE: bytes.fromhex("90 03 00 01 80")}
    with ScriptedBroker(answers) as refusing, Site(tmp_path, baud=115_200, settings={"line": FAST}) as site:
        config = site.config_file.read_text().replace(f"port = {site.broker.port}", f"port = {refusing.port}")
        site.config_file.write_text(config)
        watch = Watch(site)
        site.start_agent()
        watch.until(lambda: refusing.connections >= 3)

        reason = watch.status()["link"]["reason"]
        assert reason.endswith("refused the subscription to klc/command/qik: usually this user may not read that topic")
        assert len(watch.logged("refused the subscription")) == len(watch.logged("level=warning room=link")) == 1
