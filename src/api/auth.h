/* auth.h: who is calling: bearer tokens, and a brake on those who guess. Pure, but for auth_token_make.
 *
 * A token is "rota_" and 256 random bits as base64url. Only its SHA-256 is kept; the comparison takes the same time
 * wherever two differ. An answer to a wrong token is delayed per source: nothing at first, then doubling up to
 * AUTH_DELAY_MAX_MS. A right token is never delayed, so guessing from an address does not lock out others who share it.
 * */
#ifndef ROTA_API_AUTH_H
#define ROTA_API_AUTH_H

#include <stdint.h>

#include "api/route.h"

#define AUTH_TOKEN_BYTES 49      /* "rota_" + 43 characters + final zero */
#define AUTH_TOKENS_MAX 1024u
#define AUTH_SOURCES_MAX 1024u   /* addresses remembered; the one that has been quiet longest is forgotten first */
#define AUTH_FREE_FAILURES 3u
#define AUTH_DELAY_MIN_MS 100
#define AUTH_DELAY_MAX_MS 3000
#define AUTH_FORGET_MS 60000     /* a source that was quiet this long starts anew */

struct auth_identity {
    char user[65];
    enum api_role role;
    uint8_t digest[32];          /* of the token */
};

struct auth;
struct auth *auth_new(void);
void auth_free(struct auth *a);
/* ERR_INVALID: the token is too short to be safe; ERR_FULL. */
int auth_add(struct auth *a, const char *token, const char *user, enum api_role role, struct err *err);
/* Value of the Authorization header (may be NULL) -> who it is. ERR_UNAUTH. The identity lives as long as `a`. */
int auth_check(const struct auth *a, const char *authorization, const struct auth_identity **who, struct err *err);
/* The same for the bare token, and for its SHA-256; NULL: it is not known. */
const struct auth_identity *auth_find(const struct auth *a, struct bytes token);
const struct auth_identity *auth_find_digest(const struct auth *a, const uint8_t digest[32]);
/* A wrong token came from `source`: how long to wait before saying so. */
int64_t auth_failed(struct auth *a, const char *source, int64_t now_ms);
/* A new random token. ERR_IO if the kernel gives no random bytes. */
int auth_token_make(char token[AUTH_TOKEN_BYTES], struct err *err);

#endif
