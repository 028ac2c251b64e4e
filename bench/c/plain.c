/* The master that one writes in C: keep 3.5 characters of silence, write, poll() and read() until all is there.
 * plain PORT BAUD */

#include "line.h"

static int port;
static int64_t quiet_ns, heard_ns;

static void transact(void) {
    uint8_t request[8] = {1, 3, 0, 0, 0, REGISTERS}, answer[ANSWER];
    uint16_t values[REGISTERS];
    int have = 0;
    with_crc(request, 6);
    sleep_until(heard_ns + quiet_ns);
    if (write(port, request, sizeof request) != sizeof request)
        exit(2);
    while (have < ANSWER) {
        struct pollfd ready = {port, POLLIN, 0};
        int got = poll(&ready, 1, 2000) == 1 ? read(port, answer + have, ANSWER - have) : -1;
        if (got <= 0)
            exit(3);
        have += got;
    }
    heard_ns = clock_ns(CLOCK_MONOTONIC);
    if (crc16(answer, ANSWER - 2) != (answer[ANSWER - 2] | answer[ANSWER - 1] << 8) || answer[2] != 2 * REGISTERS)
        exit(4);
    for (int i = 0; i < REGISTERS; i++)
        values[i] = answer[3 + 2 * i] << 8 | answer[4 + 2 * i];
    __asm__ volatile("" : : "r"(values) : "memory"); /* so that the compiler does not leave them out */
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 1;
    int baud = atoi(argv[2]);
    quiet_ns = baud > 19200 ? 1750000 : 35000000000LL / baud;
    port = open_port(argv[1]);
    serve(transact);
    return 0;
}
