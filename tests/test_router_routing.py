"""Whose command it is, and under which key it goes on."""

import pytest

from router.routing import Unroutable, matches, pile_in, pile_key, pile_topic, would_loop


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"10.0.0.1,API:2.0.2,100,1700000000000,0000012345", "0000012345"),
        (b"10.0.0.1,API:2.0.2,103,1700000000000,A_b-9,1", "A_b-9"),
        (b",,,,1", "1"),
        (b"1,2,3,4," + b"x" * 32, "x" * 32),
        (b"1,2,3,4," + b"x" * 33, Unroutable.BAD_PILE),
        (b"1,2,3,4,", Unroutable.BAD_PILE),
        (b"1,2,3,4,1.2", Unroutable.BAD_PILE),
        (b"1,2,3,4,1/2", Unroutable.BAD_PILE),
        (b"1,2,3,4,*", Unroutable.BAD_PILE),
        (b"1,2,3,4,1\n", Unroutable.BAD_PILE),
        ("1,2,3,4,桩1".encode(), Unroutable.BAD_PILE),
        (b"1,2,3,4,\xff", Unroutable.BAD_PILE),
        (b"1,2,3", Unroutable.NO_PILE),
        (b"", Unroutable.NO_PILE),
        (b"1,2,3,4,1," + b"x" * 65526, "1"),
        (b"1,2,3,4,1," + b"x" * 65527, Unroutable.TOO_LONG),
    ],
)
def test_the_pile_is_read_from_the_first_commas_alone(line: bytes, expected: str | Unroutable) -> None:
    assert pile_in(line) == expected


def test_keys_and_topics_are_those_of_the_protocol() -> None:
    assert pile_key("0000012345") == "klc.command.qik.0000012345"
    assert pile_topic("klc", "0000012345") == "klc/command/qik/0000012345"


@pytest.mark.parametrize(
    ("binding", "key", "expected"),
    [
        ("klc.command.qik", "klc.command.qik", True),
        ("klc.command.qik", "klc.command.qik.1", False),
        ("klc.command.qik.*", "klc.command.qik", False),
        ("klc.command.qik.*", "klc.command.qik.1", True),
        ("klc.command.qik.#", "klc.command.qik", True),
        ("klc.#.1", "klc.command.qik.1", True),
        ("#", "klc.command.qik.1", True),
        ("*.command.qik", "klc.command.qik", True),
        ("*", "klc.command", False),
        ("#.qik.#", "klc.command.qik.1", True),
        ("", "klc", False),
    ],
)
def test_bindings_match_as_a_topic_exchange_does(binding: str, key: str, expected: bool) -> None:
    assert matches(binding, key) is expected


@pytest.mark.parametrize("binding", ["#", "klc.#", "klc.command.qik.#", "klc.command.qik.*", "klc.*.qik.*"])
def test_a_binding_that_would_bring_back_what_is_handed_on_is_known(binding: str) -> None:
    assert would_loop(binding)


@pytest.mark.parametrize("binding", ["klc.command.qik", "klc.command.*", "*.command.qik"])
def test_others_are_good(binding: str) -> None:
    assert not would_loop(binding)
