#include "bus/bus_key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

/* "DIR/bus.key" + suffix for the socket DIR/whatever. */
static char *key_path(const char *socket_path, const char *suffix)
{
    const char *slash = strrchr(socket_path, '/');
    struct buf path = BUF_INIT;
    buf_add(&path, socket_path, slash ? (size_t)(slash + 1 - socket_path) : 0);
    buf_str(&path, "bus.key");
    buf_str(&path, suffix);
    return buf_take(&path);
}

static int key_read(int fd, const char *path, struct bus_key *out, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, "%s", path);
    if (!S_ISREG(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_field(err, ERR_DENIED, "bus.key", "remove it; the master makes a new one",
                         "%s is not a file of this user", path);
    if (st.st_mode & 077)
        return err_field(err, ERR_DENIED, "bus.key",
                         "chmod 600 it, or remove it if others may have read it: the master makes a new one",
                         "%s may be read by others", path);
    uint8_t bytes[BUS_KEY_BYTES + 1];
    ssize_t got = pread(fd, bytes, sizeof bytes, 0);
    if (got < 0)
        return err_errno(err, "%s", path);
    if (got != BUS_KEY_BYTES)
        return err_field(err, ERR_CORRUPT, "bus.key", "remove it; the master makes a new one",
                         "%s does not hold a key of %u bytes", path, BUS_KEY_BYTES);
    memcpy(out->bytes, bytes, BUS_KEY_BYTES);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return 0;
}

static int key_open(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no %s", path) : err_errno(err, "%s", path);
}

int bus_key_load(const char *socket_path, struct bus_key *out, struct err *err)
{
    autofree char *path = key_path(socket_path, "");
    autoclose int fd = key_open(path, err);
    return fd < 0 ? fd : key_read(fd, path, out, err);
}

static int random_fill(void *out, size_t size, struct err *err)
{
    for (size_t have = 0; have < size;) {
        ssize_t got = getrandom((char *)out + have, size - have, 0);
        if (got < 0 && errno != EINTR)
            return err_errno(err, "random numbers");
        have += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

/* The key appears under its name whole, and never replaces one that is there. */
static int key_create(const char *path, const char *draft, struct err *err)
{
    uint8_t bytes[BUS_KEY_BYTES];
    int rc = random_fill(bytes, sizeof bytes, err);
    if (rc < 0)
        return rc;
    autoclose int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "%s", draft);
    if (write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes || fsync(fd) < 0 ||
        (link(draft, path) < 0 && errno != EEXIST))
        rc = err_errno(err, "%s", path);
    OPENSSL_cleanse(bytes, sizeof bytes);
    unlink(draft);
    return rc;
}

int bus_key_ensure(const char *socket_path, struct bus_key *out, int *fd, struct err *err)
{
    autofree char *path = key_path(socket_path, "");
    char suffix[32];
    snprintf(suffix, sizeof suffix, ".new.%ld", (long)getpid());
    autofree char *draft = key_path(socket_path, suffix);
    struct err why = { 0 };
    int opened = key_open(path, &why);
    if (opened == -ERR_NOT_FOUND) {
        unlink(draft); /* Of a process that died with our number. */
        int rc = key_create(path, draft, err);
        if (rc < 0)
            return rc;
        opened = key_open(path, &why);
    }
    if (opened < 0) {
        if (err)
            *err = why;
        return opened;
    }
    int rc = key_read(opened, path, out, err);
    if (rc < 0)
        close(opened);
    else
        *fd = opened;
    return rc;
}

void bus_hello_init(struct bus_hello *out, enum bus_role role, const uint8_t cluster[16], const char *name)
{
    *out = (struct bus_hello){ .magic = { 'R', 'O', 'T', 'A' }, .version = BUS_HELLO_VERSION, .role = (uint8_t)role };
    memcpy(out->cluster, cluster, sizeof out->cluster);
    check(random_fill(out->challenge, sizeof out->challenge, NULL) == 0);
    snprintf(out->name, sizeof out->name, "%s", name ? name : "");
}

const char *bus_hello_wrong(const struct bus_hello *ours, const struct bus_hello *theirs)
{
    static const uint8_t unknown[sizeof ours->cluster];
    if (memcmp(theirs->magic, ours->magic, sizeof ours->magic) != 0)
        return "it does not speak rota's bus protocol";
    if (theirs->version != ours->version)
        return "it speaks another version of the bus protocol";
    if (theirs->role == ours->role)
        return ours->role == BUS_ROLE_MASTER ? "it is a master too" : "it is a worker too";
    if (memcmp(ours->cluster, theirs->cluster, sizeof unknown) != 0 &&
        memcmp(ours->cluster, unknown, sizeof unknown) != 0 && memcmp(theirs->cluster, unknown, sizeof unknown) != 0)
        return "it belongs to another cluster";
    return NULL;
}

void bus_prove(const struct bus_key *key, enum bus_role prover, const struct bus_hello *master,
               const struct bus_hello *worker, uint8_t out[BUS_PROOF_BYTES])
{
    struct {
        char label[16];
        struct bus_hello master, worker;
    } said = { "", *master, *worker };
    memcpy(said.label, prover == BUS_ROLE_MASTER ? "rota bus: master" : "rota bus: worker", sizeof said.label);
    unsigned size = BUS_PROOF_BYTES;
    check(HMAC(EVP_sha256(), key->bytes, BUS_KEY_BYTES, (const unsigned char *)&said, sizeof said, out, &size));
    check(size == BUS_PROOF_BYTES);
}

bool bus_proof_holds(const struct bus_key *key, enum bus_role prover, const struct bus_hello *master,
                     const struct bus_hello *worker, const void *proof)
{
    uint8_t expected[BUS_PROOF_BYTES];
    bus_prove(key, prover, master, worker, expected);
    return CRYPTO_memcmp(expected, proof, sizeof expected) == 0;
}
