"""The simulated gun: what a driver, a limit and a fault do to it, in simulated time."""

import pytest

from agent.pile.board import BoardState, StopCause
from sim.gun_physics import GunPhysics


def charging(limit_da: int = 800, energy_limit_wh: int = 0, soc_pct: int = 40) -> GunPhysics:
    gun = GunPhysics(meter_wh=1_000_000)
    gun.plug(soc_pct)
    gun.start("O1", energy_limit_wh, limit_da)
    gun.step(1500)
    return gun


def run_until(gun: GunPhysics, state: BoardState, at_most_s: int = 4 * 3600) -> None:
    for _ in range(at_most_s):
        if gun.state is state:
            return
        gun.step(1000)
    raise AssertionError(f"still {gun.state} after {at_most_s} s")


def test_a_charge_from_plug_to_plug() -> None:
    gun = GunPhysics()
    assert (gun.state, gun.soc_pct, gun.voltage_dv) == (BoardState.IDLE, None, 0)
    gun.plug(soc_pct=40)
    assert (gun.state, gun.soc_pct) == (BoardState.PLUGGED, 40)
    gun.start("O1", 0, 800)
    gun.step(1499)
    assert (gun.state, gun.contactor_closed, gun.current_da) == (BoardState.STARTING, False, 0)
    gun.step(1)
    assert (gun.state, gun.contactor_closed) == (BoardState.CHARGING, True)
    gun.step(1000)
    assert (gun.current_da, gun.voltage_dv, gun.power_w) == (500, 3700, 18_500)  # 50 A/s; 370 V at 40 %
    gun.step(1000)
    assert (gun.current_da, gun.power_w) == (800, 29_600)
    gun.stop(StopCause.COMMAND)
    gun.step(480)
    assert (gun.state, gun.contactor_closed) == (BoardState.STOPPING, True)
    gun.step(20)
    assert (gun.state, gun.contactor_closed, gun.current_da) == (BoardState.ENDED, False, 0)
    gun.unplug()
    assert (gun.state, gun.stop_cause, gun.faults) == (BoardState.IDLE, StopCause.COMMAND, set())
    assert gun.notes == [
        "plug in", "handshake for O1", "contactor closed", "stopping: command", "contactor opened", "plug out",
    ]  # fmt: skip


def test_energy_is_the_sum_of_power_over_time_to_the_watt_hour() -> None:
    gun = charging()
    energy_wms = 0
    for _ in range(200_000):  # 4000 s in steps of 20 ms
        gun.step(20)
        energy_wms += gun.power_w * 20
    assert gun.session_wh == energy_wms // 3_600_000
    assert gun.meter_wh == 1_000_000 + gun.session_wh
    assert gun.session_wh > 30_000


def test_time_may_pass_in_any_pieces() -> None:
    one, many = charging(), charging()
    one.step(600_000)
    for _ in range(6_000):
        many.step(100)
    assert (one.meter_wh, one.current_da, one.soc_pct) == (many.meter_wh, many.current_da, many.soc_pct)


@pytest.mark.parametrize("energy_limit_wh", [1, 7, 100, 5000])
@pytest.mark.parametrize("limit_da", [60, 800, 2500])
def test_the_energy_limit_is_reached_but_never_passed(energy_limit_wh: int, limit_da: int) -> None:
    gun = charging(limit_da, energy_limit_wh)
    run_until(gun, BoardState.ENDED)
    assert gun.stop_cause is StopCause.ENERGY_LIMIT
    assert energy_limit_wh - 4 <= gun.session_wh <= energy_limit_wh


def test_a_full_battery_ends_the_charge() -> None:
    gun = charging(limit_da=2500, soc_pct=95)
    run_until(gun, BoardState.ENDED)
    assert (gun.stop_cause, gun.soc_pct) == (StopCause.FULL, 100)


def test_constant_voltage_lets_the_current_fall_above_80_percent() -> None:
    gun = charging(limit_da=1000, soc_pct=90)
    gun.mode = "cv"
    gun.step(10_000)
    assert gun.current_da == 600  # 100 A × (105 - 90) / 25


