"""The fifteen commands field by field: what each may hold, and the result and field of what it may not."""

from itertools import pairwise

import pytest
from codec_helpers import CODEC, PILE, line, read, refused, wrong

from agent.protocol.codec import Codec
from agent.protocol.commands import ConfigureSite, Period, QrCode, Reserve, StartStop, Upgrade, UpgradePackage
from agent.protocol.results import Result
from agent.protocol.rules import clock

MALFORMED, WRONG_PILE, NO_SUCH_GUN, OUT_OF_RANGE = 10, 11, 12, 13


def test_the_results_named_here() -> None:
    named = (Result.MALFORMED, Result.WRONG_PILE, Result.NO_SUCH_GUN, Result.OUT_OF_RANGE)
    assert named == (MALFORMED, WRONG_PILE, NO_SUCH_GUN, OUT_OF_RANGE)


# ---- 101 start or stop ----


def test_101_in_the_documents_order() -> None:
    assert read(101, f"3,{PILE},2,U1001,10000,5000,300,20261122000001") == StartStop(
        type=3, pile=PILE, gun=2, account="U1001", balance_fen=10000, prepaid_fen=5000, free_fen=300,
        order="20261122000001",
    )  # fmt: skip


def test_101_texts_may_be_empty_numbers_may_not() -> None:
    assert read(101, f"1,{PILE},1,,0,0,0,O1").account == ""
    assert wrong(101, f"1,{PILE},1,U1,,0,0,O1") == (MALFORMED, "balance_fen")
    assert wrong(101, f"1,{PILE},,U1,0,0,0,O1") == (MALFORMED, "gun")
    assert wrong(101, f",{PILE},1,U1,0,0,0,O1") == (MALFORMED, "type")


@pytest.mark.parametrize("inner", ["0000012346", "12345", "00000123456", "000001234", "", " 0000012345", "0000012345 "])
def test_101_inner_pile_equals_the_headers(inner: str) -> None:
    assert wrong(101, f"1,{inner},1,U1,0,0,0,O1") == (WRONG_PILE, "pile")


def test_101_inner_pile_in_any_script() -> None:
    assert CODEC.decode("ip,v,101,1,桩7,1,桩7,1,U,0,0,0,O".encode()).data.pile == "桩7"
    assert refused("ip,v,101,1,桩7,1,桩8,1,U,0,0,0,O".encode()).result == WRONG_PILE


@pytest.mark.parametrize("gun", ["0", "-1", "-9223372036854775808"])
def test_101_guns_begin_at_1(gun: str) -> None:
    assert wrong(101, f"1,{PILE},{gun},U1,0,0,0,O1") == (NO_SUCH_GUN, "gun")


def test_101_how_many_guns_there_are_is_not_the_codecs_business() -> None:
    assert read(101, f"1,{PILE},9223372036854775807,U1,0,0,0,O1").gun == 2**63 - 1


@pytest.mark.parametrize("kind", ["0", "5", "-1"])
def test_101_type_is_1_to_4(kind: str) -> None:
    assert wrong(101, f"{kind},{PILE},1,U1,0,0,0,O1") == (OUT_OF_RANGE, "type")


MONEY = [("balance_fen", "-1,0,0"), ("prepaid_fen", "0,-1,0"), ("free_fen", "0,0,-1")]


@pytest.mark.parametrize("kind", [1, 3])
@pytest.mark.parametrize(("field", "money"), MONEY)
def test_101_a_starts_money_is_not_negative(kind: int, field: str, money: str) -> None:
    assert wrong(101, f"{kind},{PILE},1,U1,{money},O1") == (OUT_OF_RANGE, field)


@pytest.mark.parametrize("kind", [2, 4])
@pytest.mark.parametrize(("field", "money"), MONEY)
def test_101_a_stop_is_never_refused_for_its_money(kind: int, field: str, money: str) -> None:
    assert getattr(read(101, f"{kind},{PILE},1,U1,{money},O1"), field) == -1


def test_101_a_stops_money_is_still_a_number() -> None:
    assert wrong(101, f"2,{PILE},1,U1,x,0,0,O1") == (MALFORMED, "balance_fen")


# ---- 102, 103, 104 ----


def test_102() -> None:
    assert read(102, "1,U1001,1,1795305600,1795309200") == Reserve(1, "U1001", 1, 1795305600, 1795309200)


