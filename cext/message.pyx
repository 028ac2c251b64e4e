"""The platform's comma-joined lines, both ways. message.pyi is the contract; the command table is agent/protocol."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_AsSsize_t
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy

from collections.abc import Sequence

cdef extern from "Python.h":
    tuple PyType_GenericAlloc(type cls, Py_ssize_t size)

# A wheel is for every Python from 3.11 on (abi3), whose stable ABI has not the quickest of these.
cdef extern from *:
    """
    #ifdef Py_LIMITED_API
    #define PyBytes_AS_STRING PyBytes_AsString
    #define PyBytes_GET_SIZE PyBytes_Size
    #define PyTuple_SET_ITEM PyTuple_SetItem
    #define ascii_text(start, size) PyUnicode_DecodeASCII(start, size, NULL)
    #else
    static inline PyObject *ascii_text(const char *start, Py_ssize_t size) {
        PyObject *text = PyUnicode_New(size, 0x7F);
        if (text != NULL) memcpy(PyUnicode_1BYTE_DATA(text), start, size);
        return text;
    }
    #endif
    """
    const char *PyBytes_AS_STRING(bytes line)
    Py_ssize_t PyBytes_GET_SIZE(bytes line)
    void PyTuple_SET_ITEM(tuple values, Py_ssize_t index, object value)  # takes a reference
    str ascii_text(const char *start, Py_ssize_t size)

cdef enum:
    LINE_BYTES = 65536
    PILE_CHARACTERS = 32
    SHOWN_CHARACTERS = 60

LINE_BYTES_MAX = LINE_BYTES
PILE_CHARACTERS_MAX = PILE_CHARACTERS

# Results of docs/protocol.md that a line alone can earn.
cdef int MALFORMED = 10
cdef int WRONG_PILE = 11
cdef int OUT_OF_RANGE = 13
cdef int NOT_SUPPORTED = 14

cdef long long DAY_S = 86400
cdef long long EPOCH_S_MIN = 1000000000
cdef long long EPOCH_MS_MIN = 1000000000000

cdef enum Kind:
    TEXT = 0
    INT = 1
    DOUBLE = 2
    PILE = 3
    DAY_START = 4
    DAY_END = 5
    SIZED_TEXT = 6
    ROWS = 7
    ROWS_TO_END = 8


class FieldKind:
    TEXT, INT, DOUBLE, PILE, DAY_START, DAY_END, SIZED_TEXT, ROWS, ROWS_TO_END = range(9)


class MessageError(ValueError):
    def __init__(self, result, field, value, expected):
        self.result = int(result)
        self.field = field
        self.value = value
        self.expected = expected
        self.command = None
        self.timestamp_text = "0"
        shown = "" if value is None else f" = {value}"
        super().__init__(f"{field}{shown}: expected {expected}")


cdef class FieldSpec:
    cdef readonly str name
    cdef readonly int kind
    cdef readonly str expected
    cdef readonly long long low
    cdef readonly long long high
    cdef readonly object choices
    cdef readonly object limits
    cdef readonly int range_result
    cdef readonly bint optional
    cdef readonly bint secret
    cdef readonly object waived_by
    cdef readonly Shape rows

    def __init__(self, str name, int kind, str expected, long long low=0, long long high=0, *, choices=None,
                 limits=None, int range_result=OUT_OF_RANGE, bint optional=False, bint secret=False, waived_by=(),
                 Shape rows=None):
        if kind in (ROWS, ROWS_TO_END) and (rows is None or rows.wire_fields == 0):
            raise ValueError(f"{name}: rows need a shape of at least one field")
        self.name = name
        self.kind = kind
        self.expected = expected
        self.low = low
        self.high = high
        self.choices = choices
        self.limits = limits
        self.range_result = range_result
        self.optional = optional
        self.secret = secret
        self.waived_by = waived_by
        self.rows = rows


cdef class Shape:
    """A message class and its fields, ready for parsing."""

    cdef readonly type cls
    cdef readonly tuple fields
    cdef object rule
    cdef int size
    cdef int wire_fields        # least number of fields on the wire
    cdef bint secret            # a password is among the fields: errors show no value of such a message
    cdef bint integers_only     # rows of such a shape are kept packed

    def __init__(self, type cls, fields, rule=None):
        if not issubclass(cls, tuple):
            raise TypeError(f"{cls.__name__} is no NamedTuple")
        self.cls = cls
        self.fields = tuple(fields)
        self.rule = rule
        self.size = len(self.fields)
        self.wire_fields = 0
        self.secret = False
        self.integers_only = self.size > 0
        cdef FieldSpec spec
        for spec in self.fields:
            self.wire_fields += 2 if spec.kind == SIZED_TEXT else 0 if spec.optional or spec.kind == ROWS_TO_END else 1
            if spec.secret:
                self.secret = True
            if spec.waived_by and spec is self.fields[0]:
                raise ValueError(f"{spec.name}: a first field can't waive its own range")
            if spec.kind not in (INT, DAY_START, DAY_END):
                self.integers_only = False
            if spec.optional or spec.waived_by or spec.choices is not None:
                self.integers_only = False


cdef class Rows:
    """Equal rows of integers, packed: a period of 110 costs 32 bytes, and no Python object until asked for."""

    cdef type cls
    cdef Py_ssize_t size
    cdef Py_ssize_t width
    cdef long long* numbers

    def __init__(self):
        raise TypeError("rows come from reading a line")

    def __dealloc__(self):
        PyMem_Free(self.numbers)

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self)[index]
        cdef Py_ssize_t at = PyNumber_AsSsize_t(index, IndexError)  # 2**31 is too large for one on a 32-bit board
        if at < 0:
            at += self.size
        if not 0 <= at < self.size:
            raise IndexError(f"row {index} of {self.size}")
        cdef long long* row = self.numbers + at * self.width
        return self.cls._make([row[column] for column in range(self.width)])

    def __eq__(self, other):
        return isinstance(other, (Rows, tuple, list)) and tuple(self) == tuple(other)

    def __hash__(self):
        return hash(tuple(self))

    def __repr__(self):
        return repr(tuple(self))

    def index(self, *wanted):
        return tuple(self).index(*wanted)

    def count(self, row):
        return tuple(self).count(row)


Sequence.register(Rows)


cdef Rows new_rows(Shape shape, Py_ssize_t count):
    cdef Rows rows = Rows.__new__(Rows)
    rows.numbers = <long long*> PyMem_Malloc(max(count * shape.size, 1) * sizeof(long long))
    if rows.numbers == NULL:
        raise MemoryError()
    rows.cls = shape.cls
    rows.size = count
    rows.width = shape.size
    return rows


@cython.freelist(8)
cdef class Message:
    """A parsed command: the envelope and its typed data."""

    cdef readonly str ip
    cdef readonly str version
    cdef readonly long long command
    cdef readonly long long timestamp
    cdef readonly str timestamp_text
    cdef readonly str pile
    cdef readonly object data
    cdef bint has_command

    def __repr__(self):
        envelope = f"{self.ip!r}, {self.version!r}, {self.command}, {self.timestamp_text}, {self.pile!r}"
        return f"Message({envelope}, {self.data!r})"


# ---- reading ----

cdef struct Cursor:
    const char* next        # start of the field to read next
    const char* end
    bint more               # a field is still to be read (it may be empty)


cdef struct Slice:
    const char* start
    Py_ssize_t size


cdef struct Context:
    PyObject* pile          # the header's, borrowed, for fields that must repeat it
    long long utc_offset_s
    bint hidden             # no value in an error: one comma too few or many puts a password in another field's place


cdef inline Slice take(Cursor* cursor) noexcept nogil:
    """The next field; the caller has seen ``more``."""
    cdef Slice field
    cdef const char* comma = <const char*> memchr(cursor.next, c",", cursor.end - cursor.next)
    field.start = cursor.next
    if comma == NULL:
        field.size = cursor.end - cursor.next
        cursor.next = cursor.end
        cursor.more = False
    else:
        field.size = comma - cursor.next
        cursor.next = comma + 1
    return field


cdef inline bint read_int(Slice field, long long* value) noexcept nogil:
    """Optional ``-``, ASCII digits, within 64 bits."""
    cdef Py_ssize_t index = 0
    cdef bint negative = field.size > 0 and field.start[0] == c"-"
    cdef unsigned long long number = 0
    cdef unsigned long long limit = (<unsigned long long> 1 << 63) - (0 if negative else 1)
    cdef unsigned int digit
    if negative:
        index = 1
    if index == field.size:
        return False
    while index < field.size:
        digit = <unsigned int> (<unsigned char> field.start[index]) - 48
        if digit > 9 or (field.size > 18 and number > (limit - digit) // 10):  # 18 digits always fit
            return False
        number = number * 10 + digit
        index += 1
    value[0] = <long long> (0 - number) if negative else <long long> number
    return True


cdef inline int two_digits(const char* text) noexcept nogil:
    """The number in two ASCII digits, or a large one where there are none."""
    cdef unsigned int tens = <unsigned int> (<unsigned char> text[0]) - 48
    cdef unsigned int ones = <unsigned int> (<unsigned char> text[1]) - 48
    return 1000 if tens > 9 or ones > 9 else <int> (tens * 10 + ones)


cdef inline bint read_clock(Slice field, long long* second) noexcept nogil:
    """``HH:MM:SS`` up to 24:00:00."""
    if field.size != 8 or field.start[2] != c":" or field.start[5] != c":":
        return False
    cdef int hours = two_digits(field.start)
    cdef int minutes = two_digits(field.start + 3)
    cdef int seconds = two_digits(field.start + 6)
    second[0] = hours * 3600 + minutes * 60 + seconds
    return minutes < 60 and seconds < 60 and second[0] <= DAY_S


cdef inline bint read_day_time(Slice field, bint is_end, long long utc_offset_s, long long* second) noexcept nogil:
    """Any of the forms a time of day may have, as a second of the local day."""
    cdef long long value
    if not read_clock(field, second):
        if not read_int(field, &value) or value < 0 or DAY_S < value < EPOCH_S_MIN:
            return False
        if value >= EPOCH_MS_MIN:
            value //= 1000
        if value >= EPOCH_S_MIN:
            value = (value % DAY_S + utc_offset_s + DAY_S) % DAY_S
        second[0] = value
    if is_end:
        if second[0] % 60 == 59:
            second[0] += 1
        elif second[0] == 0:
            second[0] = DAY_S
    return True


cdef inline bint is_plain(Slice field) noexcept nogil:
    """Nothing but printable ASCII. Eight bytes a step: most fields of most lines are."""
    cdef uint64_t eight
    cdef Py_ssize_t index = 0
    while index + 8 <= field.size:
        memcpy(&eight, field.start + index, 8)
        # A byte's high bit comes of subtracting 0x20 from less, of adding 1 to 0x7F, or has been there before.
        if ((eight - 0x2020202020202020ULL) | (eight + 0x0101010101010101ULL) | eight) & 0x8080808080808080ULL:
            return False
        index += 8
    while index < field.size:
        if not 0x20 <= <unsigned char> field.start[index] < 0x7F:
            return False
        index += 1
    return True


cdef inline str plain_text(Slice field):
    """The text of a field that ``is_plain``: a copy, nothing to decode."""
    return ascii_text(field.start, field.size)


cdef inline bint has_control(Slice field) noexcept nogil:
    """A control character (C0, DEL, or C1 in its UTF-8 form) stands in the field."""
    cdef const unsigned char* text = <const unsigned char*> field.start
    cdef Py_ssize_t index
    for index in range(field.size):
        if 0x20 <= text[index] < 0x7F:
            continue
        if text[index] < 0x80 or (text[index] == 0xC2 and index + 1 < field.size and text[index + 1] < 0xA0):
            return True
    return False


cdef str shown(Slice field):
    """A field for an error: control characters escaped, cut to a readable length."""
    text = (<bytes> field.start[:field.size]).decode("utf-8", "backslashreplace")
    return repr(text[:SHOWN_CHARACTERS]) + ("…" if len(text) > SHOWN_CHARACTERS else "")


cdef str place(Shape shape, int index, str prefix):
    return prefix + (<FieldSpec> shape.fields[index]).name


cdef object refuse(Shape shape, int index, str prefix, Slice field, Context* context, int result, str expected):
    """The error for a field that was read; ``prefix`` names the row it stands in."""
    raise MessageError(result, place(shape, index, prefix), None if context.hidden else shown(field), expected)


cdef str read_text(Slice field):
    """The field as text, or None where its bytes are no UTF-8 or hold a control character."""
    if is_plain(field):
        return plain_text(field)
    if has_control(field):
        return None
    try:
        return PyUnicode_DecodeUTF8(field.start, field.size, NULL)
    except UnicodeDecodeError:
        return None


cdef bint read_number(FieldSpec spec, Slice field, Context* context, long long* value) noexcept:
    """A field of an integer kind, not yet checked against its range."""
    if spec.kind == INT:
        return read_int(field, value)
    return read_day_time(field, spec.kind == DAY_END, context.utc_offset_s, value)


cdef long long checked_number(Shape shape, int index, str prefix, Slice field, Context* context,
                              tuple values) except? -1:
    """An integer of a message whose ``values`` are read up to it."""
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    cdef long long value = 0
    if not read_number(spec, field, context, &value):
        refuse(shape, index, prefix, field, context, MALFORMED, spec.expected)
    if value < spec.low or value > spec.high or (spec.choices is not None and value not in spec.choices):
        if not spec.waived_by or values[0] not in spec.waived_by:
            refuse(shape, index, prefix, field, context, spec.range_result, spec.expected)
    return value


cdef object read_double(Shape shape, int index, str prefix, Slice field, Context* context):
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    if not is_decimal(field):
        refuse(shape, index, prefix, field, context, MALFORMED, spec.expected)
    number = float(<bytes> field.start[:field.size])
    low, high = spec.limits
    if not low <= number <= high:
        refuse(shape, index, prefix, field, context, OUT_OF_RANGE, spec.expected)
    return number


cdef bint is_decimal(Slice field) noexcept nogil:
    """Optional ``-``, digits, optionally a point and digits."""
    cdef Py_ssize_t index = 1 if field.size > 0 and field.start[0] == c"-" else 0
    cdef Py_ssize_t digits = 0
    cdef bint point = False
    while index < field.size:
        if c"0" <= field.start[index] <= c"9":
            digits += 1
        elif field.start[index] == c"." and digits > 0 and not point:
            point = True
            digits = 0
        else:
            return False
        index += 1
    return digits > 0


cdef Py_ssize_t characters_as_bytes(const char* text, Py_ssize_t available, long long characters) noexcept nogil:
    """How many bytes the first ``characters`` characters of UTF-8 take, or -1 where there are not so many."""
    cdef Py_ssize_t index = 0
    while index < available:
        if (text[index] & 0xC0) != 0x80:
            if characters == 0:
                return index
            characters -= 1
        index += 1
    return index if characters == 0 else -1


cdef object read_sized_text(Shape shape, int index, str prefix, Slice length, Cursor* cursor,
                            Context* context):
    """The text whose length was just read. The length counts bytes; where that misses the comma, characters."""
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    cdef long long size = checked_count(shape, index, prefix, length, context)
    cdef Py_ssize_t available = cursor.end - cursor.next
    cdef Py_ssize_t taken = size if size <= available else -1
    if taken < 0 or not ends_field(cursor, taken):
        taken = characters_as_bytes(cursor.next, available, size)
        if taken < 0 or not ends_field(cursor, taken):
            refuse(shape, index, prefix, length, context, MALFORMED, spec.expected)
    cdef Slice field = Slice(cursor.next, taken)
    text = read_text(field)
    if text is None:
        refuse(shape, index, prefix, field, context, MALFORMED, "text of UTF-8 without control character")
    cursor.more = cursor.next + taken < cursor.end
    cursor.next += taken + (1 if cursor.more else 0)
    return text


cdef long long checked_count(Shape shape, int index, str prefix, Slice field, Context* context) except -1:
    """How many bytes or rows follow."""
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    cdef long long size = 0
    if not read_int(field, &size):
        refuse(shape, index, prefix, field, context, MALFORMED, spec.expected)
    if size < spec.low:
        refuse(shape, index, prefix, field, context, OUT_OF_RANGE, spec.expected)
    return size


cdef inline bint ends_field(Cursor* cursor, Py_ssize_t size) noexcept nogil:
    return cursor.next + size == cursor.end or cursor.next[size] == c","


cdef object read_rows(Shape shape, int index, str prefix, Cursor* cursor, Context* context, long long count):
    """``count`` rows, or with a negative count as many as there are."""
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    cdef Shape row = spec.rows
    cdef list rows = []
    if count >= 0 and row.integers_only:
        return read_packed_rows(spec, row, prefix, cursor, context, count)
    while len(rows) != count and (count >= 0 or cursor.more):
        rows.append(read_fields(row, f"{prefix}{spec.name}[{len(rows)}].", cursor, context))
    return tuple(rows)


cdef Rows read_packed_rows(FieldSpec spec, Shape row, str prefix, Cursor* cursor, Context* context, long long count):
    cdef Rows rows = new_rows(row, count)
    cdef Py_ssize_t at, total = count * row.size
    cdef int column = 0
    cdef Slice field
    cdef FieldSpec of
    for at in range(total):
        column = at % row.size
        of = <FieldSpec> row.fields[column]
        if cursor.more:
            field = take(cursor)
            if (read_number(of, field, context, &rows.numbers[at])
                    and of.low <= rows.numbers[at] <= of.high):
                continue
            checked_number(row, column, f"{prefix}{spec.name}[{at // row.size}].", field, context, None)
        missing(row, column, f"{prefix}{spec.name}[{at // row.size}].")
    return rows


cdef object missing(Shape shape, int index, str prefix):
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    raise MessageError(MALFORMED, place(shape, index, prefix), None,
                       f"{spec.expected}, but the message ends before it")


cdef object read_value(Shape shape, int index, str prefix, Cursor* cursor, Context* context, tuple values):
    """The field of a message whose ``values`` are read up to it."""
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    cdef Slice field
    if spec.kind == ROWS_TO_END:
        return read_rows(shape, index, prefix, cursor, context, -1)
    if not cursor.more:
        return None if spec.optional else missing(shape, index, prefix)
    field = take(cursor)
    if spec.kind == TEXT:
        text = read_text(field)
        if text is None:
            refuse(shape, index, prefix, field, context, MALFORMED, spec.expected + ", in UTF-8")
        if spec.choices is not None and text not in spec.choices:
            refuse(shape, index, prefix, field, context, OUT_OF_RANGE, spec.expected)
        return text
    if spec.kind == PILE:
        return repeated_pile(shape, index, prefix, field, context)
    if spec.kind == DOUBLE:
        return read_double(shape, index, prefix, field, context)
    if spec.kind == SIZED_TEXT:
        if not cursor.more:
            refuse(shape, index, prefix, field, context, MALFORMED, spec.expected)
        return read_sized_text(shape, index, prefix, field, cursor, context)
    if spec.kind == ROWS:
        return read_rows(shape, index, prefix, cursor, context, row_count(shape, index, prefix, field, cursor, context))
    return checked_number(shape, index, prefix, field, context, values)


cdef object repeated_pile(Shape shape, int index, str prefix, Slice field, Context* context):
    cdef Py_ssize_t size = 0
    cdef const char* pile = PyUnicode_AsUTF8AndSize(<object> context.pile, &size)
    if field.size != size or memcmp(field.start, pile, size) != 0:
        refuse(shape, index, prefix, field, context, WRONG_PILE, (<FieldSpec> shape.fields[index]).expected)
    return <object> context.pile


cdef long long row_count(Shape shape, int index, str prefix, Slice field, Cursor* cursor,
                         Context* context) except -1:
    """A count, believed only as far as the rest of the line could hold so many rows."""
    cdef FieldSpec spec = <FieldSpec> shape.fields[index]
    cdef long long count = checked_count(shape, index, prefix, field, context)
    cdef long long room = (cursor.end - cursor.next + 1) // spec.rows.wire_fields
    if count > room:
        refuse(shape, index, prefix, field, context, MALFORMED, f"{spec.expected}, but the line ends before that")
    return count


cdef object read_fields(Shape shape, str prefix, Cursor* cursor, Context* context):
    """One message class or row, made of the next fields."""
    cdef tuple values = PyType_GenericAlloc(shape.cls, shape.size)
    cdef int index
    for index in range(shape.size):
        value = read_value(shape, index, prefix, cursor, context, values)
        Py_INCREF(value)
        PyTuple_SET_ITEM(values, index, value)
    return values


cdef object read_whole(Shape shape, Cursor* cursor, Context* context):
    """The message class from all fields that are left, its cross-field rule kept."""
    cdef object data = read_fields(shape, "", cursor, context)
    if cursor.more:
        refuse_extra(shape, cursor, context)
    if shape.rule is not None:
        fault = shape.rule(data)
        if fault is not None:
            field, value, expected, result = fault
            raise MessageError(result, field, None if context.hidden else value, expected)
    return data


cdef object refuse_extra(Shape shape, Cursor* cursor, Context* context):
    cdef Slice extra = take(cursor)
    last = (<FieldSpec> shape.fields[shape.size - 1]).name if shape.size else "the pile number"
    raise MessageError(MALFORMED, "end", None if context.hidden else shown(extra), f"nothing after {last}")


cdef inline Cursor cursor_over(bytes line):
    cdef Cursor cursor
    cursor.next = PyBytes_AS_STRING(line)
    cursor.end = cursor.next + PyBytes_GET_SIZE(line)
    cursor.more = True
    return cursor


HEADER = ("ip", "version", "command", "timestamp", "pile")
cdef tuple HEADER_EXPECTED = (
    "text without comma or control character, in UTF-8", "text without comma or control character, in UTF-8",
    "an integer 100..114", "an integer of 64 bits", f"1..{PILE_CHARACTERS} characters without control character",
)


cdef object refuse_header(int index, Slice field, int result):
    raise MessageError(result, HEADER[index], shown(field), HEADER_EXPECTED[index])


cdef object read_header(bytes line, Cursor* cursor, Slice* fields, Message message):
    """The five fields of the envelope. ``message`` keeps what was good even where a later one is refused."""
    cdef int index
    for index in range(5):
        if not cursor.more:
            raise MessageError(MALFORMED, HEADER[index], None,
                               f"{HEADER_EXPECTED[index]}, but the message ends before it")
        fields[index] = take(cursor)
        if index == 2:
            message.has_command = read_int(fields[2], &message.command)
        elif index == 3 and read_int(fields[3], &message.timestamp):
            message.timestamp_text = plain_text(fields[3])
    if PyBytes_GET_SIZE(line) > LINE_BYTES:
        raise MessageError(MALFORMED, "message", f"{len(line)} bytes", f"at most {LINE_BYTES} bytes")
    if cursor.end[-1] == c",":
        raise MessageError(MALFORMED, "message", None, "a last character other than ','")
    message.ip = header_text(fields, 0)
    message.version = header_text(fields, 1)
    if not message.has_command:
        refuse_header(2, fields[2], MALFORMED)
    if message.timestamp_text is None:
        refuse_header(3, fields[3], MALFORMED)
    message.pile = header_text(fields, 4)
    if not 1 <= len(message.pile) <= PILE_CHARACTERS:
        refuse_header(4, fields[4], MALFORMED)


cdef str header_text(Slice* fields, int index):
    text = read_text(fields[index])
    if text is None:
        refuse_header(index, fields[index], MALFORMED)
    return text


def pile_of(bytes line not None):
    cdef const char* at = PyBytes_AS_STRING(line)
    cdef const char* end = at + PyBytes_GET_SIZE(line)
    cdef const char* comma
    for _ in range(4):
        comma = <const char*> memchr(at, c",", end - at)
        if comma == NULL:
            return None
        at = comma + 1
    comma = <const char*> memchr(at, c",", end - at)
    return PyBytes_FromStringAndSize(at, (end if comma == NULL else comma) - at)


def is_ordered_day(Rows rows not None):
    """Rows of (start, end, …) that follow one another around the clock once, as a platform normally sends them."""
    cdef long long total = 0
    cdef long long start, end, following
    cdef Py_ssize_t index
    for index in range(rows.size):
        start = rows.numbers[index * rows.width]
        end = rows.numbers[index * rows.width + 1]
        following = rows.numbers[(index + 1 if index + 1 < rows.size else 0) * rows.width]
        if end == start or end % DAY_S != following:
            return False
        total += end - start if end > start else end - start + DAY_S
    return total == DAY_S


cdef class Codec:
    """Lines to messages and back, by a table of shapes."""

    cdef dict shapes
    cdef long long utc_offset_s

    def __init__(self, shapes, long long utc_offset_s):
        self.shapes = dict(shapes)
        self.utc_offset_s = utc_offset_s

    def decode(self, bytes line not None):
        cdef Cursor cursor = cursor_over(line)
        cdef Slice[5] header
        cdef Context context
        cdef Shape shape
        cdef Message message = Message.__new__(Message)
        try:
            read_header(line, &cursor, header, message)
            shape = self.shapes.get(message.command)
            if shape is None:
                refuse_header(2, header[2], NOT_SUPPORTED)
            context = Context(<PyObject*> message.pile, self.utc_offset_s, shape.secret)
            message.data = read_whole(shape, &cursor, &context)
        except MessageError as error:
            error.command = message.command if message.has_command else None
            error.timestamp_text = message.timestamp_text or "0"
            raise
        return message

    def read_body(self, Shape shape not None, bytes body, str pile not None):
        cdef Context context = Context(<PyObject*> pile, self.utc_offset_s, shape.secret)
        cdef Cursor cursor = cursor_over(b"" if body is None else body)
        cursor.more = body is not None
        return read_whole(shape, &cursor, &context)


def split_reply(bytes line not None):
    cdef Cursor cursor = cursor_over(line)
    cdef Slice[5] header
    cdef Message message = Message.__new__(Message)
    read_header(line, &cursor, header, message)
    request_timestamp = take_integer(&cursor, "request_timestamp")
    result = take_integer(&cursor, "result")
    return message, request_timestamp, int(result), rest_of(&cursor)


def split_result(bytes body not None):
    cdef Cursor cursor = cursor_over(body)
    result = take_integer(&cursor, "first_result")
    return int(result), rest_of(&cursor)


cdef str take_integer(Cursor* cursor, str name):
    """The next field verbatim, an integer."""
    cdef Slice field
    cdef long long value = 0
    if not cursor.more:
        raise MessageError(MALFORMED, name, None, "an integer of 64 bits, but the message ends before it")
    field = take(cursor)
    if not read_int(field, &value):
        raise MessageError(MALFORMED, name, shown(field), "an integer of 64 bits")
    return plain_text(field)


cdef bytes rest_of(Cursor* cursor):
    """The fields not yet read, None where there are none."""
    return <bytes> cursor.next[:cursor.end - cursor.next] if cursor.more else None


# ---- writing ----

def write_line(list fields not None):
    line = ",".join(fields)
    if line.endswith(","):
        raise MessageError(MALFORMED, "message", None, "a last field that is not empty")
    encoded = line.encode()
    if len(encoded) > LINE_BYTES:
        raise MessageError(MALFORMED, "message", f"{len(encoded)} bytes", f"at most {LINE_BYTES} bytes")
    return encoded


def write_text(str name not None, value, str expected not None, bint secret=False):
    if not isinstance(value, str) or "," in value or not is_clean(value):
        raise MessageError(MALFORMED, name, None if secret else repr(value)[:SHOWN_CHARACTERS], expected)
    return value


cdef bint is_clean(str text):
    """Encodable as UTF-8 and without control characters."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return False
    return not has_control(Slice(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded)))


