"""One gun and the vehicle on it, as physics: contactor, current, energy, temperature. Pure: time is an argument.

Integers throughout, so that the meter is exact: energy is kept in watt-milliseconds, and no step loses a fraction.
"""

from agent.pile.board import BoardState, StopCause

RATED_CURRENT_DA = 2500
SUPPLY_W = {"single": 7_000, "three": 60_000}

HANDSHAKE_MS = 800
INSULATION_TEST_MS = 700
STOP_MS = 500  # from full current to none
RESTART_MS = 1500
NO_CURRENT_MS = 60_000
RAMP_DA_PER_S = 500
STEP_MS = 20  # the finest time the physics knows
WMS_PER_WH = 3_600_000
AMBIENT_DC = 250

ACTIVE = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)
_FAULT_CAUSE = {
    "emergency_stop": StopCause.EMERGENCY_STOP,
    "unplugged_on_load": StopCause.UNPLUGGED,
    "watchdog_expired": StopCause.WATCHDOG,
}


class GunPhysics:
    """A gun. Its attributes are what it measures; its methods are what a driver, a fault or the board does to it.

    ``notes`` collects, in words, what happened ("contactor closed"); whoever steps the gun empties it.
    """

    def __init__(self, meter_wh: int = 0, battery_wh: int = 60_000) -> None:
        self.state = BoardState.IDLE
        self.plugged = False
        self.contactor_closed = False
        self.faults: set[str] = set()
        self.stop_cause = StopCause.NONE
        self.order = ""
        self.current_da = 0
        self.current_limit_da = RATED_CURRENT_DA
        self.mode = "cc"
        self.phases = "three"
        self.vehicle_current_da = RATED_CURRENT_DA  # what the vehicle asks for
        self.session_ms = 0
        self.uptime_ms = 0
        self.notes: list[str] = []
        self._meter_wms = meter_wh * WMS_PER_WH
        self._session_start_wms = self._meter_wms
        self._energy_limit_wms: int | None = None
        self._battery_wms = battery_wh * WMS_PER_WH
        self._stored_wms = 0
        self._temperature = float(AMBIENT_DC)
        self._ended = False
        self._phase_ms = 0  # since the present state began
        self._idle_current_ms = 0
        self._stop_from_da = 0
        self._ramp_remainder = 0

    # ---- what it measures

    @property
    def active(self) -> bool:
        """Whether a charge is being started, runs, or is being stopped."""
        return self.state in ACTIVE

    @property
    def meter_wh(self) -> int:
        return self._meter_wms // WMS_PER_WH

    @property
    def session_wh(self) -> int:
        return self.meter_wh - self._session_start_wms // WMS_PER_WH

    @property
    def soc_pct(self) -> int | None:
        return min(100, 100 * self._stored_wms // self._battery_wms) if self.plugged else None

    @property
    def voltage_dv(self) -> int:
        """Output voltage: the battery's, from 350 V empty to 400 V full, while the contactor is closed."""
        return 3500 + 5 * (self.soc_pct or 0) if self.contactor_closed else 0

    @property
    def power_w(self) -> int:
        return self.voltage_dv * self.current_da // 100

    @property
    def temperature_dc(self) -> int:
        return round(self._temperature)

    # ---- what is done to it

    def plug(self, soc_pct: int = 40) -> None:
        """A vehicle with ``soc_pct`` % in its battery is plugged in."""
        if self.plugged:
            return
        self.plugged = True
        self._ended = False
        self._stored_wms = self._battery_wms * soc_pct // 100
        self.faults.discard("unplugged_on_load")
        self._rest("plug in")

    def unplug(self) -> None:
        """The plug is pulled, under load or not."""
        if not self.plugged:
            return
        under_load = self.contactor_closed
        if self.active:
            self._end(StopCause.UNPLUGGED)
        self.plugged = False
        self._ended = False
        if under_load:
            self.faults.add("unplugged_on_load")
        self._rest("plug out under load" if under_load else "plug out")

    def start(self, order: str, energy_limit_wh: int, current_limit_da: int) -> None:
        """Begin a charge. ``energy_limit_wh`` 0 is no limit. The board has checked that the gun may."""
        self.order = order
        self.current_limit_da = current_limit_da
        self.stop_cause = StopCause.NONE
        self.session_ms = 0
        self._session_start_wms = self._meter_wms
        self._energy_limit_wms = energy_limit_wh * WMS_PER_WH or None
        self._idle_current_ms = 0
        self._enter(BoardState.STARTING, f"handshake for {order or 'a local start'}")

    def stop(self, cause: StopCause) -> None:
        """Bring the current down and open the contactor; nothing when no charge runs."""
        if self.state is BoardState.STARTING:
            self._end(cause)
            self._rest("start given up")
        elif self.state is BoardState.CHARGING:
            self.stop_cause = cause
            self._stop_from_da = self.current_da
            self._enter(BoardState.STOPPING, f"stopping: {cause.value}")

    def raise_fault(self, name: str) -> None:
        """A fault opens the contactor at once; a starved watchdog brings the current down first."""
        self.faults.add(name)
        cause = _FAULT_CAUSE.get(name, StopCause.FAULT)
        if cause is StopCause.WATCHDOG:
            self.stop(cause)
        elif self.active:
            self._end(cause)
        if not self.active:
            self._rest(f"fault {name}")

    def clear_fault(self, name: str) -> None:
        if name in self.faults:
            self.faults.discard(name)
            if not self.active:
                self._rest(f"fault {name} cleared")

    def restart(self) -> None:
        """The gun's controller restarts: it forgets order and faults, not its meter."""
        was_active = self.active
        self._open_contactor()
        self._ended = self._ended or was_active
        self.stop_cause = StopCause.POWER_LOST if was_active else StopCause.NONE
        self.order = ""
        self.faults &= {"emergency_stop"}  # a button stays pressed
        self.uptime_ms = 0
        self._enter(BoardState.UPDATING, "restarting")

    # ---- time

    def step(self, ms: int) -> None:
        """Let ``ms`` milliseconds pass."""
        while ms > 0:
            part = min(ms, STEP_MS)
            self._step(part)
            ms -= part

    def _step(self, ms: int) -> None:
        self._phase_ms += ms
        self.uptime_ms += ms
        if self.state is BoardState.STARTING and self._phase_ms >= HANDSHAKE_MS + INSULATION_TEST_MS:
            self.contactor_closed = True
            self._enter(BoardState.CHARGING, "contactor closed")
        elif self.state is BoardState.CHARGING:
            self._charge(ms)
        elif self.state is BoardState.STOPPING:
            self._ramp_down()
        elif self.state is BoardState.UPDATING and self._phase_ms >= RESTART_MS:
            self._rest("restarted")
        self._count(ms)

    def _charge(self, ms: int) -> None:
        self._ramp_up(ms)
        self._idle_current_ms = self._idle_current_ms + ms if self.current_da == 0 else 0
        if self._stored_wms >= self._battery_wms:
            self.stop(StopCause.FULL)
        elif self._limit_near():
            self.stop(StopCause.ENERGY_LIMIT)
        elif self._idle_current_ms >= NO_CURRENT_MS:
            self.stop(StopCause.NO_CURRENT)

    def _ramp_up(self, ms: int) -> None:
        """Towards the allowed current at 50 A/s; down to it at once."""
        rise, self._ramp_remainder = divmod(RAMP_DA_PER_S * ms + self._ramp_remainder, 1000)
        self.current_da = min(self.current_da + rise, self._allowed_da())

    def _allowed_da(self) -> int:
        allowed = min(self.current_limit_da, self.vehicle_current_da, RATED_CURRENT_DA)
        allowed = min(allowed, 100 * SUPPLY_W[self.phases] // self.voltage_dv)
        soc_pct = self.soc_pct or 0
        if self.mode == "cv" and soc_pct > 80:  # constant voltage: the current falls as the battery fills
            allowed = allowed * (105 - soc_pct) // 25
        return allowed

    def _limit_near(self) -> bool:
        """Whether stopping now, with what still flows meanwhile, comes to the energy limit."""
        if self._energy_limit_wms is None:
            return False
        still_to_flow = self.power_w * (STOP_MS // 2 + 2 * STEP_MS)
        return self._meter_wms - self._session_start_wms + still_to_flow >= self._energy_limit_wms

    def _ramp_down(self) -> None:
        self.current_da = max(0, self._stop_from_da * (STOP_MS - self._phase_ms) // STOP_MS)
        if self.current_da == 0:
            self._end(self.stop_cause)
            self._rest("contactor opened")

    def _count(self, ms: int) -> None:
        energy_wms = self.power_w * ms
        self._meter_wms += energy_wms
        self._stored_wms += energy_wms
        if self.active:
            self.session_ms += ms
        target = AMBIENT_DC + 400 * (self.current_da / RATED_CURRENT_DA) ** 2
        self._temperature += (target - self._temperature) * ms / 120_000

    # ---- states

    def _end(self, cause: StopCause) -> None:
        self._open_contactor()
        self.stop_cause = cause
        self._ended = True
        self.state = BoardState.ENDED

    def _open_contactor(self) -> None:
        self.contactor_closed = False
        self.current_da = 0
        self._ramp_remainder = 0

    def _rest(self, note: str) -> None:
        """Back to the state that follows from plug and faults, unless the controller is restarting."""
        if self.state is BoardState.UPDATING and self._phase_ms < RESTART_MS:
            self.notes.append(note)
            return
        if self.faults:
            state = BoardState.FAULT
        elif not self.plugged:
            state = BoardState.IDLE
        else:
            state = BoardState.ENDED if self._ended else BoardState.PLUGGED
        self._enter(state, note)

    def _enter(self, state: BoardState, note: str) -> None:
        self.state = state
        self._phase_ms = 0
        self.notes.append(note)
