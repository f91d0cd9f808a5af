// The load: N subscribers and one publisher over WebSocket, cheap enough not to be what is measured.
//
// usage: load PORT TOKENS SPEECH [FIRST]   reads commands from stdin, answers each with one line of JSON:
//   connect N                     until there are N subscribers, 32 at a time; seconds it took
//   closed WINDOW PAYLOAD SECONDS WINDOW publications at once; the next when all have received all of them
//   open RATE PAYLOAD SECONDS     RATE publications a second, whatever was received
//   receive N SECONDS             until so many deliveries came of what others publish
//   cut                           all subscribers at once, without a word
//   speak SPEECH                  from now on: those who connect again say something else
//   samples FILE                  the latencies of the last command: microseconds, and how many
// The latency is from the publisher's send, or with a rate from when it was due, to each subscriber's receipt. TOKENS: a file with a token on each line; the
// first is the publisher's. FIRST: the number of the first subscriber, where several loads share the tokens and the
// addresses of 127.0.0.0/8. Client frames are masked with zeros, so that they cost nothing to mask here.
//
// SPEECH, written by speeches.py: what the clients of a protocol say, in lines of a word and hexadecimal bytes.
//   open HEAD                     the request; everybody waits for an empty line behind it
//   opcode N                      of the messages: 1 text, 2 binary
//   say MESSAGE ANSWER            what a subscriber says, and what it waits for; $TOKEN and $NUMBER are its own
//   introduce MESSAGE ANSWER      the same of the publisher
//   publish BEFORE AFTER BETWEEN  what stands around the data; between two in one message, or nothing: a message for each
//   heartbeat MESSAGE ANSWER      a message that is answered, besides the pings of WebSocket
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

enum { MOST = 19000, READ = 1 << 16, FRAME = 4 << 20, BUCKETS = 4000000, BUCKET = 5000, AT_ONCE = 32, STEPS = 4 };  // a bucket: 5 us
static const uint64_t QUIET = 2000000000u;  // nanoseconds

struct text { char bytes[8192]; size_t length; };
struct step { struct text message, answer; };
struct client { int fd; size_t have; char *rest; };

// What the speech says.
static struct text head, before, after, between;
static struct step says[STEPS], introduces[STEPS], heartbeat;
static int say_count, introduce_count, opcode;

static struct client clients[MOST];
static int port, first, made, poll_fd, publisher;
static char **tokens;
static size_t token_count;
static uint64_t received;
static uint32_t histogram[BUCKETS];

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct text unhex(const char *hex) {
    struct text text = {.length = strlen(hex) / 2};
    if (text.length >= sizeof text.bytes) { fprintf(stderr, "a text of the speech is too long\n"); exit(1); }
    for (size_t i = 0; i < text.length; i++) sscanf(hex + 2 * i, "%2hhx", (unsigned char *)&text.bytes[i]);
    return text;
}

static void speak(const char *path) {
    static char line[1 << 16], word[16], one[16385], two[16385], three[16385];
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    say_count = introduce_count = 0;
    while (fgets(line, sizeof line, file)) {
        *one = *two = *three = 0;
        sscanf(line, "%15[a-z] %16384[^ \n]%*1[ ]%16384[^ \n]%*1[ ]%16384[^ \n]", word, one, two, three);
        struct step step = {unhex(strcmp(one, "-") ? one : ""), unhex(strcmp(two, "-") ? two : "")};
        if (!strcmp(word, "open")) head = step.message;
        else if (!strcmp(word, "opcode")) opcode = atoi(one);
        else if (!strcmp(word, "say") && say_count < STEPS) says[say_count++] = step;
        else if (!strcmp(word, "introduce") && introduce_count < STEPS) introduces[introduce_count++] = step;
        else if (!strcmp(word, "heartbeat")) heartbeat = step;
        else if (!strcmp(word, "publish")) { before = step.message; after = step.answer; between = unhex(strcmp(three, "-") ? three : ""); }
        else { fprintf(stderr, "what is %s", line); exit(1); }
    }
    fclose(file);
}

// A frame at `out`; its length.
static size_t framed(char *out, int op, const char *text, size_t length) {
    size_t at = 2;
    out[0] = (char)(0x80 | op);
    if (length < 126) out[1] = (char)(0x80 | length);
    else { out[1] = (char)(0x80 | 126); out[2] = (char)(length >> 8); out[3] = (char)length; at = 4; }
    memset(out + at, 0, 4);
    memcpy(out + at + 4, text, length);
    return at + 4 + length;
}

