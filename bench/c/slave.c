/* A Modbus slave on a pseudo-terminal that takes the time a line takes, and holds the master to its silent interval.
 *
 *     slave BAUD            BAUD 0: answers at once
 *
 * Prints the terminal's path. An answer comes in pieces of 1 to 8 bytes, each when its last bit is through, as from a
 * UART's FIFO. Commands on stdin: `normal`, `exception`, `half` say how to answer; `report` prints transactions,
 * requests that came earlier than 3.5 characters after the last byte, the least silence (us), and then for each
 * transaction how long it took until the next request, and how long the bits and the two silences take (us). */

#include "line.h"
#include <sched.h>
#include <sys/prctl.h>

#define KEPT 4096

enum { NORMAL, EXCEPTION, HALF };
static int master, manner;
static int64_t char_ns, quiet_ns, line_free_ns, least_quiet_ns = INT64_MAX;
static int64_t began_ns, ideal_ns; /* of the latest transaction */
static int transactions, violations, cycles;
static double took_us[KEPT], ideal_us[KEPT];

static int answer_to(const uint8_t *asked, uint8_t *answer) {
    memcpy(answer, asked, 6);
    if (manner == EXCEPTION) {
        answer[1] |= 0x80;
        answer[2] = 2;
        return with_crc(answer, 3);
    }
    if (asked[1] > 4)
        return with_crc(answer, 6);
    answer[2] = 2 * asked[5];
    memset(answer + 3, 0, answer[2]);
    return with_crc(answer, 3 + answer[2]);
}

static void pace(const uint8_t *answer, int size, int64_t at_ns) {
    for (int sent = 0, piece; sent < size; sent += piece) {
        piece = 1 + rand() % 8;
        if (piece > size - sent)
            piece = size - sent;
        sleep_until(at_ns + (sent + piece) * char_ns);
        if (write(master, answer + sent, piece) != piece)
            exit(2);
    }
}

static void judge(int64_t now_ns) {
    int64_t silence_ns = now_ns - line_free_ns;
    if (line_free_ns && silence_ns < quiet_ns)
        violations++;
    if (line_free_ns && silence_ns < least_quiet_ns)
        least_quiet_ns = silence_ns;
    if (ideal_ns && cycles < KEPT) {
        took_us[cycles] = (now_ns - began_ns) / 1e3;
        ideal_us[cycles++] = ideal_ns / 1e3;
    }
}

static void heard(const uint8_t *asked, int size) {
    uint8_t answer[256];
    int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    judge(now_ns);
    int whole = answer_to(asked, answer), spoken = manner == HALF ? whole / 2 : whole;
    int64_t answer_ns = now_ns + size * char_ns + quiet_ns;
    if (char_ns)
        pace(answer, spoken, answer_ns);
    else if (write(master, answer, spoken) != spoken)
        exit(2);
    line_free_ns = answer_ns + spoken * char_ns;
    began_ns = now_ns;
    ideal_ns = line_free_ns + quiet_ns - now_ns;
    transactions++;
}

static void report(void) {
    printf("%d %d %f", transactions, violations, least_quiet_ns / 1e3);
    for (int i = 0; i < cycles; i++)
        printf(" %f %f", took_us[i], ideal_us[i]);
    printf("\n");
    transactions = violations = cycles = 0;
    least_quiet_ns = INT64_MAX;
    line_free_ns = ideal_ns = 0;
}

static int is_told(void) {
    char line[64];
    if (!fgets(line, sizeof line, stdin))
        return 0;
    if (!strcmp(line, "report\n"))
        report();
    else {
        manner = !strcmp(line, "exception\n") ? EXCEPTION : !strcmp(line, "half\n") ? HALF : NORMAL;
        printf("\n");
    }
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv) {
    uint8_t asked[256];
    if (argc != 2)
        return 1;
    int baud = atoi(argv[1]);
    if (baud) {
        char_ns = 10000000000LL / baud;
        quiet_ns = baud > 19200 ? 1750000 : 35000000000LL / baud;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_RR, &(struct sched_param){1}); /* a line waits for no scheduler; root may have that */
    master = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(master);
    unlockpt(master);
    int kept_open = open_port(ptsname(master)); /* so that it outlives its users */
    printf("%s\n", ptsname(master));
    fflush(stdout);
    for (;;) {
        struct pollfd ready[2] = {{master, POLLIN, 0}, {0, POLLIN, 0}};
        poll(ready, 2, -1);
        if (ready[0].revents & POLLIN)
            heard(asked, read(master, asked, sizeof asked));
        if (ready[1].revents && !is_told())
            return kept_open < 0;
    }
}