def test_102_a_reservation_ends_after_it_begins() -> None:
    assert wrong(102, "1,U1,1,1795305600,1795305600") == (OUT_OF_RANGE, "end_s")
    assert wrong(102, "1,U1,1,1795305601,1795305600") == (OUT_OF_RANGE, "end_s")
    assert read(102, "2,U1,1,0,0").type == 2, "a cancellation needs no times"


def test_102_ranges() -> None:
    assert wrong(102, "3,U1,1,1,2") == (OUT_OF_RANGE, "type")
    assert wrong(102, "1,U1,0,1,2") == (NO_SUCH_GUN, "gun")
    assert wrong(102, "1,U1,1,-1,2") == (OUT_OF_RANGE, "start_s")
    assert wrong(102, "1,U1,1,1,12:00:00") == (MALFORMED, "end_s")


def test_103() -> None:
    assert read(103, "2") == (2,)
    assert wrong(103, "0") == (NO_SUCH_GUN, "gun")
    assert wrong(103) == (MALFORMED, "gun")
    assert wrong(103, "1,1") == (MALFORMED, "end")


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_104(kind: int) -> None:
    assert read(104, str(kind)) == (kind,)


@pytest.mark.parametrize("kind", ["0", "5"])
def test_104_knows_four_types(kind: str) -> None:
    assert wrong(104, kind) == (OUT_OF_RANGE, "type")


# ---- 106 configure ----

PARAMETERS = "3,32,2,1,100,2,1000,1,admin,s3cret,30,10.0.0.1,34567"


def qr(codes: str) -> tuple[QrCode, ...]:
    """The QR codes of a 106 whose count and triples are ``codes``."""
    return tuple(read(106, f"{PARAMETERS},{codes}").qr_codes)


def test_106_in_the_documents_order() -> None:
    data = read(106, f"{PARAMETERS},1,5,hello,2")
    assert data._asdict() == {
        "phase": 3, "max_current_a": 32, "mode": 2, "offline": 1, "offline_records": 100, "guns": 2,
        "gun_uses": 1000, "reservation": 1, "screen_account": "admin", "screen_password": "s3cret",
        "heartbeat_s": 30, "server_ip": "10.0.0.1", "server_port": 34567, "qr_codes": (QrCode("hello", 2),),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("position", "value", "field"),
    [
        (0, "2", "phase"), (0, "0", "phase"), (1, "0", "max_current_a"), (2, "3", "mode"), (3, "0", "offline"),
        (4, "-1", "offline_records"), (5, "0", "guns"), (6, "-1", "gun_uses"), (7, "3", "reservation"),
        (10, "0", "heartbeat_s"), (12, "0", "server_port"), (12, "65536", "server_port"), (12, "-1", "server_port"),
        (13, "-1", "qr_codes"),
    ],
)  # fmt: skip
def test_106_ranges(position: int, value: str, field: str) -> None:
    fields = [*PARAMETERS.split(","), "0"]
    fields[position] = value
    assert wrong(106, ",".join(fields)) == (OUT_OF_RANGE, field)


@pytest.mark.parametrize("port", ["1", "65535"])
def test_106_ports(port: str) -> None:
    fields = [*PARAMETERS.split(","), "0"]
    fields[12] = port
    assert read(106, ",".join(fields)).server_port == int(port)


def test_106_count_0_has_no_triple() -> None:
    assert qr("0") == ()
    assert wrong(106, f"{PARAMETERS},0,1,a,1") == (MALFORMED, "end")


@pytest.mark.parametrize(
    ("codes", "texts"),
    [
        ("1,10,https://a/,1", ["https://a/"]),
        ("1,3,a,b,1", ["a,b"]),
        ("1,1,,,1", [","]),
        ("1,5,,,,,,,1", [",,,,,"]),
        ("2,3,a,b,1,3,c,d,2", ["a,b", "c,d"]),
        ("1,6,充电,1", ["充电"]),
        ("1,7,充,电,1", ["充,电"]),
        ("1,4,🔌,1", ["🔌"]),
        ("1,5,1,2,3,9", ["1,2,3"]),
    ],
)
def test_106_a_qr_codes_length_counts_bytes_commas_included(codes: str, texts: list[str]) -> None:
    assert [code.data for code in qr(codes)] == texts


