#ifndef CF_ERR_H
#define CF_ERR_H
/* An error is a small value its caller owns: no allocation, no hidden state. It crosses a
 * journal record or a message as bytes, and the signature says "I can fail".
 *
 * The world's errors (file, shape, device, peer, settings) return; our own mistakes stop the
 * process through CHECK. Text is one line without capital or full stop; it says what is so, and
 * each caller adds only *where*: "step 120: data/cat/3.png: not a PNG, JPEG or WebP". */
typedef enum {
    ERR_NONE,
    ERR_INPUT,  /* what the user gave is wrong: a setting, a picture, a model file */
    ERR_SHAPE,  /* sizes that do not fit each other */
    ERR_IO,     /* disk, file system, descriptor */
    ERR_MEMORY, /* host or device memory */
    ERR_DEVICE, /* an accelerator or its library */
    ERR_PEER    /* another process: gone, late, or speaking nonsense */
} err_code;

typedef struct {
    err_code code;
    char text[508]; /* always terminated; a longer text is cut at the end */
} err;

/* Both return the code, so a function can end in: return err_set(e, ERR_IO, "..."); e may be NULL. */
int err_set(err *e, err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "where: " in front of what is there; the code stays. */
int err_wrap(err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "input", "shape", ...: the word a journal or a JSON line carries. */
const char *err_name(err_code code);

/* Hands a failure up as it is, from a function that owns nothing yet. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        int rc_ = (call);                                                                                    \
        if (rc_ != 0)                                                                                        \
            return rc_;                                                                                      \
    } while (0)

/* Our own mistake: says where and aborts. Never for what a user, a file or a peer can cause. */
#define CHECK(cond) ((cond) ? (void)0 : err_bug(__FILE__, __LINE__, #cond))
_Noreturn void err_bug(const char *file, int line, const char *what);
#endif
