"""Prices (110): kept per gun; an order keeps the tariff it started with."""

from agent.pile.admission import no_such_gun
from agent.pile.state import GunTariff, Request
from agent.pile.tariff import tariff_of
from agent.pile.turn import Turn
from agent.protocol.commands import SetTariff, TariffReply
from agent.protocol.events import EventCode
from agent.protocol.results import Result
from cext.message import Message


def set_tariff(turn: Turn, message: Message, request: Request) -> None:
    """110: in force at once for the next start; a charge that runs is billed as it began."""
    command: SetTariff = message.data
    if command.gun and command.gun not in turn.state.guns:
        turn.reply(request, Result.NO_SUCH_GUN, no_such_gun(turn, command.gun))
        return
    numbers = [command.gun] if command.gun else sorted(turn.state.guns)
    tariff = tariff_of(command.template, command.periods)
    others = tuple(one for one in turn.state.tariffs if one.gun not in numbers)
    turn.change(tariffs=(*others, *(GunTariff(number, tariff) for number in numbers)))
    waits = any(turn.gun(number).session is not None for number in numbers)
    where = f"gun {command.gun}" if command.gun else "all guns"
    turn.note(
        command.gun, EventCode.TARIFF_SET, f"{where}: tariff {command.template} with {len(tariff.starts_s)} prices"
    )
    turn.reply(request, Result.OK, TariffReply(command.template, command.gun, int(waits)))
