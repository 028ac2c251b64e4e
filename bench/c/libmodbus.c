/* Reads 60 registers over and over with libmodbus, which keeps no silent interval. libmodbus PORT BAUD */

#include "line.h"
#include <modbus/modbus.h>

static modbus_t *line;

static void transact(void) {
    uint16_t values[REGISTERS];
    if (modbus_read_registers(line, 0, REGISTERS, values) != REGISTERS) {
        fprintf(stderr, "libmodbus: %s\n", modbus_strerror(errno));
        exit(2);
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 1;
    line = modbus_new_rtu(argv[1], atoi(argv[2]), 'N', 8, 1);
    modbus_set_slave(line, 1);
    modbus_set_response_timeout(line, 2, 0);
    modbus_set_byte_timeout(line, 0, 0);
    if (modbus_connect(line) < 0) {
        perror("libmodbus");
        return 1;
    }
    serve(transact);
    return 0;
}