@pytest.mark.parametrize(
    ("codes", "text"),
    [("1,2,充电,1", "充电"), ("1,1,🔌,1", "🔌"), ("1,5,二,维,码,1", "二,维,码")],
)
def test_106_where_bytes_miss_the_comma_the_length_counts_characters(codes: str, text: str) -> None:
    assert qr(codes) == (QrCode(text, 1),)


def test_106_bytes_win_where_both_would_fit() -> None:
    """3 bytes are 充, and a comma follows: that 充,电 has 3 characters is not looked at any more."""
    assert qr("1,3,充,1") == (QrCode("充", 1),)
    assert wrong(106, f"{PARAMETERS},1,3,充,电,1") == (MALFORMED, "qr_codes[0].gun")


@pytest.mark.parametrize(
    ("codes", "result", "field"),
    [
        ("1,4,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,2,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,6,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,9223372036854775807,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,9223372036854775808,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,x,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,,abc,1", MALFORMED, "qr_codes[0].data"),
        ("1,0,,1", OUT_OF_RANGE, "qr_codes[0].data"),
        ("1,-1,abc,1", OUT_OF_RANGE, "qr_codes[0].data"),
        ("1,-9223372036854775808,abc,1", OUT_OF_RANGE, "qr_codes[0].data"),
        ("1,3,abc,0", NO_SUCH_GUN, "qr_codes[0].gun"),
        ("1,3,abc,x", MALFORMED, "qr_codes[0].gun"),
        ("1,3,abc", MALFORMED, "qr_codes[0].gun"),
        ("1,5,abc,1", MALFORMED, "qr_codes[0].gun"),
        ("1,3", MALFORMED, "qr_codes"),
        ("1", MALFORMED, "qr_codes"),
        ("2,3,abc,1", MALFORMED, "qr_codes[1].data"),
        ("2,3,abc,1,3,def", MALFORMED, "qr_codes[1].gun"),
        ("1,3,abc,1,3,def,2", MALFORMED, "end"),
        ("9223372036854775807,3,abc,1", MALFORMED, "qr_codes"),
    ],
)
def test_106_qr_codes_that_do_not_add_up(codes: str, result: int, field: str) -> None:
    assert wrong(106, f"{PARAMETERS},{codes}") == (result, field)


# ---- 107, 108, 109 ----


def test_107() -> None:
    assert read(107, "30,90") == (30, 90)
    assert read(107, "30,30") == (30, 30)


def test_107_a_timeout_below_the_period_is_out_of_range() -> None:
    error = refused(line(107, "30,29"))
    assert (error.result, str(error)) == (OUT_OF_RANGE, "timeout_s = 29: expected at least period_s, 30")
    assert wrong(107, "0,90") == (OUT_OF_RANGE, "period_s")
    assert wrong(107, "-30,90") == (OUT_OF_RANGE, "period_s")


def test_108_gun_0_is_the_whole_pile() -> None:
    assert read(108, "0") == (0,)
    assert read(108, "2") == (2,)
    assert wrong(108, "-1") == (NO_SUCH_GUN, "gun")


def test_109_in_the_documents_order() -> None:
    assert read(109, "1,121.4737,-31.2304,12,3,ST01,310000,4") == ConfigureSite(
        device_type=1, longitude=121.4737, latitude=-31.2304, bay=12, parking_bay=3, station="ST01",
        region="310000", operation=4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("longitude", "latitude"), [("180", "90"), ("-180", "-90"), ("180.0", "90.000"), ("-0", "-0.0"), ("007.50", "0")]
)
def test_109_coordinates(longitude: str, latitude: str) -> None:
    data = read(109, f"1,{longitude},{latitude},1,1,S,R,1")
    assert (data.longitude, data.latitude) == (float(longitude), float(latitude))


@pytest.mark.parametrize(
    ("longitude", "latitude", "field"),
    [
        ("180.0000001", "0", "longitude"),
        ("-180.1", "0", "longitude"),
        ("0", "90.0000001", "latitude"),
        ("0", "-91", "latitude"),
        ("9" * 400, "0", "longitude"),
    ],
)
def test_109_coordinates_on_this_earth(longitude: str, latitude: str, field: str) -> None:
    assert wrong(109, f"1,{longitude},{latitude},1,1,S,R,1") == (OUT_OF_RANGE, field)


