/* The least that an extender can do: one thread, epoll, one answer for every complete request.
 *
 * Usage: null_server ANSWER_FILE. Listens on a free port of the loopback interface and prints it. What is between the
 * client and this server (kernel, loopback, waking up) is between the client and any other server as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 1024, ROOM = 1 << 20 };

struct connection {
    char *buffer;
    size_t filled;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Length of the first request in the buffer, 0 while it is not complete. */
static size_t complete(const struct connection *connection) {
    const char *end = memmem(connection->buffer, connection->filled, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - connection->buffer) + 4;
    const char *field = memmem(connection->buffer, head, "Content-Length: ", 16);
    size_t whole = head + (field ? strtoul(field + 16, NULL, 10) : 0);
    return connection->filled >= whole ? whole : 0;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    static char answer[65536];
    FILE *file = fopen(arguments[1], "rb");
    if (!file) fail(arguments[1]);
    size_t answer_size = fread(answer, 1, sizeof answer, file);
    fclose(file);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 128)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    static struct connection connections[CONNECTIONS];
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int found = epoll_wait(poll, ready, 64, -1);
        for (int at = 0; at < found; at++) {
            int descriptor = ready[at].data.fd;
            if (descriptor == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (client < 0 || client >= CONNECTIONS) fail("accept");
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                if (!connections[client].buffer) connections[client].buffer = malloc(ROOM);
                connections[client].filled = 0;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
                continue;
            }
            struct connection *connection = &connections[descriptor];
            ssize_t got = read(descriptor, connection->buffer + connection->filled, ROOM - connection->filled);
            if (got <= 0) {
                close(descriptor);
                continue;
            }
            connection->filled += (size_t)got;
            for (size_t whole; (whole = complete(connection)) > 0;) {
                memmove(connection->buffer, connection->buffer + whole, connection->filled - whole);
                connection->filled -= whole;
                if (write(descriptor, answer, answer_size) != (ssize_t)answer_size) fail("write");
            }
        }
    }
}
