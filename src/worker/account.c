#include "worker/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

#define ENTRY_BYTES 16384 /* of the account database */

struct accounts {
    uint32_t uid_min;
    struct account *known;
    size_t count, next; /* next: the one that is replaced when all places are taken */
};

struct accounts *accounts_new(uint32_t uid_min)
{
    struct accounts *a = mem_zero(1, sizeof *a);
    a->uid_min = uid_min;
    a->known = mem_zero(ACCOUNTS_MAX, sizeof *a->known);
    return a;
}

static void clear(struct account *account)
{
    free(account->home);
    free(account->shell);
    *account = (struct account){ 0 };
}

void accounts_free(struct accounts *a)
{
    for (size_t i = 0; a && i < a->count; i++)
        clear(&a->known[i]);
    if (a)
        free(a->known);
    free(a);
}

static struct account *known(struct accounts *a, const char *name)
{
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->known[i].name, name) == 0)
            return &a->known[i];
    return NULL;
}

static int find_groups(const struct passwd *entry, struct exec_account *who, struct err *err)
{
    gid_t groups[EXEC_GROUPS_MAX];
    int count = EXEC_GROUPS_MAX;
    if (getgrouplist(entry->pw_name, entry->pw_gid, groups, &count) < 0)
        return err_set(err, ERR_DENIED, "user \"%.64s\" is in more than %d groups", entry->pw_name, EXEC_GROUPS_MAX);
    who->uid = entry->pw_uid;
    who->gid = entry->pw_gid;
    who->groups_count = (uint32_t)count;
    for (int i = 0; i < count; i++)
        who->groups[i] = groups[i];
    return 0;
}

static int look_up(const struct accounts *a, const char *name, struct account *out, struct err *err)
{
    struct passwd entry, *found = NULL;
    autofree char *room = mem_alloc(ENTRY_BYTES);
    int error = getpwnam_r(name, &entry, room, ENTRY_BYTES, &found);
    if (!found && error && error != ENOENT && error != ESRCH) {
        errno = error;
        return err_errno(err, "look up user \"%.64s\"", name);
    }
    if (!found)
        return err_set(err, ERR_DENIED, "user \"%.64s\" has no account on this node", name);
    if (entry.pw_uid < a->uid_min)
        return err_set(err, ERR_DENIED, "jobs do not run as \"%.64s\": user id %u is below %u (run_as_uid_min of the worker)", name,
                       (unsigned)entry.pw_uid, a->uid_min);
    if (find_groups(&entry, &out->who, err) < 0)
        return -(int)err->code;
    snprintf(out->name, sizeof out->name, "%s", name);
    struct stat st;
    bool home = entry.pw_dir[0] == '/' && stat(entry.pw_dir, &st) == 0 && S_ISDIR(st.st_mode);
    out->home = mem_str(home ? entry.pw_dir : "/");
    out->shell = mem_str(entry.pw_shell);
    return 0;
}

const struct account *accounts_find(struct accounts *a, struct bytes user, int64_t now_ms, struct err *err)
{
    char name[65];
    if (user.size == 0 || user.size >= sizeof name || memchr(user.data, 0, user.size)) {
        err_set(err, ERR_DENIED, "the job names no user whom it could run as");
        return NULL;
    }
    memcpy(name, user.data, user.size);
    name[user.size] = 0;
    struct account *account = known(a, name);
    if (account && now_ms - account->found_ms < ACCOUNT_KEEP_MS)
        return account;
    struct account found = { .found_ms = now_ms };
    if (look_up(a, name, &found, err) < 0) {
        if (account)
            account->found_ms = INT64_MIN / 2; /* it is not to be believed any more */
        return NULL;
    }
    if (!account)
        account = a->count < ACCOUNTS_MAX ? &a->known[a->count++] : &a->known[a->next++ % ACCOUNTS_MAX];
    clear(account);
    *account = found;
    return account;
}