@pytest.mark.parametrize(
    "number",
    ["", "-", ".", ".5", "5.", "-.5", "+1", "1e2", "1E2", "nan", "inf", "-inf", "1.2.3", "1_0", " 1", "1 ", "0x1", "١"],
)
def test_109_grammar_of_a_double(number: str) -> None:
    assert wrong(109, f"1,{number},0,1,1,S,R,1") == (MALFORMED, "longitude")


@pytest.mark.parametrize(
    ("fields", "field"),
    [("0,0,0,1,1,S,R,1", "device_type"), ("6,0,0,1,1,S,R,1", "device_type"), ("1,0,0,1,1,S,R,5", "operation")],
)
def test_109_choices(fields: str, field: str) -> None:
    assert wrong(109, fields) == (OUT_OF_RANGE, field)


# ---- 110 set tariff ----

H = 3600


def periods(text: str, codec: Codec = CODEC) -> list[tuple[int, int]]:
    """(start, end) of each period of ``text``, which gives ``start-end`` pairs; every price is 1 and every fee 0."""
    pairs = [pair.split("-") for pair in text.split()]
    rows = ",".join(f"{start},{end},1,0" for start, end in pairs)
    data = codec.decode(line(110, f"T7,0,{len(pairs)},{rows}")).data
    return [(period.start_s, period.end_s) for period in data.periods]


def not_a_day(text: str) -> str:
    """What is said to be wrong with periods that are out of range as a whole."""
    pairs = [pair.split("-") for pair in text.split()]
    error = refused(line(110, f"T7,0,{len(pairs)}," + ",".join(f"{start},{end},1,0" for start, end in pairs)))
    assert (error.result, error.field) == (OUT_OF_RANGE, "periods")
    assert error.expected == "periods that cover 24 hours exactly once"
    return str(error.value)


def test_110_in_the_documents_order() -> None:
    data = read(110, "T7,2,1,00:00:00,24:00:00,123456,50000")
    assert (data.template, data.gun) == ("T7", 2)
    assert list(data.periods) == [Period(start_s=0, end_s=86400, price=123456, service_fee=50000)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:00-24:00:00", [(0, 86400)]),
        ("00:00:00-00:00:00", [(0, 86400)]),
        ("00:00:00-23:59:59", [(0, 86400)]),
        ("0-86400", [(0, 86400)]),
        ("0-0", [(0, 86400)]),
        ("0-86399", [(0, 86400)]),
        ("00:00:00-12:59:59 13:00:00-23:59:59", [(0, 13 * H), (13 * H, 86400)]),
        ("00:00:00-13:00:00 13:00:00-00:00:00", [(0, 13 * H), (13 * H, 86400)]),
        ("00:00:00-00:00:59 00:01:00-24:00:00", [(0, 60), (60, 86400)]),
        ("00:00:00-00:00:58 00:00:58-24:00:00", [(0, 58), (58, 86400)]),
        ("0-46799 46800-86399", [(0, 13 * H), (13 * H, 86400)]),
        ("06:00:00-21:59:59 22:00:00-05:59:59", [(6 * H, 22 * H), (22 * H, 6 * H)]),
        ("22:00:00-06:00:00 06:00:00-22:00:00", [(22 * H, 6 * H), (6 * H, 22 * H)]),
        ("12:00:00-24:00:00 00:00:00-12:00:00", [(12 * H, 86400), (0, 12 * H)]),
        ("00:00:00-43200 12:00:00-86400", [(0, 12 * H), (12 * H, 86400)]),
        # 1795276800 is midnight in China, 1795320000 noon
        ("1795276800-1795320000 1795320000-1795363200", [(0, 12 * H), (12 * H, 86400)]),
        ("1795276800000-1795320000999 1795320000000-1795363199999", [(0, 12 * H), (12 * H, 86400)]),
        ("1000000000-12:00:00 12:00:00-1000000000", [(35200, 12 * H), (12 * H, 35200)]),  # 09:46:40
    ],
)
def test_110_times_in_all_their_forms(text: str, expected: list[tuple[int, int]]) -> None:
    assert periods(text) == expected


def test_110_an_epoch_time_is_local_by_the_codecs_offset() -> None:
    text = "1795276800-1795320000 1795320000-1795363200"
    assert periods(text, Codec(0))[0] == (16 * H, 4 * H)
    assert periods(text, Codec(-5 * H))[0] == (11 * H, 23 * H)


