/* Sends prepared requests over one kept connection, one after the other, and says how long each answer took.
 *
 * Usage: load PORT REQUESTS_FILE COUNT RATE. The file holds requests as they go over the wire, each after its length
 * (32 bits, little endian); they are sent in turn until COUNT have been. RATE: requests a second, evenly spaced, with
 * the connection idle in between; 0: each as soon as the last one is answered. Prints nanoseconds from the first byte
 * sent to the last byte received, one line each. Any status but 200 is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void receive(int connection) {
    static char buffer[1 << 20];
    size_t filled = 0, whole = 0;
    while (!whole || filled < whole) {
        ssize_t got = read(connection, buffer + filled, sizeof buffer - filled - 1);
        if (got <= 0) fail("read");
        filled += (size_t)got;
        buffer[filled] = 0;
        char *end = whole ? NULL : strstr(buffer, "\r\n\r\n");
        if (!end) continue;
        if (strncmp(buffer, "HTTP/1.1 200", 12)) {
            fprintf(stderr, "answered: %.300s\n", buffer);
            exit(1);
        }
        char *field = strcasestr(buffer, "content-length: ");
        if (!field || field > end) {
            fprintf(stderr, "an answer without content-length\n");
            exit(1);
        }
        whole = (size_t)(end - buffer) + 4 + strtoul(field + 16, NULL, 10);
    }
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    FILE *file = fopen(arguments[2], "rb");
    if (!file) fail(arguments[2]);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *requests = malloc(size);
    if (fread(requests, 1, size, file) != size) fail("fread");
    fclose(file);
    long wanted = atol(arguments[3]);
    double rate = atof(arguments[4]);
    int64_t *nanoseconds = malloc((size_t)wanted * sizeof *nanoseconds);

    int connection = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

    int64_t first = now();
    size_t at = 0;
    for (long done = 0; done < wanted; done++) {
        uint32_t length;
        memcpy(&length, requests + at, sizeof length);
        const char *request = requests + at + sizeof length;
        at += sizeof length + length;
        if (at >= size) at = 0;
        if (rate > 0) {
            int64_t due = first + (int64_t)(1e9 * (double)done / rate);
            struct timespec time = {due / 1000000000LL, due % 1000000000LL};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        }
        int64_t began = now();
        for (size_t sent = 0; sent < length;) {
            ssize_t more = write(connection, request + sent, length - sent);
            if (more <= 0) fail("write");
            sent += (size_t)more;
        }
        receive(connection);
        nanoseconds[done] = now() - began;
    }
    for (long done = 0; done < wanted; done++) printf("%lld\n", (long long)nanoseconds[done]);
    return 0;
}
