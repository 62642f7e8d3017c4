/* store_vfs.h: a layer under SQLite that gives every page of a database file a checksum.
 *
 * SQLite notices damage of its structures only, and a flipped bit in a row or in an index goes unseen: an idempotency
 * key that is not found any more would be a job submitted twice. So the last 8 bytes of each page, reserved for this in
 * the file's head, hold an XXH3 of the page and of its place; it is made when a page goes to the file and checked
 * whenever one is read. A wrong one is SQLITE_IOERR_DATA, which becomes ERR_CORRUPT. The log has checksums of SQLite's
 * own. Reads and writes are passed on to whatever VFS is the default at that moment. */
#ifndef ROTA_STORE_VFS_H
#define ROTA_STORE_VFS_H

#define STORE_VFS_NAME "rota"
#define STORE_VFS_SUM_BYTES 8

void store_vfs_register(void); /* any number of times, on any thread */

#endif
