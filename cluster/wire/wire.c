/* Frames and the sockets that carry them. The pure half stands first; the other half only moves bytes. */
#include "cluster/wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"

enum { CHUNK = 64 << 10 };

static void put16(unsigned char *to, uint16_t v)
{
    to[0] = (unsigned char)v;
    to[1] = (unsigned char)(v >> 8);
}

static void put32(unsigned char *to, uint32_t v)
{
    put16(to, (uint16_t)v);
    put16(to + 2, (uint16_t)(v >> 16));
}

static uint32_t get16(const unsigned char *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }
static uint32_t get32(const unsigned char *at) { return get16(at) | get16(at + 2) << 16; }

static uint32_t checksum(const unsigned char head[WIRE_HEAD], const void *body, size_t n)
{
    uint32_t crc = hash_crc32(0, head, 12);

    return n > 0 ? hash_crc32(crc, body, n) : crc;
}

static void encode(str *to, unsigned char version, uint16_t type, const void *body, size_t n)
{
    unsigned char head[WIRE_HEAD] = {'c', 'f', 'w', version};

    CHECK(type > 0 && n <= WIRE_MOST);
    put16(head + 4, type);
    put32(head + 8, (uint32_t)n);
    put32(head + 12, checksum(head, body, n));
    str_put(to, head, sizeof head);
    if (n > 0)
        str_put(to, body, n);
}

void wire_encode(str *to, uint16_t type, const void *body, size_t n) { encode(to, WIRE_VERSION, type, body, n); }

/* As much of a head as is there, so that a stranger is turned away at his first wrong byte. */
static int check_head(const unsigned char *at, size_t n, unsigned char version, err *e)
{
    if (memcmp(at, "cfw", n < 3 ? n : 3) != 0)
        return err_set(e, ERR_PEER, "the other side does not speak this protocol");
    if (n > 3 && at[3] != version)
        return err_set(e, ERR_PEER, "the other side speaks protocol version %d, this program %d", at[3], version);
    if (n >= 8 && (get16(at + 4) == 0 || get16(at + 6) != 0))
        return err_set(e, ERR_PEER, "a frame of no known kind");
    if (n >= 12 && get32(at + 8) > WIRE_MOST)
        return err_set(e, ERR_PEER, "a frame of %u bytes; at most %d are taken", get32(at + 8), WIRE_MOST);
    return 0;
}

static int decode(const void *bytes, size_t n, unsigned char version, wire_frame *out, size_t *used, err *e)
{
    const unsigned char *at = bytes;
    size_t body;

    *out = (wire_frame){0};
    *used = 0;
    if (n == 0)
        return 0;
    TRY(check_head(at, n, version, e));
    if (n < WIRE_HEAD || n - WIRE_HEAD < (body = get32(at + 8)))
        return 0;
    if (checksum(at, at + WIRE_HEAD, body) != get32(at + 12))
        return err_set(e, ERR_PEER, "a frame damaged on its way");
    *out = (wire_frame){(uint16_t)get16(at + 4), (const char *)at + WIRE_HEAD, body};
    *used = WIRE_HEAD + body;
    return 0;
}

int wire_decode(const void *bytes, size_t n, wire_frame *out, size_t *used, err *e)
{
    return decode(bytes, n, WIRE_VERSION, out, used, e);
}

typedef struct { hash_mac *key; uint64_t n; } seal; /* n: frames so far */

struct wire {
    int fd;
    str in, out;
    size_t taken, sent; /* how much of in and out is behind us */
    seal sealing, checking; /* of what we say and hear; key NULL: not sealed */
};