static void send_frame(int fd, int op, const char *text, size_t length) {
    static char out[READ];
    if (send(fd, out, framed(out, op, text, length), MSG_NOSIGNAL) < 0) die("send");
}

// Reads until `text` was seen.
static void await_text(int fd, const char *text, size_t length) {
    static char in[READ];
    size_t have = 0;
    while (have < sizeof in) {
        ssize_t n = recv(fd, in + have, sizeof in - have, 0);
        if (n <= 0) { fprintf(stderr, "closed while waiting for %.*s: %.*s\n", (int)length, text, (int)have, in); exit(1); }
        have += (size_t)n;
        if (memmem(in, have, text, length)) return;
    }
}

static int dial(int index) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct timeval patience = {60, 0};
    struct linger at_once = {1, 0};  // a reset, so that no address is kept for what was closed
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(first + index) / 8000);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (bind(fd, (void *)&from, sizeof from) || connect(fd, (void *)&to, sizeof to)) die("connect");
    if (send(fd, head.bytes, head.length, MSG_NOSIGNAL) < 0) die("send");
    return fd;
}

// With the client's own token and number in their places.
static void say(int fd, int index, const struct step *step) {
    static char text[READ];
    const char *at = step->message.bytes, *end = at + step->message.length;
    size_t length = 0;
    if (at == end) return;  // it only waits
    while (at < end) {
        size_t left = (size_t)(end - at);
        if (left >= 6 && !memcmp(at, "$TOKEN", 6)) { length += (size_t)sprintf(text + length, "%s", tokens[(size_t)index % token_count]); at += 6; }
        else if (left >= 7 && !memcmp(at, "$NUMBER", 7)) { length += (size_t)sprintf(text + length, "%d", index); at += 7; }
        else text[length++] = *at++;
    }
    send_frame(fd, opcode, text, length);
}

// Some clients at once, as they come after a restart.
static void add(int count) {
    for (int i = 0; i < count; i++) clients[made + i].fd = dial(made + i + 1);
    for (int i = 0; i < count; i++) await_text(clients[made + i].fd, "\r\n\r\n", 4);
    for (int k = 0; k < say_count; k++) {
        for (int i = 0; i < count; i++) say(clients[made + i].fd, first + made + i + 1, &says[k]);
        for (int i = 0; i < count; i++) await_text(clients[made + i].fd, says[k].answer.bytes, says[k].answer.length);
    }
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[made + i]};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, clients[made + i].fd, &event);
    }
    made += count;
}

static void cut(void) {
    for (int i = 0; i < made; i++) {
        close(clients[i].fd);
        free(clients[i].rest);
        clients[i] = (struct client){0};
    }
    made = 0;
}

// Each publication has one stamp, whatever is around it.
static void message(struct client *client, int op, const char *text, size_t length, uint64_t at) {
    if (op == 9) { send_frame(client->fd, 10, text, length); return; }
    if (length == heartbeat.message.length && !memcmp(text, heartbeat.message.bytes, length)) {
        if (heartbeat.answer.length) send_frame(client->fd, opcode, heartbeat.answer.bytes, heartbeat.answer.length);
        return;
    }
    const char *stamp, *end = text + length;
    while ((stamp = memmem(text, (size_t)(end - text), "\"t\":\"", 5))) {
        uint64_t late = (at - strtoull(stamp + 5, NULL, 10)) / BUCKET;
        histogram[late < BUCKETS ? late : BUCKETS - 1]++;
        received++;
        text = stamp + 5;
    }
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
        message(client, p[0] & 15, (char *)p + head, length, at);
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
        static char drop[READ];  // answers, and its own publications; a heartbeat comes alone
        ssize_t got = recv(publisher, drop, sizeof drop, 0);
        if (got <= 0) { fprintf(stderr, "the publisher was closed\n"); exit(1); }
        struct client client = {.fd = publisher};
        if ((drop[0] & 15) == 9 || (size_t)got == heartbeat.message.length + 2) {
            message(&client, drop[0] & 15, drop + 2, (size_t)got - 2, 0);
        }
    }
}

