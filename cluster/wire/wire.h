#ifndef CF_WIRE_H
#define CF_WIRE_H
/* Frames between the processes of a farm: agent and worker over a socketpair, agent and coordinator over TCP.
 *
 * A frame is a head of 16 bytes, little endian, and a body:
 *      0  "cfw"              magic
 *      3  u8   version       WIRE_VERSION, or WIRE_SEALED on a sealed connection; another one is refused
 *      4  u16  type          what the body is; 0 is never sent
 *      6  u16  zero
 *      8  u32  length        of the body; at most WIRE_MOST
 *     12  u32  crc           CRC-32 of the head's first 12 bytes and the body
 * On a sealed connection 32 bytes follow the body: HMAC-SHA256 over the frame's number in its direction (u64, from 0),
 * head and body, under a key of this direction of this connection. What was altered, left out, repeated, turned round or
 * said by one who does not know the secret ends the connection.
 *
 * Promise: whatever bytes come, decoding ends in a frame, in "more is needed", or in ERR_PEER; it never reads past what
 * it was given and never allocates what a head merely claims. After ERR_PEER a connection is useless: close it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/json.h"
#include "cluster/base/str.h"

enum { WIRE_VERSION = 1, WIRE_SEALED = 2, WIRE_HEAD = 16, WIRE_MOST = 16 << 20, WIRE_NONCE = 33 };

typedef struct {
    uint16_t type;     /* 0: no frame */
    const char *body;  /* borrowed from the bytes decoded */
    size_t n;
} wire_frame;

/* Pure. Appends one frame; type > 0 and n <= WIRE_MOST are the caller's duty. */
void wire_encode(str *to, uint16_t type, const void *body, size_t n);
/* Pure. The frame at the start of bytes; *used is its whole length, or 0 (and out->type 0) while bytes are missing. */
int wire_decode(const void *bytes, size_t n, wire_frame *out, size_t *used, err *e);

/* One connection with its two buffers. The socket is made non-blocking; close-on-exec is the opener's affair. */
typedef struct wire wire;
wire *wire_new(int fd);      /* takes the socket */
void wire_free(wire *w);     /* closes it */
int wire_fd(const wire *w);

/* Each side makes a nonce (hexadecimal), the two are exchanged in clear, then both seal: every further frame, in either
 * direction, is a sealed one. The secret itself is never sent. ERR_PEER: the other's nonce is none, or is ours. */
int wire_nonce(char out[WIRE_NONCE], err *e);
int wire_seal(wire *w, const char *secret, const char *mine, const char *theirs, err *e);

/* For one who may wait. timeout_s < 0: without end. */
int wire_send(wire *w, uint16_t type, const void *body, size_t n, double timeout_s, err *e);
/* The next frame; out->type 0 when none came in time (timeout_s 0: only look). ERR_PEER "the other side is gone" at the
 * end of the stream. The body is valid until the next call on w. */
int wire_take(wire *w, wire_frame *out, double timeout_s, err *e);

/* For an event loop: nothing here waits. */
void wire_post(wire *w, uint16_t type, const void *body, size_t n); /* kept until wire_flush sends it */
int wire_flush(wire *w, err *e);                                    /* sends what the socket takes now */
size_t wire_waiting(const wire *w);                                 /* bytes posted and not yet sent */
int wire_fill(wire *w, err *e);                                     /* reads what is there now */
int wire_next(wire *w, wire_frame *out, err *e);                    /* of what was read; type 0: none whole yet */

/* JSON bodies. Both take the reference: wire_json posts, wire_tell sends and waits. wire_parse gives a new one. */
void wire_json(wire *w, uint16_t type, json_t *body);
int wire_tell(wire *w, uint16_t type, json_t *body, double timeout_s, err *e);
int wire_parse(const wire_frame *f, json_t **out, err *e);
#endif
