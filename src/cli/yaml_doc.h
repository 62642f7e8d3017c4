/* yaml_doc.h: a YAML document as numbered nodes that know their line and column; for settings and the profile. */
#ifndef ROTA_CLI_YAML_DOC_H
#define ROTA_CLI_YAML_DOC_H

#include <stddef.h>

#include "base/buf.h"

enum yaml_doc_kind { YAML_DOC_TEXT, YAML_DOC_LIST, YAML_DOC_MAP };
struct yaml_doc;
/* NULL when it is not YAML or holds more than one document: the place is added to *faults as "FILE:LINE:COLUMN:
 * text\n". */
struct yaml_doc *yaml_doc_read(const char *file, struct bytes text, struct buf *faults);
void yaml_doc_free(struct yaml_doc *d);
size_t yaml_doc_root(struct yaml_doc *d);                          /* 0: the document is empty */
enum yaml_doc_kind yaml_doc_kind(struct yaml_doc *d, size_t node);
const char *yaml_doc_text(struct yaml_doc *d, size_t node);        /* NULL if it is a list or a map */
size_t yaml_doc_count(struct yaml_doc *d, size_t node);            /* items of a list, pairs of a map; else 0 */
size_t yaml_doc_key(struct yaml_doc *d, size_t node, size_t index);
size_t yaml_doc_item(struct yaml_doc *d, size_t node, size_t index); /* of a list, or the value of a pair */
void yaml_doc_fault(struct yaml_doc *d, size_t node, struct buf *faults, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
