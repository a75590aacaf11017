/* Keeps a POP3 server busy at as little cost as possible: one thread, epoll, no memory per reply.
 *
 * saturate login PORT CONNECTIONS SECONDS USERS
 *     sessions of login, STAT and QUIT, each user in turn
 * saturate retr PORT CONNECTIONS SECONDS MESSAGES USER OCTETS
 *     RETR of each message in turn, of so many octets each with the end; the kernel drops them
 *
 * Users are user0000@bench.example and so on, the password is pw- and the part before the @.
 * Prints sessions or messages, their octets, and the seconds: by the clock, and of CPU.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { GREETING, USER, PASS, STAT, QUIT, END, RETR };

struct line {
    int socket;
    enum state state;
    int user;
    int message; /* the next one */
    int asked; /* whether there was one before */
    long left; /* octets of a message and its end that are still to come */
    char tail[5]; /* the last of these */
    char reply[513];
    int got;
};

static int port, connections, users, messages, poll_fd, is_retr, open_now;
static const char *only_user;
static long done, octets, size;
static double end;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void say(struct line *line, enum state next, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (send(line->socket, text, length, MSG_NOSIGNAL) != length)
        fail("send: %s", strerror(errno));
    line->state = next;
}

static void begin(struct line *line, int user)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    line->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (line->socket < 0 || connect(line->socket, (void *)&address, sizeof address))
        fail("connect: %s", strerror(errno));
    setsockopt(line->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    line->state = GREETING;
    line->user = user;
    line->got = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = line};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, line->socket, &event))
        fail("epoll_ctl: %s", strerror(errno));
    open_now++;
}

static void close_line(struct line *line)
{
    close(line->socket);
    open_now--;
}

static void retrieve(struct line *line)
{
    if (now() >= end && line->asked) {
        close_line(line);
        return;
    }
    line->asked = 1;
    say(line, RETR, "RETR %d\r\n", line->message + 1);
    line->message = (line->message + 1) % messages;
}

/* A whole status line has come: say what is next. */
static void answered(struct line *line)
{
    char name[32];
    if (strncmp(line->reply, "+OK", 3))
        fail("unexpected reply: %s", line->reply);
    if (is_retr)
        snprintf(name, sizeof name, "%s", only_user);
    else
        snprintf(name, sizeof name, "user%04d", line->user);
    switch (line->state) {
    case GREETING: say(line, USER, "USER %s@bench.example\r\n", name); break;
    case USER: say(line, PASS, "PASS pw-%s\r\n", name); break;
    case PASS:
        if (is_retr)
            retrieve(line);
        else
            say(line, STAT, "STAT\r\n");
        break;
    case STAT: say(line, QUIT, "QUIT\r\n"); break;
    default: line->state = END;
    }
}

/* Drop octets of a message, but look at the last five. */
static int drop(struct line *line)
{
    while (line->left > 0) {
        ssize_t count;
        if (line->left > 5)
            count = recv(line->socket, NULL, line->left - 5, MSG_TRUNC | MSG_DONTWAIT);
        else
            count = recv(line->socket, line->tail + 5 - line->left, line->left, MSG_DONTWAIT);
        if (count < 0 && errno == EAGAIN)
            return 0;
        if (count <= 0)
            fail("the connection ended within a message");
        line->left -= count;
        octets += count;
    }
    if (memcmp(line->tail, "\r\n.\r\n", 5))
        fail("a message did not end where it should");
    done++;
    retrieve(line);
    return 1;
}

static void take(struct line *line)
{
    if (line->left) {
        drop(line);
        return;
    }
    /* A status line, and of a message nothing more than what came with it. */
    ssize_t count = recv(line->socket, line->reply + line->got, 512 - line->got,
                         MSG_DONTWAIT | (line->state == RETR ? MSG_PEEK : 0));
    if (count < 0 && errno == EAGAIN)
        return;
    if (count < 0)
        fail("recv: %s", strerror(errno));
    if (count == 0) {
        if (line->state != END)
            fail("the connection ended early");
        int next = (line->user + connections) % users;
        close_line(line);
        done++;
        if (now() < end)
            begin(line, next);
        return;
    }
    int before = line->got;
    line->got += count;
    line->reply[line->got] = 0;
    char *line_end = strstr(line->reply, "\r\n");
    if (line->state == RETR) {
        int whole = line_end ? line_end + 2 - line->reply : line->got;
        line->got = line_end ? 0 : whole;
        if (recv(line->socket, line->reply + before, whole - before, 0) != whole - before)
            fail("recv: short");
        if (line_end) {
            if (strncmp(line->reply, "+OK", 3))
                fail("unexpected reply: %s", line->reply);
            line->left = size;
            drop(line);
        }
    } else if (line_end) {
        line->got = 0;
        answered(line);
    }
}

int main(int count, char **arguments)
{
    if (count < 6 || (!strcmp(arguments[1], "retr") && count < 8))
        fail("too few arguments");
    is_retr = !strcmp(arguments[1], "retr");
    port = atoi(arguments[2]);
    connections = atoi(arguments[3]);
    if (is_retr) {
        messages = atoi(arguments[5]);
        only_user = arguments[6];
        size = atol(arguments[7]);
        users = 1;
    } else
        users = atoi(arguments[5]);
    struct line *lines = calloc(connections, sizeof *lines);
    double begun = now();
    end = begun + atof(arguments[4]);
    poll_fd = epoll_create1(0);
    for (int number = 0; number < connections; number++)
        begin(&lines[number], number % users);
    while (open_now) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll_fd, events, 64, 20000);
        if (ready == 0)
            fail("no reply within 20 s");
        for (int number = 0; number < ready; number++)
            take(events[number].data.ptr);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec
        + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("%ld %ld %.6f %.6f\n", done, octets, now() - begun, cpu);
    return 0;
}
