/* The least that a client of libmosquitto does with a command for its pile: a Modbus frame onto the line, its
 * answer read, the line back to the broker.
 * mosquitto PORT TOPIC PILE LINE */

#include "line.h"
#include <mosquitto.h>

static int line;
static const char *pile;
static char reply_topic[64];

static int is_mine(const char *text, int size) {
    const char *end = text + size;
    for (int commas = 0; commas < 4; commas++) {
        text = memchr(text, ',', end - text);
        if (!text++)
            return 0;
    }
    return (size_t)(end - text) >= strlen(pile) && !memcmp(text, pile, strlen(pile));
}

static void command_came(struct mosquitto *client, void *context, const struct mosquitto_message *message) {
    uint8_t request[8] = {1, 3, 2, 0x20, 0, 8}, answer[256];
    (void)context;
    if (!is_mine(message->payload, message->payloadlen))
        return;
    if (write(line, request, with_crc(request, 6)) != sizeof request)
        exit(2);
    if (poll(&(struct pollfd){line, POLLIN, 0}, 1, 1000) != 1 || read(line, answer, sizeof answer) < 5)
        exit(5);
    mosquitto_publish(client, NULL, reply_topic, message->payloadlen, message->payload, 1, false);
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 1;
    pile = argv[3];
    line = open_port(argv[4]);
    snprintf(reply_topic, sizeof reply_topic, "klc/reply/qik/%s", pile);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_message_callback_set(client, command_came);
    if (mosquitto_connect(client, "127.0.0.1", atoi(argv[1]), 60) || mosquitto_subscribe(client, NULL, argv[2], 1))
        return 3;
    mosquitto_loop_forever(client, -1, 1);
    return 4;
}