def write_fields(Shape shape not None, values, str pile not None, str prefix=""):
    cdef list fields = []
    cdef FieldSpec spec
    for spec, value in zip(shape.fields, values, strict=True):
        if value is not None or not spec.optional:
            fields.extend(write_value(spec, value, pile, prefix + spec.name, values[0] in spec.waived_by))
    return fields


cdef list write_value(FieldSpec spec, value, str pile, str name, bint waived):
    if spec.kind == ROWS or spec.kind == ROWS_TO_END:
        return write_rows(spec, value, pile, name)
    if spec.kind == SIZED_TEXT:
        if not isinstance(value, str) or not value or not is_clean(value):
            raise MessageError(MALFORMED, name, repr(value)[:SHOWN_CHARACTERS],
                               "text without control character, not empty")
        return [str(len(value.encode())), value]
    if spec.kind == TEXT:
        text = write_text(name, value, spec.expected, spec.secret)
        if spec.choices is not None and text not in spec.choices:
            raise MessageError(OUT_OF_RANGE, name, repr(value), spec.expected)
        return [text]
    if spec.kind == PILE:
        if value != pile:
            raise MessageError(WRONG_PILE, name, repr(value)[:SHOWN_CHARACTERS], f"{spec.expected}, {pile!r}")
        return [value]
    if spec.kind == DOUBLE:
        return [write_double(spec, value, name)]
    return [write_number(spec, value, name, waived)]


