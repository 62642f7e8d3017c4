/* page.h: the dashboard's files, which the build puts into the program (tools/build-web). Each is there as it is and
 * compressed, so that nothing is compressed while it is served. */
#ifndef ROTA_API_PAGE_H
#define ROTA_API_PAGE_H

#include <stdbool.h>

#include "base/buf.h"

struct page_file {
    const char *path;      /* "/", "/assets/index-1a2b3c.js" */
    const char *type;      /* media type */
    const char *etag;      /* quoted; of the plain bytes */
    bool named_by_content; /* another content would have another name: it may be kept for ever */
    const unsigned char *plain, *plain_end, *gzip, *gzip_end;
};

/* Made by the build; ends with path NULL. Empty when it was built without the page. */
extern const struct page_file page_files[];
extern const char page_missing[]; /* then: why, and how to get it */

const struct page_file *page_find(struct bytes path); /* NULL: there is none */
/* The value of an Accept-Encoding header (NULL: absent) allows gzip. */
bool page_takes_gzip(const char *accept);
/* The value of an If-None-Match header (NULL: absent) names this etag. */
bool page_matches(const char *if_none_match, const char *etag);

#endif