@pytest.mark.parametrize(
    "time",
    ["", "12:00", "1:00:00", "12:60:00", "12:00:60", "25:00:00", "24:00:01", "24:01:00", "12-00-00", "12:00:00 ",
     " 12:00:00", "12:0a:00", "-1:00:00", "1２:00:00", "12:00:00Z", "86401", "999999999", "-1", "43200.0", "noon",
     "9223372036854775808"],
)  # fmt: skip
def test_110_anything_else_is_no_time(time: str) -> None:
    assert wrong(110, f"T,0,2,00:00:00,{time},1,1,12:00:00,24:00:00,1,1") == (MALFORMED, "periods[0].end_s")
    assert wrong(110, f"T,0,2,00:00:00,12:00:00,1,1,{time},24:00:00,1,1") == (MALFORMED, "periods[1].start_s")


def test_110_a_period_does_not_start_at_24() -> None:
    assert wrong(110, "T,0,1,24:00:00,24:00:00,1,1") == (OUT_OF_RANGE, "periods[0].start_s")
    assert wrong(110, "T,0,1,86400,24:00:00,1,1") == (OUT_OF_RANGE, "periods[0].start_s")


def test_110_periods_may_stand_in_any_order() -> None:
    assert len(periods("12:00:00-18:00:00 00:00:00-06:00:00 18:00:00-00:00:00 06:00:00-12:00:00")) == 4


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("00:00:00-12:00:00", "a gap 12:00:00-24:00:00"),
        ("01:00:00-24:00:00", "a gap 00:00:00-01:00:00"),
        ("00:00:00-06:00:00 07:00:00-24:00:00", "a gap 06:00:00-07:00:00"),
        ("07:00:00-24:00:00 00:00:00-06:00:00", "a gap 06:00:00-07:00:00"),
        ("00:00:00-08:00:00 07:00:00-24:00:00", "an overlap 07:00:00-08:00:00"),
        ("00:00:00-24:00:00 02:00:00-03:00:00", "an overlap 02:00:00-03:00:00"),
        ("00:00:00-24:00:00 00:00:00-24:00:00", "an overlap 00:00:00-24:00:00"),
        ("22:00:00-06:00:00 06:00:00-23:00:00", "an overlap 22:00:00-23:00:00"),
        ("22:00:00-06:00:00 05:00:00-22:00:00", "an overlap 05:00:00-06:00:00"),
        ("00:00:00-12:00:00 12:00:00-00:00:01", "an overlap 00:00:00-00:00:01"),
        ("06:00:00-06:00:00", "an empty period 06:00:00-06:00:00"),
        ("00:00:00-06:00:00 06:00:00-06:00:00 06:00:00-24:00:00", "an empty period 06:00:00-06:00:00"),
        # twice around the clock, each period beginning where the last one ended
        ("00:00:00-16:00:00 16:00:00-08:00:00 08:00:00-00:00:00", "an overlap 00:00:00-08:00:00"),
    ],
)
def test_110_periods_cover_the_day_exactly_once(text: str, fault: str) -> None:
    assert not_a_day(text) == fault


def test_110_prices_are_not_negative() -> None:
    assert wrong(110, "T,0,1,00:00:00,24:00:00,-1,0") == (OUT_OF_RANGE, "periods[0].price")
    assert wrong(110, "T,0,1,00:00:00,24:00:00,0,-1") == (OUT_OF_RANGE, "periods[0].service_fee")
    assert wrong(110, "T,0,1,00:00:00,24:00:00,0.5,0") == (MALFORMED, "periods[0].price")
    assert read(110, "T,0,1,00:00:00,24:00:00,9223372036854775807,0").periods[0].price == 2**63 - 1


