/* master_page.c: serving the dashboard's files. */
#include <stdio.h>
#include <string.h>

#include "api/page.h"
#include "master/master_int.h"

/* What the page may do: run and show what comes from here, talk to here, and nothing else. No inline script or style.
 */
static const char page_policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                                  "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

static struct bytes between(const unsigned char *at, const unsigned char *end)
{
    return bytes_of(at, (size_t)(end - at));
}

static void serve(struct exchange *x, const struct page_file *f)
{
    struct http_request *r = x->r;
    bool packed = page_takes_gzip(http_header(r, "Accept-Encoding"));
    http_add_header(r, "Content-Security-Policy", page_policy);
    http_add_header(r, "Cross-Origin-Opener-Policy", "same-origin");
    http_add_header(r, "Cache-Control", f->named_by_content ? "public, max-age=31536000, immutable" : "no-cache");
    http_add_header(r, "ETag", f->etag);
    http_add_header(r, "Vary", "Accept-Encoding");
    if (page_matches(http_header(r, "If-None-Match"), f->etag)) {
        exchange_reply_now(x, 304, NULL);
        return;
    }
    if (packed)
        http_add_header(r, "Content-Encoding", "gzip");
    struct bytes body = packed ? between(f->gzip, f->gzip_end) : between(f->plain, f->plain_end);
    buf_add(&x->answer, body.data, body.size);
    exchange_reply_now(x, 200, f->type);
}

/* Without the page: what this is, and how to get it. */
static void tell(struct exchange *x)
{
    buf_printf(
        &x->answer,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Rota</title>\n"
        "<h1>Rota " ROTA_VERSION "</h1>\n"
        "<p>This is the master of a Rota cluster, a job scheduler.</p>\n"
        "<p>Its dashboard is not in this program: %s. To get it, install <code>nodejs</code> and <code>npm</code>"
        " and run\n<code>meson configure BUILD -Dweb=enabled &amp;&amp; ninja -C BUILD</code>.</p>\n"
        "<p>The API begins at <code>/v1/</code> and takes the header <code>Authorization: Bearer TOKEN</code>;\n"
        "the first token is in the file <code>token</code> of the master's state directory.</p>\n"
        "<pre>curl -H \"Authorization: Bearer $(cat STATE/token)\" http://HOST:PORT/v1/jobs\nrota ls</pre>\n"
        "<p>Health: <a href=\"/healthz\">/healthz</a>, <a href=\"/readyz\">/readyz</a>.</p>\n</html>\n",
        page_missing);
    exchange_reply_now(x, 200, "text/html; charset=utf-8");
}

void api_index(struct exchange *x)
{
    const struct page_file *f = page_find(bytes_str("/"));
    if (f)
        serve(x, f);
    else
        tell(x);
}

void api_asset(struct exchange *x)
{
    const struct page_file *f = page_find(http_path(x->r));
    if (f) {
        serve(x, f);
        return;
    }
    struct err err;
    err_field(&err, ERR_NOT_FOUND, "path", "reload the page: the program was replaced by another version",
              "the page has no such file");
    exchange_error_now(x, &err);
}
