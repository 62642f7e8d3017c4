/* profile.h: where things are on this machine: the client's profile, the default state directory, small files written
 * safely. */
#ifndef ROTA_CLI_PROFILE_H
#define ROTA_CLI_PROFILE_H

#include "base/buf.h"
#include "base/err.h"

struct profile {
    char *url;         /* NULL: none */
    char *token_file;  /* NULL: none */
};
/* ROTA_PROFILE, else $XDG_CONFIG_HOME/rota/client.yaml, else ~/.config/rota/client.yaml. Yours to free. */
char *profile_path(void);
/* A missing file is an empty profile. Unknown keys are refused with their place. */
int profile_read(struct profile *out, struct err *err);
/* Replaces the file as a whole (0600); its directory is made. */
int profile_write(const char *url, const char *token_file, struct err *err);
void profile_fini(struct profile *p);

char *state_dir_default(void);                       /* $XDG_STATE_HOME/rota, as root /var/lib/rota. Yours to free. */
int dir_make(const char *path, struct err *err);     /* with its parents, 0700 */
/* Writes a new file beside it, syncs, and renames: readers see the old or the new one, whole. */
int file_replace(const char *path, unsigned mode, struct bytes text, struct err *err);
/* The whole file, at most `max` bytes (more: ERR_TOO_LARGE); "-" reads standard input. */
int file_read(const char *path, size_t max, struct buf *out, struct err *err);
/* A secret: refused when others may read it. Blanks and new lines at its end are dropped. */
int secret_read(const char *path, struct buf *out, struct err *err);
char *path_absolute(const char *path);               /* yours to free */

#endif