@pytest.mark.parametrize(
    ("data", "result", "field"),
    [
        ("T,-1,1,00:00:00,24:00:00,1,1", NO_SUCH_GUN, "gun"),
        ("T,0,0", OUT_OF_RANGE, "periods"),
        ("T,0,-1,00:00:00,24:00:00,1,1", OUT_OF_RANGE, "periods"),
        ("T,0,,00:00:00,24:00:00,1,1", MALFORMED, "periods"),
        ("T,0,1.0,00:00:00,24:00:00,1,1", MALFORMED, "periods"),
        ("T,0,1", MALFORMED, "periods"),
        ("T,0,9223372036854775807,00:00:00,24:00:00,1,1", MALFORMED, "periods"),
        ("T,0,2,00:00:00,24:00:00,1,1", MALFORMED, "periods[1].start_s"),
        ("T,0,2,00:00:00,12:00:00,1,1,12:00:00", MALFORMED, "periods[1].end_s"),
        ("T,0,2,00:00:00,12:00:00,1,1,12:00:00,24:00:00", MALFORMED, "periods[1].price"),
        ("T,0,1,00:00:00,24:00:00,1", MALFORMED, "periods[0].service_fee"),
        ("T,0,1,00:00:00,12:00:00,1,1,12:00:00,24:00:00,1,1", MALFORMED, "end"),
        ("T,0,1,00:00:00,24:00:00,1,1,", MALFORMED, "message"),
    ],
)
def test_110_counts_that_lie(data: str, result: int, field: str) -> None:
    assert wrong(110, data) == (result, field)


def short_rows(count: int) -> str:
    """So many periods that follow one another, in seconds of day, each but the last 12 s long."""
    edges = [12 * number for number in range(count)] + [86400]
    return f"T,0,{count}," + ",".join(f"{start},{end},{start % 10},0" for start, end in pairwise(edges))


@pytest.mark.parametrize("count", [1, 2, 48, 1440, 4000])
def test_110_many_periods(count: int) -> None:
    rows = read(110, short_rows(count)).periods
    assert len(rows) == count
    assert [row.start_s for row in rows] == [12 * number for number in range(count)]
    assert [row.price for row in rows] == [12 * number % 10 for number in range(count)]
    assert rows[-1].end_s == 86400


def test_110_many_periods_in_any_order() -> None:
    head, rows = short_rows(2000).split(",2000,")
    fields = rows.split(",")
    mixed = [",".join(fields[at : at + 4]) for at in range(0, len(fields), 4)][::-1]
    assert len(read(110, f"{head},2000,{','.join(mixed)}").periods) == 2000
    error = refused(line(110, f"{head},1999,{','.join(mixed[:700] + mixed[701:])}"))
    assert error.value == f"a gap {clock(12 * 1299)}-{clock(12 * 1300)}"


def test_110_5000_periods_do_not_fit_a_line() -> None:
    assert wrong(110, short_rows(5000)) == (MALFORMED, "message")


# ---- 113, 114 ----


def test_113_in_the_documents_order() -> None:
    assert read(113, "10.0.0.2:2121,pile,s3cret,2,0.1.0,R9") == Upgrade(
        ftp_address="10.0.0.2:2121", ftp_account="pile", ftp_password="s3cret", need="2", current_version="0.1.0",
        record_id="R9",
    )  # fmt: skip


@pytest.mark.parametrize("need", ["0", "3", "", "yes", "1 "])
def test_113_need_is_1_or_2(need: str) -> None:
    assert wrong(113, f"a,b,c,{need},e,f") == (OUT_OF_RANGE, "need")


def test_114_in_the_documents_order() -> None:
    assert read(114, "0.2.0,R9,/firmware/a.bundle,1024") == UpgradePackage("0.2.0", "R9", "/firmware/a.bundle", 1024)


@pytest.mark.parametrize("length", ["0", "-1"])
def test_114_a_block_has_at_least_one_byte(length: str) -> None:
    assert wrong(114, f"0.2.0,R9,/a,{length}") == (OUT_OF_RANGE, "packet_bytes")


# ---- integers, wherever they stand ----


@pytest.mark.parametrize(
    "number", ["9223372036854775807", "-9223372036854775808", "0", "-0", "00", "-007", "0" * 40 + "1"]
)
def test_an_integer_fits_64_bits(number: str) -> None:
    assert read(109, f"1,0,0,{number},1,S,R,1").bay == int(number)


@pytest.mark.parametrize(
    "number",
    ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "18446744073709551616", "-", "--1",
     "+1", "1.0", "1.", "1e3", " 1", "1 ", "1_0", "0x1", "", "one", "１", "1\u00a0", "-" + "9" * 40],
)  # fmt: skip
def test_anything_else_is_no_integer(number: str) -> None:
    assert wrong(109, f"1,0,0,{number},1,S,R,1") == (MALFORMED, "bay")