def test_one_phase_gives_seven_kilowatts() -> None:
    gun = charging(limit_da=2500)
    gun.phases = "single"
    gun.step(10_000)
    assert 6_900 <= gun.power_w <= 7_000


def test_a_lower_limit_takes_effect_while_charging() -> None:
    gun = charging(limit_da=800)
    gun.step(5_000)
    gun.current_limit_da = 320
    gun.step(20)
    assert gun.current_da == 320


def test_a_vehicle_that_takes_no_current_for_a_minute_ends_the_charge() -> None:
    gun = charging()
    gun.vehicle_current_da = 0
    gun.step(59_900)
    assert gun.state is BoardState.CHARGING
    gun.step(700)
    assert (gun.state, gun.stop_cause) == (BoardState.ENDED, StopCause.NO_CURRENT)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("emergency_stop", StopCause.EMERGENCY_STOP),
        ("over_temperature", StopCause.FAULT),
        ("insulation", StopCause.FAULT),
    ],
)
def test_a_fault_opens_the_contactor_at_once_and_stays_until_cleared(fault: str, cause: StopCause) -> None:
    gun = charging()
    gun.step(3_000)
    gun.raise_fault(fault)
    assert (gun.state, gun.contactor_closed, gun.power_w, gun.stop_cause) == (BoardState.FAULT, False, 0, cause)
    gun.step(10_000)
    assert (gun.state, gun.faults) == (BoardState.FAULT, {fault})
    gun.clear_fault(fault)
    assert (gun.state, gun.faults) == (BoardState.ENDED, set())


def test_a_starved_watchdog_brings_the_current_down_and_then_shows_a_fault() -> None:
    gun = charging()
    gun.step(3_000)
    gun.raise_fault("watchdog_expired")
    assert (gun.state, gun.contactor_closed) == (BoardState.STOPPING, True)
    gun.step(500)
    assert (gun.state, gun.contactor_closed, gun.stop_cause) == (BoardState.FAULT, False, StopCause.WATCHDOG)
    gun.clear_fault("watchdog_expired")
    assert gun.state is BoardState.ENDED


def test_pulling_the_plug_under_load_is_a_fault_until_it_is_put_in_again() -> None:
    gun = charging()
    gun.step(3_000)
    gun.unplug()
    assert (gun.state, gun.plugged, gun.power_w) == (BoardState.FAULT, False, 0)
    assert (gun.faults, gun.stop_cause) == ({"unplugged_on_load"}, StopCause.UNPLUGGED)
    gun.plug()
    assert (gun.state, gun.faults) == (BoardState.PLUGGED, set())


def test_pulling_the_plug_during_the_handshake_is_none() -> None:
    gun = GunPhysics()
    gun.plug()
    gun.start("O1", 0, 800)
    gun.step(500)
    gun.unplug()
    assert (gun.state, gun.faults, gun.stop_cause) == (BoardState.IDLE, set(), StopCause.UNPLUGGED)


def test_a_restart_forgets_the_order_and_keeps_the_meter() -> None:
    gun = charging()
    gun.step(60_000)
    meter_wh = gun.meter_wh
    gun.restart()
    assert (gun.state, gun.contactor_closed) == (BoardState.UPDATING, False)
    gun.step(1500)
    assert (gun.state, gun.order, gun.stop_cause) == (BoardState.ENDED, "", StopCause.POWER_LOST)
    assert (gun.meter_wh, gun.uptime_ms) == (meter_wh, 1500)


def test_the_connector_warms_up_under_load_and_cools_down() -> None:
    gun = charging(limit_da=2500)
    assert gun.temperature_dc == 250
    gun.step(300_000)
    warm = gun.temperature_dc
    assert 260 < warm < 650
    gun.stop(StopCause.COMMAND)
    gun.step(600_000)
    assert gun.temperature_dc < warm
