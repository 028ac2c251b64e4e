/* libmodbus reads a 125-byte answer to 60 integers, 1000 times a call, without I/O: the select() and read() it calls are the ones below. */

#include "line.h"
#include <modbus/modbus.h>
#include <sys/select.h>
#include <sys/syscall.h>

static uint8_t answer[ANSWER] = {1, 3, 2 * REGISTERS};
static int given;
static modbus_t *line;
static uint16_t values[REGISTERS];
static int is_measuring; /* else they serve stdin, as ever */

int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t) {
    (void)n, (void)r, (void)w, (void)e, (void)t;
    return 1;
}

ssize_t read(int fd, void *into, size_t size) {
    if (!is_measuring)
        return syscall(SYS_read, fd, into, size);
    memcpy(into, answer + given, size);
    given += size;
    return size;
}

static void decode_once(void) {
    uint8_t got[MODBUS_RTU_MAX_ADU_LENGTH];
    given = 0;
    if (modbus_receive_confirmation(line, got) != ANSWER)
        exit(2);
    for (int i = 0; i < REGISTERS; i++)
        values[i] = MODBUS_GET_INT16_FROM_INT8(got, 3 + 2 * i);
}

/* Many, so that the clock costs nothing. */
static void decode(void) {
    is_measuring = 1;
    for (int i = 0; i < 1000; i++)
        decode_once();
    is_measuring = 0;
}

int main(void) {
    for (int i = 0; i < 2 * REGISTERS; i++)
        answer[3 + i] = i;
    with_crc(answer, ANSWER - 2);
    line = modbus_new_rtu("/dev/null", 115200, 'N', 8, 1);
    modbus_set_slave(line, 1);
    modbus_set_socket(line, 0);
    serve(decode);
    return values[REGISTERS - 1] != (118 << 8 | 119);
}
