"""What may be on its way at once, and what is acknowledged when: in any order of confirmations."""

from hypothesis import given
from hypothesis import strategies as st

from router.window import Ack, Job, Window


def job(tag: int, pile: str = "1") -> Job:
    return Job(tag, pile, b"")


def test_several_piles_are_on_their_way_at_once_but_one_message_of_each() -> None:
    window = Window()
    first, second, other = job(1, "a"), job(2, "a"), job(3, "b")
    assert [window.take(first), window.take(second), window.take(other)] == [first, None, other]
    assert window.settle(other) is None
    assert window.settle(first) == second
    assert window.settle(second) is None
    assert len(window) == 0


def test_messages_that_name_no_pile_wait_for_nobody() -> None:
    window = Window()
    assert window.take(job(1, "")) is not None
    assert window.take(job(2, "")) is not None


def test_what_is_settled_from_the_oldest_on_is_acknowledged_in_one_frame() -> None:
    window = Window()
    jobs = [job(tag, str(tag)) for tag in (1, 2, 3, 4)]
    for one in jobs:
        window.take(one)
    for one in (jobs[0], jobs[2], jobs[1]):
        window.settle(one)
    assert list(window.acks()) == [Ack(3, multiple=True)]
    assert list(window.acks()) == []


def test_what_overtook_another_pile_is_acknowledged_by_itself() -> None:
    window = Window()
    stuck, passed = job(1, "stuck"), job(2, "passes")
    window.take(stuck)
    window.take(passed)
    window.settle(passed)
    assert list(window.acks()) == [Ack(2, multiple=False)]
    window.settle(stuck)
    assert list(window.acks()) == [Ack(1, multiple=True)]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_in_any_order_each_pile_is_served_in_order_and_each_message_acknowledged_once_and_not_too_early(
    piles: list[str], random: object
) -> None:
    window, on_its_way, sent, settled, acknowledged = Window(), [], [], set[int](), set[int]()
    for tag, pile in enumerate(piles, 1):
        first = window.take(Job(tag, pile, b""))
        on_its_way += [first] if first else []
    while on_its_way:
        one = on_its_way.pop(random.randrange(len(on_its_way)))  # type: ignore[attr-defined]
        sent.append(one)
        settled.add(one.tag)
        following = window.settle(one)
        on_its_way += [following] if following else []
        for ack in window.acks():
            tags = set(range(1, ack.tag + 1)) - acknowledged if ack.multiple else {ack.tag}
            assert tags
            assert tags <= settled
            assert not tags & acknowledged
            acknowledged |= tags
    assert acknowledged == set(range(1, len(piles) + 1))
    for pile in "abc":
        tags = [one.tag for one in sent if one.pile == pile]
        assert tags == sorted(tags)
