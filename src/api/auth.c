#include "api/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>

#include "base/mem.h"

struct source {
    char address[64];
    uint32_t failures;
    int64_t last_ms;
};

struct auth {
    struct auth_identity identities[AUTH_TOKENS_MAX];
    size_t identities_count;
    struct source sources[AUTH_SOURCES_MAX];
    size_t sources_count;
};

struct auth *auth_new(void)
{
    return mem_zero(1, sizeof(struct auth));
}

void auth_free(struct auth *a)
{
    free(a);
}

int auth_add(struct auth *a, const char *token, const char *user, enum api_role role, struct err *err)
{
    if (strlen(token) < AUTH_TOKEN_BYTES - 1)
        return err_field(err, ERR_INVALID, "token", "remove the token file; a new one is made at start",
                         "the token is shorter than %d characters", AUTH_TOKEN_BYTES - 1);
    if (a->identities_count == AUTH_TOKENS_MAX)
        return err_set(err, ERR_FULL, "there are %u tokens already", AUTH_TOKENS_MAX);
    struct auth_identity *who = &a->identities[a->identities_count++];
    snprintf(who->user, sizeof who->user, "%s", user);
    who->role = role;
    SHA256((const unsigned char *)token, strlen(token), who->digest);
    return 0;
}

const struct auth_identity *auth_find_digest(const struct auth *a, const uint8_t digest[32])
{
    const struct auth_identity *found = NULL;
    for (size_t i = 0; i < a->identities_count; i++)
        if (CRYPTO_memcmp(a->identities[i].digest, digest, sizeof a->identities[i].digest) == 0)
            found = &a->identities[i];
    return found;
}

const struct auth_identity *auth_find(const struct auth *a, struct bytes token)
{
    uint8_t digest[32];
    SHA256((const unsigned char *)token.data, token.size, digest);
    return auth_find_digest(a, digest);
}

int auth_check(const struct auth *a, const char *authorization, const struct auth_identity **who, struct err *err)
{
    static const char scheme[] = "Bearer ";
    const char *remedy =
        "send the header Authorization: Bearer TOKEN; the first one is in the state directory's file token";
    if (!authorization)
        return err_field(err, ERR_UNAUTH, "authorization", remedy, "this needs a token");
    if (strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return err_field(err, ERR_UNAUTH, "authorization", remedy, "only bearer tokens are known here");
    const char *token = authorization + sizeof scheme - 1;
    const struct auth_identity *found = auth_find(a, bytes_str(token));
    if (!found)
        return err_field(err, ERR_UNAUTH, "authorization", remedy, "this token is not known");
    *who = found;
    return 0;
}

static struct source *source_of(struct auth *a, const char *address, int64_t now_ms)
{
    struct source *oldest = &a->sources[0];
    for (size_t i = 0; i < a->sources_count; i++) {
        if (strcmp(a->sources[i].address, address) == 0)
            return &a->sources[i];
        if (a->sources[i].last_ms < oldest->last_ms)
            oldest = &a->sources[i];
    }
    struct source *fresh = a->sources_count < AUTH_SOURCES_MAX ? &a->sources[a->sources_count++] : oldest;
    snprintf(fresh->address, sizeof fresh->address, "%s", address);
    fresh->failures = 0;
    fresh->last_ms = now_ms;
    return fresh;
}

int64_t auth_failed(struct auth *a, const char *source, int64_t now_ms)
{
    struct source *s = source_of(a, source, now_ms);
    if (now_ms - s->last_ms > AUTH_FORGET_MS)
        s->failures = 0;
    s->last_ms = now_ms;
    s->failures++;
    if (s->failures <= AUTH_FREE_FAILURES)
        return 0;
    uint32_t doublings = s->failures - AUTH_FREE_FAILURES - 1;
    int64_t delay_ms = doublings < 16 ? (int64_t)AUTH_DELAY_MIN_MS << doublings : AUTH_DELAY_MAX_MS;
    return delay_ms < AUTH_DELAY_MAX_MS ? delay_ms : AUTH_DELAY_MAX_MS;
}

int auth_token_make(char token[AUTH_TOKEN_BYTES], struct err *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[33] = { 0 };
    if (getrandom(random, 32, 0) != 32)
        return err_errno(err, "random bytes for a token");
    memcpy(token, "rota_", 5);
    size_t at = 5;
    for (int i = 0; i < 33; i += 3) {
        uint32_t bits = (uint32_t)random[i] << 16 | (uint32_t)random[i + 1] << 8 | random[i + 2];
        for (int shift = 18; shift >= 0 && at < AUTH_TOKEN_BYTES - 1; shift -= 6)
            token[at++] = digits[bits >> shift & 63];
    }
    token[at] = 0;
    OPENSSL_cleanse(random, sizeof random);
    return 0;
}
