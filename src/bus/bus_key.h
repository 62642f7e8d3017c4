/* bus_key.h: the secret that both ends of a unix socket know, and how each proves that it does.
 *
 * The key is 32 random bytes in `bus.key` beside the socket, readable by its owner alone. Master and worker each send a
 * challenge of 32 random bytes and prove the key by HMAC-SHA256 over both hellos, each under a label of its own, so
 * that neither proof can be had from the other and none is of use in another conversation. */
#ifndef ROTA_BUS_KEY_H
#define ROTA_BUS_KEY_H

#include "base/err.h"
#include "bus/bus.h"

#define BUS_KEY_BYTES 32u
#define BUS_PROOF_BYTES 32u
#define BUS_NAME_BYTES 64u
#define BUS_HELLO_VERSION 1u

struct bus_key {
    uint8_t bytes[BUS_KEY_BYTES];
};

/* What each end says first. Bytes only: the layout is the format. */
struct bus_hello {
    uint8_t magic[4]; /* "ROTA" */
    uint8_t version;
    uint8_t role; /* enum bus_role */
    uint8_t zero[2];
    uint8_t cluster[16]; /* zero: not known yet */
    uint8_t challenge[32];
    char name[BUS_NAME_BYTES]; /* for people; ends in zero */
};
_Static_assert(sizeof(struct bus_hello) == 120, "no padding");

/* Reads the key beside the socket at `socket_path`. Refuses a file that others may read, or that belongs to somebody
 * else. ERR_NOT_FOUND when there is none. */
int bus_key_load(const char *socket_path, struct bus_key *out, struct err *err);
/* The same; makes one when there is none. *fd is the open file: lock it to be alone among masters. */
int bus_key_ensure(const char *socket_path, struct bus_key *out, int *fd, struct err *err);

/* Fills in a hello with a fresh challenge. */
void bus_hello_init(struct bus_hello *out, enum bus_role role, const uint8_t cluster[16], const char *name);
/* NULL, or what is wrong with the other end's hello. */
const char *bus_hello_wrong(const struct bus_hello *ours, const struct bus_hello *theirs);
void bus_prove(const struct bus_key *key, enum bus_role prover, const struct bus_hello *master,
               const struct bus_hello *worker, uint8_t out[BUS_PROOF_BYTES]);
bool bus_proof_holds(const struct bus_key *key, enum bus_role prover, const struct bus_hello *master,
                     const struct bus_hello *worker, const void *proof);

#endif