wire *wire_new(int fd)
{
    wire *w = NEW(wire);
    int flags = fcntl(fd, F_GETFL);

    CHECK(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    w->fd = fd;
    return w;
}

void wire_free(wire *w)
{
    if (!w)
        return;
    close(w->fd);
    hash_mac_free(w->sealing.key);
    hash_mac_free(w->checking.key);
    str_free(&w->in);
    str_free(&w->out);
    free(w);
}

int wire_fd(const wire *w) { return w->fd; }
size_t wire_waiting(const wire *w) { return w->out.n - w->sent; }

static void drop_front(str *s, size_t *behind)
{
    if (*behind > 0) {
        memmove(s->at, s->at + *behind, s->n - *behind);
        s->n -= *behind;
        *behind = 0;
    }
}

/* ---- sealing ---- */

int wire_nonce(char out[WIRE_NONCE], err *e)
{
    unsigned char bytes[(WIRE_NONCE - 1) / 2];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return err_set(e, ERR_IO, "no random numbers: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

/* Who speaks comes first: so the two directions have different keys. */
static hash_mac *key_of(const char *secret, const char *speaker, const char *hearer)
{
    static const char what[] = "conceptfarm link";
    hash_mac *m = hash_mac_new(secret, strlen(secret));
    unsigned char key[HASH_MAC];

    hash_mac_add(m, what, sizeof what);
    hash_mac_add(m, speaker, strlen(speaker));
    hash_mac_add(m, hearer, strlen(hearer));
    hash_mac_end(m, key);
    hash_mac_free(m);
    return hash_mac_new(key, sizeof key);
}

int wire_seal(wire *w, const char *secret, const char *mine, const char *theirs, err *e)
{
    CHECK(!w->sealing.key && strlen(mine) == WIRE_NONCE - 1);
    if (strlen(theirs) != WIRE_NONCE - 1 || strcmp(mine, theirs) == 0)
        return err_set(e, ERR_PEER, "a nonce that is none");
    w->sealing.key = key_of(secret, mine, theirs);
    w->checking.key = key_of(secret, theirs, mine);
    return 0;
}

static void mac_of(seal *s, const void *frame, size_t n, unsigned char out[HASH_MAC])
{
    unsigned char number[8];

    put32(number, (uint32_t)s->n);
    put32(number + 4, (uint32_t)(s->n >> 32));
    s->n++;
    hash_mac_add(s->key, number, sizeof number);
    hash_mac_add(s->key, frame, n);
    hash_mac_end(s->key, out);
}

static void post_sealed(wire *w, uint16_t type, const void *body, size_t n)
{
    unsigned char mac[HASH_MAC];
    size_t from = w->out.n;

    encode(&w->out, WIRE_SEALED, type, body, n);
    mac_of(&w->sealing, w->out.at + from, w->out.n - from, mac);
    str_put(&w->out, mac, sizeof mac);
}

/* In the same time whether the first byte differs or the last. */
static bool same_mac(const unsigned char *a, const unsigned char *b)
{
    unsigned diff = 0;

    for (int i = 0; i < HASH_MAC; i++)
        diff |= (unsigned)(a[i] ^ b[i]);
    return diff == 0;
}

static int next_sealed(wire *w, wire_frame *out, size_t *used, err *e)
{
    const char *at = w->in.at + w->taken;
    size_t n = w->in.n - w->taken;
    unsigned char mac[HASH_MAC];

    TRY(decode(at, n, WIRE_SEALED, out, used, e));
    if (*used == 0 || n - *used < HASH_MAC) { /* nothing of it is believed before all is there */
        *out = (wire_frame){0};
        *used = 0;
        return 0;
    }
    mac_of(&w->checking, at, *used, mac);
    if (!same_mac(mac, (const unsigned char *)at + *used)) {
        *out = (wire_frame){0};
        return err_set(e, ERR_PEER, "the other side does not know the farm's token, or somebody altered what it said");
    }
    *used += HASH_MAC;
    return 0;
}

void wire_post(wire *w, uint16_t type, const void *body, size_t n)
{
    if (w->sent > CHUNK)
        drop_front(&w->out, &w->sent);
    if (w->sealing.key)
        post_sealed(w, type, body, n);
    else
        wire_encode(&w->out, type, body, n);
}

int wire_flush(wire *w, err *e)
{
    while (w->sent < w->out.n) {
        ssize_t k = send(w->fd, w->out.at + w->sent, w->out.n - w->sent, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return 0;
        if (k < 0)
            return err_set(e, ERR_PEER, "the other side is gone (%s)", strerror(errno));
        w->sent += (size_t)k;
    }
    w->out.n = w->sent = 0;
    return 0;
}

int wire_fill(wire *w, err *e)
{
    char chunk[CHUNK];

    drop_front(&w->in, &w->taken);
    for (;;) {
        ssize_t k = recv(w->fd, chunk, sizeof chunk, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return 0;
        if (k < 0)
            return err_set(e, ERR_PEER, "the other side is gone (%s)", strerror(errno));
        if (k == 0)
            return err_set(e, ERR_PEER, "the other side is gone");
        str_put(&w->in, chunk, (size_t)k);
        if (w->in.n > WIRE_HEAD + WIRE_MOST) /* the rest stays in the kernel: a fast talker cannot fill our memory */
            return 0;
    }
}

int wire_next(wire *w, wire_frame *out, err *e)
{
    size_t used;

    *out = (wire_frame){0};
    if (w->taken == w->in.n)
        return 0;
    if (w->checking.key)
        TRY(next_sealed(w, out, &used, e));
    else
        TRY(wire_decode(w->in.at + w->taken, w->in.n - w->taken, out, &used, e));
    w->taken += used;
    return 0;
}

/* What is left of a timeout, as poll() wants it. */
static int left_ms(double timeout_s, int64_t since)
{
    double left = timeout_s - (double)(clock_ns() - since) * 1e-9;

    if (timeout_s < 0)
        return -1;
    return left <= 0 ? 0 : left > 1e6 ? 1000000000 : (int)(left * 1e3) + 1;
}

int wire_send(wire *w, uint16_t type, const void *body, size_t n, double timeout_s, err *e)
{
    int64_t since = clock_ns();

    wire_post(w, type, body, n);
    for (;;) {
        struct pollfd p = {.fd = w->fd, .events = POLLOUT};
        int wait = left_ms(timeout_s, since);
        TRY(wire_flush(w, e));
        if (wire_waiting(w) == 0)
            return 0;
        if (poll(&p, 1, wait) == 0 && wait == 0)
            return err_set(e, ERR_PEER, "the other side takes nothing for %.1f s", timeout_s);
    }
}

/* The stream may end behind frames that are still to be read: those come first. */
int wire_take(wire *w, wire_frame *out, double timeout_s, err *e)
{
    int64_t since = clock_ns();

    for (;;) {
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        err end = {0};
        int wait = left_ms(timeout_s, since), rc;
        TRY(wire_next(w, out, e));
        if (out->type)
            return 0;
        rc = poll(&p, 1, wait);
        if (rc == 0 && wait >= 0 && left_ms(timeout_s, since) == 0)
            return 0;
        if (rc <= 0)
            continue;
        rc = wire_fill(w, &end);
        TRY(wire_next(w, out, e));
        if (out->type)
            return 0;
        if (rc != 0) {
            if (e)
                *e = end;
            return rc;
        }
    }
}

static char *body_text(json_t *body, size_t *n)
{
    char *text = json_dumps(body, JSON_COMPACT);

    CHECK(text != NULL);
    json_decref(body);
    *n = strlen(text);
    return text;
}

void wire_json(wire *w, uint16_t type, json_t *body)
{
    size_t n;
    char *text = body_text(body, &n);

    wire_post(w, type, text, n);
    free(text);
}

int wire_tell(wire *w, uint16_t type, json_t *body, double timeout_s, err *e)
{
    size_t n;
    char *text = body_text(body, &n);
    int rc = wire_send(w, type, text, n, timeout_s, e);

    free(text);
    return rc;
}

int wire_parse(const wire_frame *f, json_t **out, err *e)
{
    TRY(json_parse(out, f->body, f->n, "message", e));
    if (json_is_object(*out))
        return 0;
    json_decref(*out);
    *out = NULL;
    return err_set(e, ERR_PEER, "a message of type %d that is no JSON object", f->type);
}
