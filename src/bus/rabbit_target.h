/* rabbit_target.h: where the broker is and how to sign in there.
 *
 *   amqp[s]://[USER@]HOST[:PORT][,HOST[:PORT]...][/VHOST][?password_file=F&cacert=F&cert=F&key=F&heartbeat=S]
 *
 * USER, VHOST and values may hold %XX. Several hosts are nodes of one broker cluster, tried in turn. A password never
 * stands in the URL, which everybody can read in the list of processes: it comes from password_file or from the
 * environment (ROTA_AMQP_PASSWORD); user guest has the broker's default. */
#ifndef ROTA_RABBIT_TARGET_H
#define ROTA_RABBIT_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define RABBIT_HOSTS_MAX 8u
#define RABBIT_PASSWORD_BYTES 256u
#define RABBIT_HEARTBEAT_S 10

struct rabbit_host {
    char name[256];
    uint16_t port;
};

struct rabbit_target {
    bool tls;
    struct rabbit_host hosts[RABBIT_HOSTS_MAX];
    unsigned hosts_count;
    char user[128], vhost[256];
    char password_file[1024], cacert[1024], cert[1024], key[1024]; /* paths; "": not given */
    int heartbeat_s;                                               /* 1 .. 300 */
};

/* `place` is what stands after "amqp://" or "amqps://". ERR_INVALID names what is wrong and never repeats a password.
 */
int rabbit_target_parse(bool tls, const char *place, struct rabbit_target *out, struct err *err);
/* Reads it anew, so that a mended file is enough. ERR_DENIED: others may read the file, or there is no password. */
int rabbit_target_password(const struct rabbit_target *t, char out[RABBIT_PASSWORD_BYTES], struct err *err);

#endif
