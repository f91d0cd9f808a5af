// The limit: what a fan-out costs when nothing but send() is done. It speaks just enough WebSocket for load.c.
//
// A client that sends "subscribe" is a subscriber; a frame with W "publish" commands makes one frame of W lines, which
// is sent to each subscriber with one send().  Build: cc -O2 -o limit limit.c   Run: ./limit PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 20000, READ = 1 << 16 };

static int subscribers[CLIENTS], count;
static char frame[READ * 2];

static void die(const char *what) { perror(what); exit(1); }

static size_t header(char *at, size_t length) {
    at[0] = (char)0x81;
    if (length < 126) { at[1] = (char)length; return 2; }
    at[1] = 126; at[2] = (char)(length >> 8); at[3] = (char)length;
    return 4;
}

static void say(int fd, const char *text) {
    char out[256];
    size_t length = strlen(text), head = header(out, length);
    memcpy(out + head, text, length);
    if (send(fd, out, head + length, MSG_NOSIGNAL) < 0 && errno != EPIPE) die("send");
}

static void fan_out(const char *payload, size_t size) {
    static char lines[READ];
    size_t length = 0;
    for (const char *line = payload, *end = payload + size; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        const char *data = memmem(line, (size_t)(stop - line), "\"data\":", 7);
        if (length) lines[length++] = '\n';
        length += (size_t)sprintf(lines + length, "{\"push\":{\"channel\":\"bench\",\"pub\":{%.*s", (int)(stop - data - 2), data);
        length += (size_t)sprintf(lines + length, ",\"offset\":1000000}}}");
        line = stop + 1;
    }
    size_t head = header(frame, length);
    memcpy(frame + head, lines, length);
    for (int i = 0; i < count; i++) send(subscribers[i], frame, head + length, MSG_NOSIGNAL);
}

static void input(int fd) {
    static char data[READ];
    ssize_t n = recv(fd, data, sizeof data - 1, 0);
    if (n <= 0) {
        close(fd);
        for (int i = 0; i < count; i++) if (subscribers[i] == fd) { subscribers[i] = subscribers[--count]; break; }
        return;
    }
    data[n] = 0;
    if (!memcmp(data, "GET ", 4)) {
        const char *answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0) die("send");
        return;
    }
    size_t head = 2 + 4 + ((data[1] & 127) == 126 ? 2 : 0);
    if (memmem(data, (size_t)n, "\"publish\"", 9)) { fan_out(data + head, (size_t)n - head); return; }
    if (memmem(data, (size_t)n, "\"subscribe\"", 11)) subscribers[count++] = fd;
    say(fd, "{\"id\":1}\n{\"id\":2}");
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: limit PORT\n"); return 2; }
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (void *)&address, sizeof address) || listen(listening, 2048)) die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listening) { input(events[i].data.fd); continue; }
            int fd = accept(listening, NULL, NULL);
            if (fd < 0) die("accept");
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.data.fd = fd;
            epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
