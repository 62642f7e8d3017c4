#include "cli/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/yaml_doc.h"

static char *joined(const char *a, const char *b)
{
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s%s%s", a, *a && a[strlen(a) - 1] == '/' ? "" : "/", b);
    return buf_take(&path);
}

static char *below_home(const char *variable, const char *fallback, const char *name)
{
    const char *base = getenv(variable);
    if (base && *base == '/') /* the XDG rules: a relative path is to be ignored */
        return joined(base, name);
    const char *home = getenv("HOME");
    autofree char *dir = joined(home && *home ? home : "/", fallback);
    return joined(dir, name);
}

char *profile_path(void)
{
    const char *path = getenv("ROTA_PROFILE");
    return path && *path ? mem_str(path) : below_home("XDG_CONFIG_HOME", ".config", "rota/client.yaml");
}

char *state_dir_default(void)
{
    const char *base = getenv("XDG_STATE_HOME");
    if (geteuid() == 0 && !(base && *base == '/'))
        return mem_str("/var/lib/rota");
    return below_home("XDG_STATE_HOME", ".local/state", "rota");
}

char *path_absolute(const char *path)
{
    if (*path == '/')
        return mem_str(path);
    autofree char *here = getcwd(NULL, 0);
    return joined(here ? here : "/", path);
}

int dir_make(const char *path, struct err *err)
{
    autofree char *copy = mem_str(path);
    for (char *slash = copy + 1; *slash; slash++) {
        if (*slash != '/')
            continue;
        *slash = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
            return err_errno(err, "make the directory %s", copy);
        *slash = '/';
    }
    if (mkdir(copy, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make the directory %s", copy);
    struct stat st;
    if (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_field(err, ERR_INVALID, NULL, "name another one", "%s is not a directory", copy);
    return 0;
}

static int write_whole(int fd, struct bytes text)
{
    while (text.size) {
        ssize_t wrote = write(fd, text.data, text.size);
        if (wrote < 0 && errno != EINTR)
            return -1;
        if (wrote > 0) {
            text.data += wrote;
            text.size -= (size_t)wrote;
        }
    }
    return 0;
}

int file_replace(const char *path, unsigned mode, struct bytes text, struct err *err)
{
    autofree char *dir = mem_str(path);
    char *slash = strrchr(dir, '/');
    if (slash && slash != dir) {
        *slash = '\0';
        int rc = dir_make(dir, err);
        if (rc < 0)
            return rc;
    }
    struct buf name = BUF_INIT;
    buf_printf(&name, "%s.new.XXXXXX", path);
    autofree char *fresh = buf_take(&name);
    autoclose int fd = mkostemp(fresh, O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "write %s", path);
    if (fchmod(fd, mode) < 0 || write_whole(fd, text) < 0 || fsync(fd) < 0 || rename(fresh, path) < 0) {
        int rc = err_errno(err, "write %s", path);
        unlink(fresh);
        return rc;
    }
    autoclose int parent = open(slash ? (slash == dir ? "/" : dir) : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent >= 0)
        fsync(parent);
    return 0;
}

int file_read(const char *path, size_t max, struct buf *out, struct err *err)
{
    bool input = strcmp(path, "-") == 0;
    autoclose int opened = input ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int fd = input ? STDIN_FILENO : opened;
    if (fd < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no file %s", path)
                               : err_errno(err, "read %s", path);
    for (;;) {
        buf_reserve(out, 65536);
        ssize_t got = read(fd, out->data + out->size, 65535);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "read %s", input ? "standard input" : path);
        out->size += (size_t)got;
        out->data[out->size] = '\0';
        if (got == 0)
            return 0;
        if (out->size > max)
            return err_set(err, ERR_TOO_LARGE, "%s is larger than %zu bytes", input ? "standard input" : path, max);
    }
}

int secret_read(const char *path, struct buf *out, struct err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07)) {
        char remedy[192];
        snprintf(remedy, sizeof remedy, "chmod 600 %s", path);
        return err_field(err, ERR_DENIED, NULL, remedy, "everybody may read or write the secret in %s", path);
    }
    int rc = file_read(path, 4096, out, err);
    if (rc < 0)
        return rc;
    while (out->size && strchr(" \t\r\n", out->data[out->size - 1]))
        out->data[--out->size] = '\0';
    if (out->size == 0 || strcspn(out->data, "\r\n") != out->size)
        return err_set(err, ERR_INVALID, "%s does not hold one secret on one line", path);
    return 0;
}

int profile_read(struct profile *out, struct err *err)
{
    *out = (struct profile){ 0 };
    autofree char *path = profile_path();
    autobuf struct buf text = BUF_INIT, faults = BUF_INIT;
    struct err why;
    int rc = file_read(path, 65536, &text, &why);
    if (rc == -ERR_NOT_FOUND)
        return 0;
    if (rc < 0) {
        if (err)
            *err = why;
        return rc;
    }
    struct yaml_doc *doc = yaml_doc_read(path, buf_bytes(&text), &faults);
    size_t root = doc ? yaml_doc_root(doc) : 0;
    if (doc && root && yaml_doc_kind(doc, root) != YAML_DOC_MAP)
        yaml_doc_fault(doc, root, &faults, "the profile is a map of url and token_file");
    for (size_t i = 0; doc && faults.size == 0 && i < yaml_doc_count(doc, root); i++) {
        size_t key = yaml_doc_key(doc, root, i), value = yaml_doc_item(doc, root, i);
        const char *name = yaml_doc_text(doc, key), *to = yaml_doc_text(doc, value);
        char **place = !name                             ? NULL
                       : strcmp(name, "url") == 0        ? &out->url
                       : strcmp(name, "token_file") == 0 ? &out->token_file
                                                         : NULL;
        if (!place)
            yaml_doc_fault(doc, key, &faults, "unknown key; a profile has url and token_file");
        else if (!to || *place)
            yaml_doc_fault(doc, value, &faults, to ? "given twice" : "write one text");
        else
            *place = mem_str(to);
    }
    yaml_doc_free(doc);
    if (faults.size == 0)
        return 0;
    profile_fini(out);
    faults.data[strcspn(faults.data, "\n")] = '\0';
    return err_field(err, ERR_INVALID, NULL, "rota login URL writes a new one", "%s", faults.data);
}

static void quoted(struct buf *out, const char *text)
{
    buf_char(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_char(out, '\\');
        if ((unsigned char)*text < 0x20)
            buf_printf(out, "\\x%02x", (unsigned char)*text);
        else
            buf_char(out, *text);
    }
    buf_char(out, '"');
}

int profile_write(const char *url, const char *token_file, struct err *err)
{
    autofree char *path = profile_path();
    autobuf struct buf text = BUF_INIT;
    buf_str(&text, "# Written by rota up and rota login: where the master is.\nurl: ");
    quoted(&text, url);
    if (token_file) {
        buf_str(&text, "\ntoken_file: ");
        quoted(&text, token_file);
    }
    buf_char(&text, '\n');
    return file_replace(path, 0600, buf_bytes(&text), err);
}

void profile_fini(struct profile *p)
{
    free(p->url);
    free(p->token_file);
    *p = (struct profile){ 0 };
}