// at: when they are due; 0: now.
static void publish(int window, int payload, uint64_t at) {
    static char text[READ], out[2 * READ];
    size_t length = 0, sent = 0;
    for (int i = 0; i < window; i++) {
        memcpy(text + length, before.bytes, before.length);
        length += before.length;
        size_t begin = length;
        length += (size_t)sprintf(text + length, "{\"t\":\"%019llu\",\"p\":\"", (unsigned long long)(at ? at : now()));
        while (length - begin < (size_t)payload - 2) text[length++] = 'x';
        length += (size_t)sprintf(text + length, "\"}");
        memcpy(text + length, after.bytes, after.length);
        length += after.length;
        if (between.length && i < window - 1) {
            memcpy(text + length, between.bytes, between.length);
            length += between.length;
            continue;
        }
        sent += framed(out + sent, opcode, text, length);
        length = 0;
    }
    for (size_t done = 0; done < sent;) {
        ssize_t n = send(publisher, out + done, sent - done, MSG_NOSIGNAL);
        if (n < 0) die("send");
        done += (size_t)n;
    }
}

static double quantile(double share) {
    uint64_t all = 0, sum = 0;
    for (int i = 0; i < BUCKETS; i++) all += histogram[i];
    for (int i = 0; i < BUCKETS; i++) if ((sum += histogram[i]) >= share * (double)all) return i * (BUCKET / 1e6);
    return 0;
}

static void report(uint64_t began, uint64_t published) {
    printf("{\"seconds\":%.6f,\"published\":%llu,\"deliveries\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
           (double)(now() - began) / 1e9, (unsigned long long)published, (unsigned long long)received, quantile(0.5),
           quantile(0.99), quantile(1));
    fflush(stdout);
}

static void closed(int window, int payload, double seconds) {
    uint64_t began = now(), published = 0;
    while (now() - began < (uint64_t)(seconds * 1e9)) {
        publish(window, payload, 0);
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

static void receive(uint64_t number, double seconds) {
    uint64_t began = now();
    while (received < number && now() - began < (uint64_t)(seconds * 1e9)) wait_input(10);
    report(began, 0);
}

static void samples(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) die(path);
    for (int i = 0; i < BUCKETS; i++) if (histogram[i]) fprintf(file, "%d %u\n", i * (BUCKET / 1000), histogram[i]);
    fclose(file);
    printf("{}\n");
    fflush(stdout);
}

static void open_loop(double rate, int payload, double seconds) {
    uint64_t began = now(), published = 0;
    while (now() - began < (uint64_t)(seconds * 1e9)) {
        uint64_t due = (uint64_t)((double)(now() - began) / 1e9 * rate) + 1;
        // What is late has the time at which it was due: a server that keeps us waiting looks no better for it.
        for (; published < due; published++) publish(1, payload, began + (uint64_t)((double)published / rate * 1e9));
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

static void meet(void) {
    publisher = dial(0);
    await_text(publisher, "\r\n\r\n", 4);
    for (int k = 0; k < introduce_count; k++) {
        say(publisher, 0, &introduces[k]);
        await_text(publisher, introduces[k].answer.bytes, introduces[k].answer.length);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, publisher, &event);
}

static void obey(const char *line) {
    int a, b;
    double rate, seconds;
    char path[1024];
    uint64_t began = now();
    if (sscanf(line, "samples %1023s", path) == 1) { samples(path); return; }
    received = 0;
    memset(histogram, 0, sizeof histogram);
    if (sscanf(line, "connect %d", &a) == 1) {
        if (a > MOST) a = MOST;
        while (made < a) add(a - made < AT_ONCE ? a - made : AT_ONCE);
        report(began, 0);
    }
    else if (sscanf(line, "closed %d %d %lf", &a, &b, &seconds) == 3) closed(a, b, seconds);
    else if (sscanf(line, "open %lf %d %lf", &rate, &b, &seconds) == 3) open_loop(rate, b, seconds);
    else if (sscanf(line, "receive %d %lf", &a, &seconds) == 2) receive((uint64_t)a, seconds);
    else if (sscanf(line, "speak %1023s", path) == 1) { speak(path); report(began, 0); }
    else if (!strcmp(line, "cut\n")) { cut(); report(began, 0); }
    else { fprintf(stderr, "what is %s", line); exit(2); }
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) { fprintf(stderr, "usage: load PORT TOKENS SPEECH [FIRST]\n"); return 2; }
    port = atoi(argv[1]);
    first = argc == 5 ? atoi(argv[4]) : 0;
    poll_fd = epoll_create1(0);
    static char line[2048];
    size_t room = 0;
    FILE *file = fopen(argv[2], "r");
    if (!file) die(argv[2]);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (token_count == room) tokens = realloc(tokens, (room = room * 2 + 1024) * sizeof *tokens);
        tokens[token_count++] = strdup(line);
    }
    speak(argv[3]);
    meet();
    while (command(line, sizeof line)) obey(line);
    return 0;
}