cdef list write_rows(FieldSpec spec, rows, str pile, str name):
    if not isinstance(rows, (tuple, list, Rows)):
        raise MessageError(MALFORMED, name, repr(rows)[:SHOWN_CHARACTERS], "a list of rows")
    if len(rows) < spec.low:
        raise MessageError(OUT_OF_RANGE, name, str(len(rows)), f"at least {spec.low} rows")
    cdef list fields = [] if spec.kind == ROWS_TO_END else [str(len(rows))]
    for number, row in enumerate(rows):
        fields.extend(write_fields(spec.rows, row, pile, f"{name}[{number}]."))
    return fields


cdef str write_double(FieldSpec spec, value, str name):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MessageError(MALFORMED, name, repr(value)[:SHOWN_CHARACTERS], spec.expected)
    low, high = spec.limits
    if not low <= value <= high:
        raise MessageError(OUT_OF_RANGE, name, repr(value)[:SHOWN_CHARACTERS], spec.expected)
    text = repr(value)
    if "e" not in text:
        return text
    from decimal import Decimal  # here, as few numbers are so small, and it costs half a MiB

    return format(Decimal(text), "f")  # 1e-07, which the wire does not know


cdef str write_number(FieldSpec spec, value, str name, bint waived):
    if isinstance(value, bool) or not isinstance(value, int):
        raise MessageError(MALFORMED, name, repr(value)[:SHOWN_CHARACTERS], spec.expected)
    fits = spec.low <= value <= spec.high and (spec.choices is None or value in spec.choices)
    if not fits and not waived:
        raise MessageError(spec.range_result, name, repr(value)[:SHOWN_CHARACTERS], spec.expected)
    if spec.kind == INT:
        return str(value)
    if spec.kind == DAY_END and value % 60 == 59:
        raise MessageError(OUT_OF_RANGE, name, str(value),
                           "the second after the last: an end at :59 is inclusive on the wire")
    if spec.kind == DAY_END and value % 60 == 0:
        value -= 1  # a full minute is written inclusive, as the platform's document does: 12:59:59
    return f"{value // 3600:02}:{value // 60 % 60:02}:{value % 60:02}"
