// The load: N subscribers and one publisher over WebSocket, cheap enough not to be what is measured.
//
// usage: load PORT TOKENS   reads commands from stdin, answers each with one line of JSON:
//   connect N                     until there are N subscribers, 32 at a time; seconds it took
//   closed WINDOW PAYLOAD SECONDS WINDOW publications in one message; the next when all have received all of them
//   open RATE PAYLOAD SECONDS     RATE publications a second, whatever was received
// The latency is from the publisher's send to each subscriber's receipt. TOKENS: a file with a token on each line; the
// first is the publisher's. Client frames are masked with zeros, so that they cost nothing to mask here.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 19000, READ = 1 << 16, FRAME = 4 << 20, BUCKETS = 2000000, AT_ONCE = 32 };  // a bucket is 5 us
static const uint64_t QUIET = 2000000000u;  // nanoseconds

struct client { int fd; size_t have; char *rest; };
static struct client clients[MOST];
static int port, made, poll_fd, publisher, next_id = 10;
static char **tokens;
static uint64_t received;
static uint32_t histogram[BUCKETS];

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void send_text(int fd, const char *text, size_t length) {
    static char out[READ];
    size_t head = 2;
    out[0] = (char)0x81;
    if (length < 126) out[1] = (char)(0x80 | length);
    else { out[1] = (char)(0x80 | 126); out[2] = (char)(length >> 8); out[3] = (char)length; head = 4; }
    memset(out + head, 0, 4);
    memcpy(out + head + 4, text, length);
    if (send(fd, out, head + 4 + length, MSG_NOSIGNAL) < 0) die("send");
}

// Reads until `text` was seen.
static void await_text(int fd, const char *text) {
    static char in[READ];
    size_t have = 0;
    while (have < sizeof in) {
        ssize_t n = recv(fd, in + have, sizeof in - have, 0);
        if (n <= 0) { fprintf(stderr, "closed while waiting for %s: %.*s\n", text, (int)have, in); exit(1); }
        have += (size_t)n;
        if (memmem(in, have, text, strlen(text))) return;
    }
}

static int dial(int index) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)index / 8000);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (void *)&from, sizeof from) || connect(fd, (void *)&to, sizeof to)) die("connect");
    char text[512];
    int n = sprintf(text, "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", port);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) < 0) die("send");
    return fd;
}

static void introduce(int fd, int index, int subscribe) {
    char text[4096];
    int n = snprintf(text, sizeof text, "{\"id\":1,\"connect\":{\"token\":\"%s\"}}%s", tokens[index],
                     subscribe ? "\n{\"id\":2,\"subscribe\":{\"channel\":\"bench\"}}" : "");
    send_text(fd, text, (size_t)n);
}

// Some clients at once, as they come after a restart.
static void add(int count) {
    for (int i = 0; i < count; i++) clients[made + i].fd = dial(made + i + 1);
    for (int i = 0; i < count; i++) await_text(clients[made + i].fd, "\r\n\r\n");
    for (int i = 0; i < count; i++) introduce(clients[made + i].fd, made + i + 1, 1);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[made + i]};
        await_text(clients[made + i].fd, "\"id\":2");
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, clients[made + i].fd, &event);
    }
    made += count;
}

static void message(struct client *client, const char *text, size_t length, uint64_t at) {
    if (length == 2) { send_text(client->fd, "{}", 2); return; }
    if (length < 8 || memcmp(text, "{\"push\"", 7)) return;
    const char *stamp = memmem(text, length, "\"t\":\"", 5);
    uint64_t lines = 1;
    for (const char *p = text; (p = memchr(p, '\n', length - (size_t)(p - text))); p++) lines++;
    received += lines;
    if (!stamp) return;
    uint64_t late = (at - strtoull(stamp + 5, NULL, 10)) / 5000;
    histogram[late < BUCKETS ? late : BUCKETS - 1] += (uint32_t)lines;
}

static void input(struct client *client) {
    static char data[FRAME + READ];
    if (client->have > FRAME) { fprintf(stderr, "a frame is too long\n"); exit(1); }
    memcpy(data, client->rest, client->have);
    ssize_t n = recv(client->fd, data + client->have, READ, 0);
    if (n <= 0) { fprintf(stderr, "a subscriber was closed\n"); exit(1); }
    size_t have = client->have + (size_t)n, start = 0;
    uint64_t at = now();
    while (have - start >= 2) {
        unsigned char *p = (unsigned char *)data + start;
        size_t head = 2, length = p[1];
        if (length == 126) { if (have - start < 4) break; head = 4; length = (size_t)p[2] << 8 | p[3]; }
        else if (length == 127) {  // the publications of a long turn, in one frame
            if (have - start < 10) break;
            head = 10; length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | p[i];
        }
        if (have - start < head + length) break;
        if ((p[0] & 15) == 1) message(client, (char *)p + head, length, at);
        start += head + length;
    }
    client->have = have - start;
    free(client->rest);
    client->rest = NULL;
    if (client->have) { client->rest = malloc(client->have); memcpy(client->rest, data + start, client->have); }
}

