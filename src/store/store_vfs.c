#include "store/store_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_sqlite_int.h"

struct vfs_file {
    sqlite3_file base;
    sqlite3_file *real;
    bool pages;            /* a main database: its pages have sums */
};

static sqlite3_vfs *real_vfs(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    check(vfs && strcmp(vfs->zName, STORE_VFS_NAME) != 0);
    return vfs;
}

static sqlite3_file *real_file(sqlite3_file *file)
{
    return ((struct vfs_file *)file)->real;
}

/* --- the sums --- */

static bool whole_page(const struct vfs_file *f, int size, sqlite3_int64 at)
{
    return f->pages && size == STORE_PAGE_BYTES && at % STORE_PAGE_BYTES == 0;
}

static uint64_t page_sum(const uint8_t *page, sqlite3_int64 at)
{
    return XXH3_64bits_withSeed(page, STORE_PAGE_BYTES - STORE_VFS_SUM_BYTES, (uint64_t)at + 1);
}

static bool page_ok(const uint8_t *page, sqlite3_int64 at)
{
    uint64_t sum;
    memcpy(&sum, page + STORE_PAGE_BYTES - STORE_VFS_SUM_BYTES, sizeof sum);
    if (sum == page_sum(page, at))
        return true;
    /* A free page that never reached the file is a hole of zeros; as anything but a free page it has no valid
     * structure. */
    for (size_t i = 0; i < STORE_PAGE_BYTES; i++)
        if (page[i])
            return false;
    return true;
}

static int vfs_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at)
{
    struct vfs_file *f = (struct vfs_file *)file;
    int rc = f->real->pMethods->xRead(f->real, data, size, at);
    /* A page that is cut off by the end of the file comes filled up with zeros. */
    if ((rc == SQLITE_OK || rc == SQLITE_IOERR_SHORT_READ) && whole_page(f, size, at) && !page_ok(data, at)) {
        sqlite3_log(SQLITE_IOERR_DATA, "page %lld has a wrong checksum", at / STORE_PAGE_BYTES + 1);
        return SQLITE_IOERR_DATA;
    }
    return rc;
}

static int vfs_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at)
{
    struct vfs_file *f = (struct vfs_file *)file;
    uint8_t page[STORE_PAGE_BYTES];
    if (whole_page(f, size, at)) {
        memcpy(page, data, STORE_PAGE_BYTES - STORE_VFS_SUM_BYTES);
        uint64_t sum = page_sum(page, at);
        memcpy(page + STORE_PAGE_BYTES - STORE_VFS_SUM_BYTES, &sum, sizeof sum);
        data = page;
    }
    return f->real->pMethods->xWrite(f->real, data, size, at);
}

/* --- passing on --- */

static int vfs_close(sqlite3_file *file)
{
    struct vfs_file *f = (struct vfs_file *)file;
    int rc = f->real->pMethods ? f->real->pMethods->xClose(f->real) : SQLITE_OK;
    free(f->real);
    f->real = NULL;
    return rc;
}

#define PASS(name, params, ...)                                                                                        \
    static int vfs_##name params { return real_file(file)->pMethods->name(real_file(file), ##__VA_ARGS__); }
PASS(xTruncate, (sqlite3_file * file, sqlite3_int64 size), size)
PASS(xSync, (sqlite3_file * file, int flags), flags)
PASS(xFileSize, (sqlite3_file * file, sqlite3_int64 *size), size)
PASS(xLock, (sqlite3_file * file, int lock), lock)
PASS(xUnlock, (sqlite3_file * file, int lock), lock)
PASS(xCheckReservedLock, (sqlite3_file * file, int *out), out)
PASS(xFileControl, (sqlite3_file * file, int op, void *arg), op, arg)
PASS(xSectorSize, (sqlite3_file * file))
PASS(xDeviceCharacteristics, (sqlite3_file * file))
PASS(xShmLock, (sqlite3_file * file, int offset, int count, int flags), offset, count, flags)
PASS(xShmUnmap, (sqlite3_file * file, int delete_flag), delete_flag)
#undef PASS

/* The index of the log grows by a block per 4096 frames, after the commit record is on disk: a disk that is full just
 * then would leave the outcome unknown. So the first blocks are taken together, when the log is opened. */
#define SHM_BLOCKS 4

static int vfs_shm_map(sqlite3_file *file, int block, int size, int extend, void volatile **out)
{
    sqlite3_file *real = real_file(file);
    int rc = SQLITE_OK;
    if (block == 0 && extend)
        rc = real->pMethods->xShmMap(real, SHM_BLOCKS - 1, size, extend, out);
    return rc == SQLITE_OK ? real->pMethods->xShmMap(real, block, size, extend, out) : rc;
}

static void vfs_shm_barrier(sqlite3_file *file)
{
    real_file(file)->pMethods->xShmBarrier(real_file(file));
}

/* Version 2: no memory mapping, so every page passes through vfs_read. */
static const sqlite3_io_methods methods = {
    .iVersion = 2, .xClose = vfs_close, .xRead = vfs_read, .xWrite = vfs_write, .xTruncate = vfs_xTruncate,
    .xSync = vfs_xSync, .xFileSize = vfs_xFileSize, .xLock = vfs_xLock, .xUnlock = vfs_xUnlock,
    .xCheckReservedLock = vfs_xCheckReservedLock, .xFileControl = vfs_xFileControl,
    .xSectorSize = vfs_xSectorSize, .xDeviceCharacteristics = vfs_xDeviceCharacteristics, .xShmMap = vfs_shm_map,
    .xShmLock = vfs_xShmLock, .xShmBarrier = vfs_shm_barrier, .xShmUnmap = vfs_xShmUnmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    struct vfs_file *f = (struct vfs_file *)file;
    sqlite3_vfs *real = real_vfs();
    *f = (struct vfs_file){ .pages = (flags & SQLITE_OPEN_MAIN_DB) != 0 };
    f->real = mem_zero(1, (size_t)real->szOsFile);
    int rc = real->xOpen(real, name, f->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        vfs_close(file);
        return rc; /* Without methods SQLite does not close the file again. */
    }
    f->base.pMethods = &methods;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    return real_vfs()->xDelete(real_vfs(), name, sync);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    return real_vfs()->xAccess(real_vfs(), name, flags, out);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
    (void)vfs;
    return real_vfs()->xFullPathname(real_vfs(), name, size, out);
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *out)
{
    (void)vfs;
    return real_vfs()->xRandomness(real_vfs(), size, out);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return real_vfs()->xSleep(real_vfs(), us);
}

static int vfs_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    return real_vfs()->xCurrentTime(real_vfs(), out);
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *out)
{
    (void)vfs;
    return real_vfs()->xGetLastError(real_vfs(), size, out);
}

static sqlite3_vfs store_vfs = {
    .iVersion = 1, .szOsFile = sizeof(struct vfs_file), .mxPathname = 4096, .zName = STORE_VFS_NAME, .xOpen = vfs_open,
    .xDelete = vfs_delete, .xAccess = vfs_access, .xFullPathname = vfs_full_path, .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep, .xCurrentTime = vfs_time, .xGetLastError = vfs_last_error,
};

static void register_once(void)
{
    /* Counting every allocation takes a lock per allocation. Refused, harmlessly, if SQLite is in use already. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    check(sqlite3_initialize() == SQLITE_OK);
    check(sqlite3_vfs_register(&store_vfs, 0) == SQLITE_OK);
}

void store_vfs_register(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_once);
}
