/* account.h: the account of this machine that a job runs as, found by the name of the user who submitted it.
 *
 * The name is not the client's word: the API takes it from the token of the request, and only an admin may name somebody
 * else. What is found is kept for ACCOUNT_KEEP_MS, as looking it up may ask a directory on the network. */
#ifndef ROTA_WORKER_ACCOUNT_H
#define ROTA_WORKER_ACCOUNT_H

#include "base/buf.h"
#include "base/err.h"
#include "exec/exec.h"

#define ACCOUNT_KEEP_MS 60000
#define ACCOUNTS_MAX 256u

struct account {
    char name[65];
    struct exec_account who;
    char *home, *shell; /* home: / where there is none */
    int64_t found_ms;
};

struct accounts;
struct accounts *accounts_new(uint32_t uid_min); /* no account with a lower user id is taken; root only with 0 */
void accounts_free(struct accounts *a);
/* NULL with *err: nobody is called that here, or jobs do not run as that. Borrowed until the next call. */
const struct account *accounts_find(struct accounts *a, struct bytes user, int64_t now_ms, struct err *err);

#endif