static void wait_input(int milliseconds) {
    struct epoll_event events[256];
    int n = epoll_wait(poll_fd, events, 256, milliseconds);
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr) { input(events[i].data.ptr); continue; }
        char drop[READ];
        if (recv(publisher, drop, sizeof drop, 0) <= 0) { fprintf(stderr, "the publisher was closed\n"); exit(1); }
        if (memmem(drop, sizeof drop > 4 ? 4 : 0, "{}", 2)) send_text(publisher, "{}", 2);
    }
}

static void publish(int window, int payload) {
    static char text[READ];
    size_t length = 0;
    for (int i = 0; i < window; i++) {
        if (i) text[length++] = '\n';
        length += (size_t)sprintf(text + length, "{\"id\":%d,\"publish\":{\"channel\":\"bench\",\"data\":", next_id++);
        size_t begin = length;
        length += (size_t)sprintf(text + length, "{\"t\":\"%019llu\",\"p\":\"", (unsigned long long)now());
        while (length - begin < (size_t)payload - 2) text[length++] = 'x';
        length += (size_t)sprintf(text + length, "\"}}}");
    }
    send_text(publisher, text, length);
}

static double quantile(double share) {
    uint64_t all = 0, sum = 0;
    for (int i = 0; i < BUCKETS; i++) all += histogram[i];
    for (int i = 0; i < BUCKETS; i++) if ((sum += histogram[i]) >= share * (double)all) return i * 0.005;
    return 0;
}

static void report(uint64_t began, uint64_t published) {
    printf("{\"seconds\":%.6f,\"published\":%llu,\"deliveries\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n",
           (double)(now() - began) / 1e9, (unsigned long long)published, (unsigned long long)received, quantile(0.5), quantile(0.99));
    fflush(stdout);
}

static void closed(int window, int payload, double seconds) {
    uint64_t began = now(), published = 0;
    while (now() - began < (uint64_t)(seconds * 1e9)) {
        publish(window, payload);
        published += (uint64_t)window;
        while (received < published * (uint64_t)made) wait_input(1000);
    }
    report(began, published);
}

// What is under way comes, until nothing has come for QUIET: how often that wakes this process says nothing about time.
static void await_rest(uint64_t published) {
    uint64_t before = received, since = now();
    while (received < published * (uint64_t)made && now() - since < QUIET) {
        wait_input(1);
        if (received != before) { before = received; since = now(); }
    }
}

static void open_loop(double rate, int payload, double seconds) {
    uint64_t began = now(), published = 0;
    while (now() - began < (uint64_t)(seconds * 1e9)) {
        uint64_t due = (uint64_t)((double)(now() - began) / 1e9 * rate) + 1;
        for (; published < due; published++) publish(1, payload);
        wait_input(1);
    }
    await_rest(published);
    report(began, published);
}

// The next command; heartbeats are answered meanwhile.
static char *command(char *line, int size) {
    struct pollfd wait[2] = {{.fd = 0, .events = POLLIN}, {.fd = poll_fd, .events = POLLIN}};
    for (;;) {
        poll(wait, 2, -1);
        if (wait[0].revents) return fgets(line, size, stdin);
        wait_input(0);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: load PORT TOKENS\n"); return 2; }
    port = atoi(argv[1]);
    poll_fd = epoll_create1(0);
    tokens = calloc(MOST + 1, sizeof *tokens);
    FILE *file = fopen(argv[2], "r");
    if (!file) die(argv[2]);
    char line[2048];
    for (int i = 0; i <= MOST && fgets(line, sizeof line, file); i++) { line[strcspn(line, "\n")] = 0; tokens[i] = strdup(line); }
    publisher = dial(0);
    await_text(publisher, "\r\n\r\n");
    introduce(publisher, 0, 0);
    await_text(publisher, "\"id\":1");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, publisher, &event);
    while (command(line, sizeof line)) {
        int a, b;
        double rate, seconds;
        received = 0;
        memset(histogram, 0, sizeof histogram);
        uint64_t began = now();
        if (sscanf(line, "connect %d", &a) == 1) {
            if (a > MOST) a = MOST;
            while (made < a) add(a - made < AT_ONCE ? a - made : AT_ONCE);
            report(began, 0);
        }
        else if (sscanf(line, "closed %d %d %lf", &a, &b, &seconds) == 3) closed(a, b, seconds);
        else if (sscanf(line, "open %lf %d %lf", &rate, &b, &seconds) == 3) open_loop(rate, b, seconds);
        else { fprintf(stderr, "what is %s", line); return 2; }
    }
    return 0;
}
