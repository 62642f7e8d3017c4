/* session.h: who is signed in by a browser. Pure, but for the random bytes of a new session.
 *
 * A session is 256 random bits in a cookie; only their SHA-256 is kept, with the digest of the token that was given for
 * it. It ends when it was not used for SESSION_IDLE_MS, when it is closed, and with its token. A ticket is what a
 * person who holds a token hands to a browser instead of it: it signs in once, within TICKET_MS, and so may stand in an
 * address. The table is bounded: the session that was idle longest gives way. */
#ifndef ROTA_API_SESSION_H
#define ROTA_API_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define SESSION_TEXT_BYTES 44 /* 43 characters of base64url + final zero */
#define SESSIONS_MAX 1024u
#define SESSION_IDLE_MS (8 * 3600 * 1000LL)
#define TICKETS_MAX 64u
#define TICKET_MS (10 * 60 * 1000LL)
#define TOKEN_DIGEST_BYTES 32

struct sessions;
struct sessions *sessions_new(void);
void sessions_free(struct sessions *s);

/* A new session for the token; its text goes into the cookie. ERR_IO if the kernel gives no random bytes. */
int session_open(struct sessions *s, const uint8_t token[TOKEN_DIGEST_BYTES], int64_t wall_ms,
                 char text[SESSION_TEXT_BYTES], struct err *err);
/* True: the session is open, `token` is what it was opened with, and it was used now. */
bool session_check(struct sessions *s, struct bytes text, int64_t wall_ms, uint8_t token[TOKEN_DIGEST_BYTES]);
/* The same without counting as use. */
bool session_alive(const struct sessions *s, struct bytes text, int64_t wall_ms);
void session_close(struct sessions *s, struct bytes text);

int ticket_make(struct sessions *s, const uint8_t token[TOKEN_DIGEST_BYTES], int64_t wall_ms,
                char text[SESSION_TEXT_BYTES], struct err *err);
/* True once: then the ticket is used up. */
bool ticket_use(struct sessions *s, struct bytes text, int64_t wall_ms, uint8_t token[TOKEN_DIGEST_BYTES]);

/* The value of one cookie of a Cookie header (may be NULL); size 0: it is not there. Borrowed from the header. */
struct bytes cookie_find(const char *header, const char *name);

/* Sessions outlive the process: as lines of text. What cannot be read is left out; tickets are not kept. */
void sessions_write(const struct sessions *s, struct buf *out);
void sessions_read(struct sessions *s, struct bytes text);
/* Counts what is worth writing: sessions that were opened and closed, and minutes in which one was used. */
uint64_t sessions_changes(const struct sessions *s);

#endif
