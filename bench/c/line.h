/* What the C programs here share: clocks, a raw serial port, the Modbus checksum, and the dialogue with the benchmark. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define REGISTERS 60
#define ANSWER (5 + 2 * REGISTERS)

static inline int64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void sleep_until(int64_t when_ns) {
    struct timespec t = {when_ns / 1000000000, when_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

/* The usual way: a table of 256, a byte at a time. */
static inline uint16_t crc16(const uint8_t *data, int size) {
    static uint16_t table[256];
    if (!table[1])
        for (int byte = 0; byte < 256; byte++) {
            uint16_t crc = byte;
            for (int bit = 0; bit < 8; bit++)
                crc = crc & 1 ? crc >> 1 ^ 0xA001 : crc >> 1;
            table[byte] = crc;
        }
    uint16_t crc = 0xFFFF;
    for (int i = 0; i < size; i++)
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF];
    return crc;
}

static inline int with_crc(uint8_t *frame, int size) {
    uint16_t crc = crc16(frame, size);
    frame[size] = crc & 0xFF;
    frame[size + 1] = crc >> 8;
    return size + 2;
}

static inline int open_port(const char *path) {
    struct termios settings;
    int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || tcgetattr(fd, &settings) < 0) {
        perror(path);
        exit(1);
    }
    cfmakeraw(&settings);
    tcsetattr(fd, TCSANOW, &settings);
    return fd;
}

static inline int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

/* What `count` calls (at most 100,000) cost: the median of their microseconds; CPU microseconds and sleeps of each. */
static inline void measure(void (*call)(void), int count) {
    static double times_us[100000];
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < count; i++) {
        int64_t began = clock_ns(CLOCK_MONOTONIC);
        call();
        times_us[i] = (clock_ns(CLOCK_MONOTONIC) - began) / 1e3;
    }
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    getrusage(RUSAGE_SELF, &after);
    qsort(times_us, count, sizeof *times_us, by_size);
    printf("%f %f %f\n", times_us[count / 2], cpu / 1e3 / count, (double)(after.ru_nvcsw - before.ru_nvcsw) / count);
    fflush(stdout);
}

/* Each line on stdin is a number of calls to measure. */
static inline void serve(void (*call)(void)) {
    char line[64];
    while (fgets(line, sizeof line, stdin))
        measure(call, atoi(line));
}
